<?php

declare(strict_types=1);

// symfony/lock with its RedisStore over phpredis. One Lock object is used again and again, the cheapest way it has.
// It has no fence, no queue, no wake-up (a waiter polls every 90 to 110 ms), no renewal.

namespace Bench;

use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\LockInterface;
use Symfony\Component\Lock\Store\RedisStore;

require_once __DIR__ . '/../connect.php';
require_once 'Symfony/Component/Lock/autoload.php';

return function (string $server, string $name): Contestant {
    $lock = (new LockFactory(new RedisStore(connect($server))))->createLock($name, 10.0, false);

    return new class ($lock) implements Contestant {
        public function __construct(private LockInterface $lock)
        {
        }

        public function lock(): void
        {
            $this->lock->acquire(true);
        }

        public function unlock(): void
        {
            $this->lock->release();
        }
    };
};
