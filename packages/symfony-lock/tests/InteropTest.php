<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests;

use ClusterLock\Symfony\Tests\Support\Application;
use ClusterLock\Symfony\Tests\Support\StoreTestCase;
use ClusterLock\Tests\Support\Cluster;

/**
 * A lock of the store and cluster_lock() of the same name are the same lock.
 */
final class InteropTest extends StoreTestCase
{
    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testTheyExcludeEachOther(Cluster $cluster, array $options): void
    {
        [$plain, $app] = [$cluster->actor(), new Application($cluster, $options)];
        $lock = $app->lock('job');
        $plain->call('cluster_lock', 'job');
        self::assertFalse($lock->acquire(), 'cluster_lock() has it');
        $plain->call('cluster_unlock', 'job');
        self::assertTrue($lock->acquire(), 'Then it is free');
        self::assertFalse($plain->call('cluster_lock', 'job', 0), 'The store has it');
        self::assertFalse($app->call('cluster_lock', 'job', 0), 'also for the same request');
        $lock->release();

        self::assertTrue($lock->acquireRead(), 'A reader');
        self::assertTrue($plain->call('cluster_lock', 'job', 0, LOCK_SH), 'and another one');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testReportsNameTheCodeThatUsesSymfonysLock(Cluster $cluster, array $options): void
    {
        [$app, $other] = [new Application($cluster, $options), new Application($cluster, $options)];
        $lock = $app->lock('job');
        $lock->acquire();
        $other->lock('job')->begin('acquire', true);
        $cluster->awaitWaiters('job', 1);
        $info = $cluster->info('job');
        foreach ([$info['holders'][0], $info['waiters'][0]] as $who) {
            self::assertSame('remote_call', $who['function'], 'function');
            self::assertStringEndsWith('tests/fixtures/remote.php', $who['file'], 'Neither the store nor the component');
            self::assertGreaterThan(0, $who['line'], 'line');
        }
        $lock->release();
        self::assertTrue($other->end(), 'It is its turn');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testTheyStandInOneQueue(Cluster $cluster, array $options): void
    {
        [$holder, $plain, $app] = [$cluster->actor(), $cluster->actor(), new Application($cluster, $options)];
        $lock = $app->lock('job');
        $holder->call('cluster_lock', 'job');
        $lock->begin('acquire', true);
        $cluster->awaitWaiters('job', 1);
        $plain->begin('cluster_lock', 'job', 30);
        $cluster->awaitWaiters('job', 2);
        $holder->call('cluster_unlock', 'job');
        self::assertTrue($app->end(), 'The store came first');
        self::assertFalse($plain->isDone(), 'cluster_lock() came second');
        $holder->begin('cluster_lock', 'job', 30);
        $cluster->awaitWaiters('job', 2);
        $lock->release();

        self::assertTrue($plain->end(), 'It is woken by a release of the store');
    }
}
