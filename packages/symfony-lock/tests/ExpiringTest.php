<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests;

use ClusterLock\Symfony\Tests\Support\Application;
use ClusterLock\Symfony\Tests\Support\StoreTestCase;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Until;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Exception\LockExpiredException;

/**
 * The store as it is without further ado: a lock ends when its ttl is over, however alive its holder is.
 */
final class ExpiringTest extends StoreTestCase
{
    public function testALockEndsWithItsTtlThoughPhpIniSaysRenew(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = [new Application($cluster), new Application($cluster)];
        $lock = $alice->lock('job', 1.5);
        self::assertTrue($lock->acquire(), 'It is free');
        self::assertFalse($lock->isExpired(), 'It has just begun');
        self::assertWithin(0.0, 1.5, $lock->getRemainingLifetime(), 'The rest of 1.5 s');
        $his = $bob->lock('job');
        $his->begin('acquire', true);
        self::assertTrue($bob->end(), 'The next one gets it when the ttl is over');

        self::assertTrue($lock->isExpired(), 'The first one knew it before');
        self::assertFalse($lock->isAcquired(), 'and does not believe to have it');
        self::assertThrows(LockConflictedException::class, static fn () => $lock->refresh(), 'Nothing to refresh');
        self::assertTrue($his->isAcquired(), 'The second one has it throughout');
        $status = $alice->call('cluster_lock_status');
        self::assertSame(0, $status['counters']['renewals'], 'Nothing was renewed');
        self::assertSame('1', $alice->call('ini_get', 'cluster_lock.auto_renew'), 'The setting is as it was');
    }

    public function testRefreshPutsOffTheEnd(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = [new Application($cluster), new Application($cluster)];
        [$lock, $clock] = [$alice->lock('job', 1.5), $alice->lock('clock', 1.5)];
        $lock->acquire();
        $lock->refresh(60.0);
        $clock->acquire();
        self::assertWithin(40.0, 60.0, $lock->getRemainingLifetime(), 'The rest of 60 s');
        Until::true(static fn () => $clock->isExpired(), 'the other lock should expire');

        self::assertTrue($lock->isAcquired(), 'It was put off');
        self::assertFalse($bob->lock('job')->acquire(), 'for others, too');
        $lock->refresh(1.0);
        self::assertLessThan(1.0, $lock->getRemainingLifetime(), 'refresh() makes it shorter, too');
        self::assertTrue($bob->lock('job')->acquire(true), 'It ends soon');
    }

    /** @dataProvider backends */
    public function testAKeyWithoutRefreshHasTheInitialTtl(Cluster $cluster): void
    {
        $app = new Application($cluster, ['initialTtl' => 60.0]);
        $lock = $app->lock('job', null);
        $lock->acquire();

        self::assertWithin(40.0, 60.0, $lock->getRemainingLifetime(), 'The rest of 60 s');
        $default = (new Application($cluster))->lock('other', null);
        $default->acquire();
        self::assertWithin(270.0, 300.0, $default->getRemainingLifetime(), 'The rest of 300 s');
    }

    /** @dataProvider backends */
    public function testALeaseThatIsOverWhenItIsStoredIsGivenBack(Cluster $cluster): void
    {
        $app = new Application($cluster);
        [$store, $key] = [$app->store(), $app->key('job')];
        $store->save($key);
        self::assertThrows(
            LockExpiredException::class,
            static fn () => $store->putOffExpiration($key, 1e-6),
            'A microsecond is over before the answer'
        );
        self::assertFalse($store->exists($key), 'It was given back');
        $cluster->assertFree('job', 'It was given back');
        $expired = $app->key('job');
        $expired->reduceLifetime(0.0);
        self::assertThrows(
            LockExpiredException::class,
            static fn () => $store->save($expired),
            'A key that has expired already is not stored'
        );
        $cluster->assertFree('job', 'It was given back');
        self::assertThrows(
            LockConflictedException::class,
            static fn () => $store->putOffExpiration($key, 1.0),
            'A key that holds nothing has nothing to put off'
        );
    }

    /** @dataProvider backends */
    public function testAKeyIsSavedAfreshWhenItsLockHasRunOut(Cluster $cluster): void
    {
        $app = new Application($cluster);
        [$store, $key] = [$app->store(), $app->key('job')];
        $store->save($key);
        $store->putOffExpiration($key, 0.5);
        Until::true(static fn () => $key->isExpired(), 'it should run out');
        $key->resetLifetime();
        $store->save($key);

        self::assertFalse($key->isExpired(), 'It has begun again');
        $cluster->assertHeld('job', 'It was saved again');
    }

    public function testALockThatRanOutAndWasForgottenIsNothingToWarnOf(): void
    {
        $cluster = Cluster::redis();
        $app = new Application($cluster, ['initialTtl' => 1.0]);
        [$forgotten, $other] = [$app->key('job'), $app->key('other')];
        $app->store()->save($forgotten);
        $forgotten->drop();
        self::assertTrue(
            $cluster->observer()->call('cluster_lock', 'job', 10),
            'A key that is gone gives nothing back, so its lease has to run out'
        );
        $app->store()->save($other);
        $app->actor->quit();

        self::assertSame('', $app->actor->process()->errors(), 'Nobody released it, as symfony/lock allows');
    }
}
