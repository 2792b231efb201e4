<?php

declare(strict_types=1);

// symfony/lock with our store: the same calls as symfony.php, and all that cluster_lock has but renewal. The ttl is
// LockFactory's default, which is also the store's, so that it need not be told to the server.

namespace Bench;

use ClusterLock\Symfony\ClusterLockStore;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\LockInterface;

require_once 'Symfony/Component/Lock/autoload.php';
require_once __DIR__ . '/../../../packages/symfony-lock/src/Hold.php';
require_once __DIR__ . '/../../../packages/symfony-lock/src/ClusterLockStore.php';

return function (string $server, string $name): Contestant {
    $lock = (new LockFactory(new ClusterLockStore()))->createLock($name, 300.0, false);

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
