<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests\Support;

/**
 * Names an object of another process.
 */
final class Reference
{
    public function __construct(public readonly int $id)
    {
    }
}
