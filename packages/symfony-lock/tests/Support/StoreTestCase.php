<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests\Support;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;
use Symfony\Component\Lock\Exception\LockConflictedException;

/**
 * A test of the store in processes that share a cluster.
 */
abstract class StoreTestCase extends TestCase
{
    /** @return array<string, array{Cluster, array<string, mixed>}> every backend, and with renewal */
    public static function stores(): array
    {
        return [
            'redis, expiring' => [Cluster::redis(), []],
            'redis, renewed' => [Cluster::redis(), ['renew' => true]],
            'local, expiring' => [Cluster::local(), []],
        ];
    }

    /** @param callable(): mixed $call */
    final protected static function assertConflict(callable $call, string $why): void
    {
        self::assertThrows(LockConflictedException::class, $call, $why);
    }

    /**
     * @param class-string<\Throwable> $class
     * @param callable(): mixed       $call
     *
     * @return string the messages
     */
    final protected static function assertThrows(string $class, callable $call, string $why): string
    {
        try {
            $call();
        } catch (\Throwable $e) {
            self::assertSame($class, $e::class, $why . '; it was ' . $e->getMessage());

            return $e->getMessage();
        }
        self::fail("$why: should throw $class");
    }
}
