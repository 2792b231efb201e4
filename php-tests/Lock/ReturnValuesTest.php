<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;

/**
 * What cluster_lock() and cluster_unlock() return: true, a silent false, or false with a warning.
 */
final class ReturnValuesTest extends TestCase
{
    /** @dataProvider backends */
    public function testAFreeLockIsGivenAndGivenBack(Cluster $cluster): void
    {
        $alice = $cluster->actor();

        self::assertTrue($alice->call('cluster_lock', 'job'), 'A free lock should be given');
        $cluster->assertHeld('job', 'cluster_lock() was true');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'Our own lock should be unlocked');
        $cluster->assertFree('job', 'It was unlocked');
    }

    /** @dataProvider backends */
    public function testALockOfAnotherProcessIsASilentFalse(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');

        self::assertFalse($bob->call('cluster_lock', 'job', 0.0), 'Alice has it');
        $alice->call('cluster_unlock', 'job');
        self::assertTrue($bob->call('cluster_lock', 'job', 0.0), 'Alice has given it back');
    }

    /** @dataProvider backends */
    public function testUnlockingWhatIsNotHeldWarns(Cluster $cluster): void
    {
        $outcome = $cluster->actor()->try('cluster_unlock', 'job');

        self::assertWarns($outcome, 'cluster_unlock', '"job"', '/not held/i');
    }

    /** @dataProvider backends */
    public function testNobodyUnlocksForAnother(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');

        self::assertWarns($bob->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/not held/i');
        $cluster->assertHeld('job', 'Bob could not unlock it');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'Alice never lost it');
    }

    /** @dataProvider backends */
    public function testUnlockingTwiceWarns(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $alice->call('cluster_lock', 'job');
        $alice->call('cluster_unlock', 'job');

        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/not held/i');
    }

    /** @dataProvider backends */
    public function testLocksOfDifferentNamesAreIndependent(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);

        self::assertTrue($alice->call('cluster_lock', 'one'), 'The first name is free');
        self::assertTrue($alice->call('cluster_lock', 'two'), 'One request may hold two locks');
        self::assertTrue($bob->call('cluster_lock', 'three', 0), 'Another name is another lock');
        self::assertTrue($alice->call('cluster_unlock', 'one'), 'They may be released in any order');
        self::assertTrue($bob->call('cluster_lock', 'one', 0), 'The first was released');
        self::assertFalse($bob->call('cluster_lock', 'two', 0), 'The second was not');
    }

    /** @dataProvider backends */
    public function testALockCanBeTakenManyTimes(Cluster $cluster): void
    {
        $count = $cluster->actor()->run(<<<'PHP'
            for ($i = 0; $i < 1000 && cluster_lock('job', 0) && cluster_unlock('job'); $i++);
            return $i;
            PHP);

        self::assertSame(1000, $count, 'Lock and unlock should work again and again');
    }
}
