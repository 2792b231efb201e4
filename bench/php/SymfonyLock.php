<?php

declare(strict_types=1);

namespace Bench;

use Symfony\Component\Lock\LockInterface;

require_once 'Symfony/Component/Lock/autoload.php';

/** symfony/lock's object, whatever store is behind it. */
final class SymfonyLock implements Contestant
{
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
}
