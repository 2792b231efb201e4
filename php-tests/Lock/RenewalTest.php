<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;

/**
 * The background thread keeps leases alive while the request runs, up to max_hold.
 */
final class RenewalTest extends TestCase
{
    /** @dataProvider backends */
    public function testALeaseOfOneSecondIsKeptForThree(Cluster $cluster): void
    {
        $this->keepsFor($cluster, 3.0);
    }

    /**
     * @dataProvider backends
     * @group slow
     */
    public function testALeaseOfOneSecondIsKeptForTen(Cluster $cluster): void
    {
        $this->keepsFor($cluster, 10.0);
    }

    /** @dataProvider backends */
    public function testItIsKeptWhilePhpIsBusy(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '1.5']);
        $alice->call('cluster_lock', 'job');
        $alice->beginRun(
            'for ($end = hrtime(true) + 3_800_000_000; hrtime(true) < $end;); return cluster_unlock("job");'
        );

        self::assertFalse($bob->call('cluster_lock', 'job', 3.5), 'The lease should be renewed meanwhile');
        self::assertTrue($alice->end(), 'Alice held it throughout');
    }

    /** @dataProvider backends */
    public function testSharedAndNestedLocksAreKeptToo(Cluster $cluster): void
    {
        $alice = $cluster->actor(['cluster_lock.ttl' => '1.5']);
        $bob = $cluster->actor();
        $alice->call('cluster_lock', 'shared', 0, LOCK_SH);
        $alice->call('cluster_lock', 'nested');
        $alice->call('cluster_lock', 'nested');
        $alice->call('cluster_unlock', 'nested');

        self::assertFalse($bob->call('cluster_lock', 'shared', 3.5), 'The shared lease should be renewed');
        self::assertFalse($bob->call('cluster_lock', 'nested', 0), 'The nested lease should be renewed');
        self::assertTrue($alice->call('cluster_unlock', 'shared'), 'Never lost');
        self::assertTrue($alice->call('cluster_unlock', 'nested'), 'Never lost');
        self::assertGreaterThan(0, $alice->call('cluster_lock_status')['counters']['renewals'], 'Renewals are counted');
    }

    /** @dataProvider backends */
    public function testManyLocksAreKept(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '1']);
        $alice->run('for ($i = 0; $i < 50; $i++) { $_ = cluster_lock("job $i", 0); } return true;');

        self::assertFalse($bob->call('cluster_lock', 'job 49', 2.5), 'The lease of the last should be renewed');
        $kept = $alice->run(
            'for ($kept = $i = 0; $i < 50; $i++) { $kept += (int) cluster_unlock("job $i"); } return $kept;'
        );
        self::assertSame(50, $kept, 'All leases should be renewed');
    }

    /** @dataProvider backends */
    public function testMaxHoldEndsTheRenewal(Cluster $cluster): void
    {
        $alice = $cluster->actor(['cluster_lock.ttl' => '0.4', 'cluster_lock.max_hold' => '1']);
        $bob = $cluster->actor();
        $alice->call('cluster_lock', 'job');
        $outcome = $bob->try('cluster_lock', 'job', 10);

        self::assertTrue($outcome->value(), 'After max_hold and one lease Bob gets it');
        self::assertTook(0.8, $outcome->seconds, 'max_hold of 1 s and a lease of 0.4 s');
        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/lease|holder/i');
    }

    /** @dataProvider backends */
    public function testMaxHoldZeroIsNoLimit(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '1.5', 'cluster_lock.max_hold' => '0']);
        $alice->call('cluster_lock', 'job');

        self::assertFalse($bob->call('cluster_lock', 'job', 3.5), 'The lease should be renewed without limit');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'Never lost');
    }

    /** @dataProvider backends */
    public function testRenewalCanBeTurnedOffAtRunTime(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '0.4']);
        $alice->call('ini_set', 'cluster_lock.auto_renew', '0');
        $alice->call('cluster_lock', 'job');

        self::assertTrue($bob->call('cluster_lock', 'job', 10), 'Unrenewed, the lease runs out');
    }

    /** @dataProvider backends */
    public function testRenewalStopsAtUnlock(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '1.5']);
        $alice->call('cluster_lock', 'job');
        $alice->call('cluster_unlock', 'job');
        self::assertTrue($bob->call('cluster_lock', 'job', 0), 'Alice has given it back');

        self::assertFalse($alice->call('cluster_lock', 'job', 3.5), 'Bob holds it, renewed');
        $bob->call('cluster_unlock', 'job');
        $renewals = $bob->call('cluster_lock_status')['counters']['renewals'];
        $alice->call('cluster_lock', 'other');
        self::assertFalse($cluster->observer()->call('cluster_lock', 'other', 3.0), 'Alice holds the other');
        self::assertSame(
            $renewals,
            $bob->call('cluster_lock_status')['counters']['renewals'],
            'Bob holds nothing to renew'
        );
    }

    private function keepsFor(Cluster $cluster, float $seconds): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 1.0);

        self::assertFalse($bob->call('cluster_lock', 'job', $seconds), 'The lease should be renewed');
        self::assertSame(
            [$alice->pid()],
            array_column($cluster->info('job')['holders'], 'pid'),
            'Alice still holds it'
        );
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'Alice held it throughout');
        self::assertTrue($bob->call('cluster_lock', 'job', 0), 'Now it is free');
    }
}
