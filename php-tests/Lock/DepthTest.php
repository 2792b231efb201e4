<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;

/**
 * Held locks nest: as many unlocks as locks.
 */
final class DepthTest extends TestCase
{
    /** @dataProvider backends */
    public function testItIsReleasedByTheLastUnlock(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        for ($depth = 1; $depth <= 3; $depth++) {
            self::assertTrue($alice->call('cluster_lock', 'job', 0), "Its holder may lock it $depth times");
        }
        for ($depth = 3; $depth > 1; $depth--) {
            self::assertTrue($alice->call('cluster_unlock', 'job'), "Unlock at depth $depth should be true");
            $cluster->assertHeld('job', "Unlocked at depth $depth only");
        }
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'The last unlock should be true');
        $cluster->assertFree('job', 'Unlocked as often as locked');
        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/not held/i');
    }

    /** @dataProvider backends */
    public function testANestedLockIsOneHolderWithOneFence(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $alice->call('cluster_lock', 'job');
        $fence = $alice->call('cluster_lock_fence', 'job');
        $alice->call('cluster_lock', 'job');

        self::assertSame($fence, $alice->call('cluster_lock_fence', 'job'), 'Nesting gives no new fence');
        self::assertCount(1, $cluster->info('job')['holders'], 'Nesting makes no second holder');
    }

    /** @dataProvider backends */
    public function testItDoesNotWaitForItselfBehindAWaiter(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $bob->begin('cluster_lock', 'job', 20);
        $cluster->awaitWaiters('job', 1);

        self::assertTrue($alice->call('cluster_lock', 'job', 0), 'The holder nests, however many wait');
        $alice->call('cluster_unlock', 'job');
        self::assertFalse($bob->isDone(), 'Bob waits for the outer unlock');
        $alice->call('cluster_unlock', 'job');
        self::assertTrue($bob->end(), 'Bob gets it after the outer unlock');
    }

    /** @dataProvider backends */
    public function testSharedLocksNest(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $alice->call('cluster_unlock', 'job');

        self::assertFalse($bob->call('cluster_lock', 'job', 0, LOCK_EX), 'One level is still held');
        self::assertTrue($bob->call('cluster_lock', 'job', 0, LOCK_SH), 'and it is shared');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'The last unlock should be true');
        $bob->call('cluster_unlock', 'job');
        $cluster->assertFree('job', 'All have unlocked');
    }

    /** @dataProvider backends */
    public function testSharedInsideExclusiveStaysExclusive(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX);

        self::assertTrue($alice->call('cluster_lock', 'job', 0, LOCK_SH), 'A shared lock nests in an exclusive one');
        self::assertFalse($bob->call('cluster_lock', 'job', 0, LOCK_SH), 'The outer level still excludes');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'The inner unlock should be true');
        self::assertFalse($bob->call('cluster_lock', 'job', 0, LOCK_SH), 'The outer level is still held');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'The outer unlock should be true');
        self::assertTrue($bob->call('cluster_lock', 'job', 0, LOCK_SH), 'Now it is free');
    }
}
