<?php

declare(strict_types=1);

// php-lock/lock (malkusch) with PHPRedisMutex and one server; lock() and unlock() are what its synchronized() calls.
// It has no fence, no queue, no wake-up (a waiter polls, 10 ms backing off to 500 ms), no renewal.

namespace Bench;

use malkusch\lock\mutex\PHPRedisMutex;

require_once __DIR__ . '/../connect.php';
require_once 'Malkusch/Lock/autoload.php';

return function (string $server, string $name): Contestant {
    return new class ([connect($server)], $name, 10) extends PHPRedisMutex implements Contestant {
        public function lock(): void
        {
            parent::lock();
        }

        public function unlock(): void
        {
            parent::unlock();
        }
    };
};
