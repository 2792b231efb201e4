<?php

declare(strict_types=1);

namespace ClusterLock\Tests\LifeCycle;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;

/**
 * Processes that are killed or stopped: how long they are in the way of others.
 */
final class KilledProcessTest extends TestCase
{
    /** @dataProvider backends */
    public function testAKilledHolderIsInTheWayForItsLeaseAtMost(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '1']);
        $cluster->observer();
        $alice->call('cluster_lock', 'job');
        $bob->begin('cluster_lock', 'job', 30);
        $cluster->awaitWaiters('job', 1);
        $alice->kill();

        self::assertTrue($bob->end(), 'The lease of a dead holder runs out');
        $bob->call('cluster_unlock', 'job');
        $cluster->assertClean($alice);
    }

    /** @dataProvider backends */
    public function testAKilledReaderIsInTheWayForItsLeaseAtMost(Cluster $cluster): void
    {
        [$alice, $other, $writer] = $cluster->actors(3, ['cluster_lock.ttl' => '1']);
        $cluster->observer();
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $other->call('cluster_lock', 'job', 0, LOCK_SH);
        $writer->begin('cluster_lock', 'job', 30);
        $cluster->awaitWaiters('job', 1);
        $alice->kill();
        $other->call('cluster_unlock', 'job');

        self::assertTrue($writer->end(), 'The lease of a dead reader runs out');
        $writer->call('cluster_unlock', 'job');
        $cluster->assertClean($alice);
    }

    /** @dataProvider backends */
    public function testAKilledWaiterIsSkipped(Cluster $cluster): void
    {
        [$alice, $dead, $bob] = $cluster->actors(3);
        $alice->call('cluster_lock', 'job');
        $dead->begin('cluster_lock', 'job', 60);
        $cluster->awaitWaiters('job', 1);
        $bob->begin('cluster_lock', 'job', 60);
        $cluster->awaitWaiters('job', 2);
        $dead->kill();
        $alice->call('cluster_unlock', 'job');

        self::assertTrue($bob->end(), 'Bob comes after the dead waiter');
        $bob->call('cluster_unlock', 'job');
        $cluster->assertClean($dead);
    }

    /** @dataProvider backends */
    public function testManyKilledWaitersDelayNoMoreThanOne(Cluster $cluster): void
    {
        // If each cost what one costs, Bob's time would be up.
        $actors = $cluster->actors(34);
        $alice = array_shift($actors);
        $bob = array_pop($actors);
        $alice->call('cluster_lock', 'job');
        foreach ([...$actors, $bob] as $i => $actor) {
            $actor->begin('cluster_lock', 'job', 60);
            $cluster->awaitWaiters('job', $i + 1);
        }
        foreach ($actors as $actor) {
            $actor->kill();
        }
        $alice->call('cluster_unlock', 'job');

        self::assertTrue($bob->end(), 'Bob comes after the dead waiters');
        $bob->call('cluster_unlock', 'job');
        $cluster->assertClean(...$actors);
    }

    /** @dataProvider backends */
    public function testAKilledWaiterIsNotReportedForLong(Cluster $cluster): void
    {
        [$alice, $dead] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $dead->begin('cluster_lock', 'job', 60);
        $cluster->awaitWaiters('job', 1);
        $dead->kill();

        $cluster->awaitWaiters('job', 0);
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'The holder is not disturbed');
        $cluster->assertFree('job', 'Nobody waits any more');
        $cluster->assertClean($dead);
    }

    /** @dataProvider backends */
    public function testAWaiterThatIsTerminatedDiesAndMakesWay(Cluster $cluster): void
    {
        [$alice, $waiter, $bob] = $cluster->actors(3);
        $alice->call('cluster_lock', 'job');
        $waiter->begin('cluster_lock', 'job', 60);
        $cluster->awaitWaiters('job', 1);
        $bob->begin('cluster_lock', 'job', 60);
        $cluster->awaitWaiters('job', 2);
        $waiter->process()->signal(SIGTERM);
        $waiter->process()->wait();
        self::assertSame(SIGTERM, $waiter->process()->endedBy(), 'SIGTERM ends a waiting process as it ends any');
        $alice->call('cluster_unlock', 'job');

        self::assertTrue($bob->end(), 'Bob comes after the dead waiter');
    }

    /** @dataProvider backends */
    public function testAHolderStoppedBeyondItsLeaseFindsOut(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '0.6']);
        $alice->call('cluster_lock', 'job');
        $fence = $alice->call('cluster_lock_fence', 'job');
        $alice->process()->signal(SIGSTOP);
        self::assertTrue($bob->call('cluster_lock', 'job', 30), 'The lease of a stopped holder runs out');
        $alice->process()->signal(SIGCONT);

        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/lease|holder/i');
        $cluster->assertHeld('job', 'Waking up must not disturb Bob');
        self::assertGreaterThan($fence, $bob->call('cluster_lock_fence', 'job'), "Bob's fence is greater");
        self::assertTrue($bob->call('cluster_unlock', 'job'), 'Bob held it throughout');
        $cluster->assertClean();
    }

    /** @dataProvider backends */
    public function testAWaiterStoppedForLongLosesItsTurnNotTheLock(Cluster $cluster): void
    {
        [$alice, $stopped, $bob] = $cluster->actors(3);
        $alice->call('cluster_lock', 'job');
        $stopped->begin('cluster_lock', 'job', 60);
        $cluster->awaitWaiters('job', 1);
        $stopped->process()->signal(SIGSTOP);
        $bob->begin('cluster_lock', 'job', 60);
        $alice->call('cluster_unlock', 'job');
        self::assertTrue($bob->end(), 'Bob does not wait for one who sleeps');
        $stopped->process()->signal(SIGCONT);
        $cluster->awaitWaiters('job', 1);

        self::assertFalse($stopped->isDone(), 'Bob has it: an old grant must not be believed');
        self::assertTrue($bob->call('cluster_unlock', 'job'), 'Bob held it throughout');
        self::assertTrue($stopped->end(), 'Then it is the turn of the one who woke up');
        $stopped->call('cluster_unlock', 'job');
        $cluster->assertClean();
    }
}
