<?php

declare(strict_types=1);

// symfony/lock with its RedisStore over phpredis. One Lock object is used again and again, the cheapest way it has.
// It has no fence, no queue, no wake-up (a waiter polls every 90 to 110 ms), no renewal.

namespace Bench;

use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store\RedisStore;

require_once __DIR__ . '/../connect.php';
require_once __DIR__ . '/../SymfonyLock.php';

return function (string $server, string $name): Contestant {
    return new SymfonyLock((new LockFactory(new RedisStore(connect($server))))->createLock($name, 10.0, false));
};
