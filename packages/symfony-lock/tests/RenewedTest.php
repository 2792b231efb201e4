<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests;

use ClusterLock\Symfony\Tests\Support\Application;
use ClusterLock\Symfony\Tests\Support\StoreTestCase;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Until;

/**
 * The store with $renew: a lock lasts until it is released or its process ends.
 */
final class RenewedTest extends StoreTestCase
{
    private const SHORT_LEASE = ['initialTtl' => 1.5, 'renew' => true];

    public function testALockOutlivesItsLeaseAndItsTtl(): void
    {
        $cluster = Cluster::redis();
        $alice = new Application($cluster, self::SHORT_LEASE, ['cluster_lock.auto_renew' => '0']);
        $lock = $alice->lock('job', 1.0);
        $lock->acquire();
        self::awaitRenewals($alice, 4);

        self::assertFalse($lock->isExpired(), 'It is kept alive');
        self::assertTrue($lock->isAcquired(), 'It is kept alive');
        self::assertWithin(200.0, 300.0, $lock->getRemainingLifetime(), 'The rest of cluster_lock.max_hold');
        $lock->refresh();
        self::assertTrue($lock->isAcquired(), 'refresh() does no harm');
        $cluster->assertHeld('job', 'It is kept alive');
        $lock->release();
        $cluster->assertFree('job', 'It was released');
        self::assertSame('0', $alice->call('ini_get', 'cluster_lock.auto_renew'), 'The setting is as it was');
    }

    /** @dataProvider backends */
    public function testWithoutALimitTheLifetimeIsUnknown(Cluster $cluster): void
    {
        $app = new Application($cluster, ['renew' => true], ['cluster_lock.max_hold' => '0']);
        foreach ([null, 5.0, 300.0] as $i => $ttl) {
            $lock = $app->lock("job $i", $ttl);
            $lock->acquire();
            self::assertNull($lock->getRemainingLifetime(), 'No end in sight');
            self::assertFalse($lock->isExpired(), 'No end in sight');
        }
    }

    public function testTheLongestHoldIsAnEnd(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = [
            new Application($cluster, self::SHORT_LEASE, ['cluster_lock.max_hold' => '2']),
            new Application($cluster),
        ];
        $lock = $alice->lock('job', null);
        $lock->acquire();
        self::assertWithin(0.0, 2.0, $lock->getRemainingLifetime(), 'The rest of cluster_lock.max_hold');
        self::assertTrue($bob->lock('job')->acquire(true), 'Nobody renews it any more');

        self::assertTrue($lock->isExpired(), 'The first one knew it before');
        self::assertFalse($lock->isAcquired(), 'and does not believe to have it');
    }

    public function testATtlBeyondTheLongestHoldIsALease(): void
    {
        $cluster = Cluster::redis();
        $app = new Application($cluster, self::SHORT_LEASE, ['cluster_lock.max_hold' => '0.7']);
        [$lock, $clock] = [$app->lock('job', 60.0), $app->lock('clock', null)];
        $lock->acquire();
        $clock->acquire();
        self::assertWithin(40.0, 60.0, $lock->getRemainingLifetime(), 'The rest of 60 s');
        $cluster->observer()->call('cluster_lock', 'clock', 30);

        self::assertTrue($lock->isAcquired(), 'Renewal has come to its end, the lease has not');
        $cluster->assertHeld('job', 'Renewal has come to its end, the lease has not');
    }

    public function testADeadProcessIsInTheWayForItsLeaseOnly(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = [new Application($cluster, self::SHORT_LEASE), new Application($cluster)];
        $alice->lock('job')->acquire(); // for 300 s, as LockFactory has it
        $alice->actor->kill();

        self::assertTrue($bob->lock('job')->acquire(true), 'The lease runs out');
    }

    private static function awaitRenewals(Application $app, int $count): void
    {
        Until::true(
            static fn () => $app->call('cluster_lock_status')['counters']['renewals'] >= $count,
            "the lease should be renewed $count times"
        );
    }
}
