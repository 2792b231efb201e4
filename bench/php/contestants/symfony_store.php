<?php

declare(strict_types=1);

// symfony/lock with our store: the same calls as symfony.php, and all that cluster_lock has but renewal. The ttl is
// LockFactory's default, which is also the store's, so that it need not be told to the server.

namespace Bench;

use ClusterLock\Symfony\ClusterLockStore;
use Symfony\Component\Lock\LockFactory;

require_once __DIR__ . '/../SymfonyLock.php';
require_once __DIR__ . '/../../../packages/symfony-lock/src/Hold.php';
require_once __DIR__ . '/../../../packages/symfony-lock/src/ClusterLockStore.php';

return function (string $server, string $name): Contestant {
    return new SymfonyLock((new LockFactory(new ClusterLockStore()))->createLock($name, 300.0, false));
};
