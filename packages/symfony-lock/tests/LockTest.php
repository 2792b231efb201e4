<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests;

use ClusterLock\Symfony\ClusterLockStore;
use ClusterLock\Symfony\Tests\Support\Application;
use ClusterLock\Symfony\Tests\Support\MemoryLogger;
use ClusterLock\Symfony\Tests\Support\StoreTestCase;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use Symfony\Component\Lock\Exception\LockAcquiringException;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Store\CombinedStore;
use Symfony\Component\Lock\Store\InMemoryStore;
use Symfony\Component\Lock\Strategy\UnanimousStrategy;

/**
 * Locks as an application has them: from a LockFactory.
 */
final class LockTest extends StoreTestCase
{
    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testOnlyOneAcquires(Cluster $cluster, array $options): void
    {
        [$alice, $bob] = [new Application($cluster, $options), new Application($cluster, $options)];
        [$hers, $his, $hersToo] = [$alice->lock('job'), $bob->lock('job'), $alice->lock('job')];

        self::assertTrue($hers->acquire(), 'It is free');
        self::assertFalse($his->acquire(), 'Another process has it');
        self::assertFalse($hersToo->acquire(), 'Another lock of this process has it');
        self::assertTrue($hers->acquire(), 'Who has it may ask again');
        self::assertSame([true, false], [$hers->isAcquired(), $his->isAcquired()], 'The first has it');
        $hers->release();
        self::assertTrue($his->acquire(), 'Then it is free');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testWaitersAreServedInTheOrderOfTheirArrival(Cluster $cluster, array $options): void
    {
        $first = new Application($cluster, $options);
        $holding = $first->lock('job');
        $holding->acquire(true);
        $queue = [];
        for ($i = 0; $i < 4; $i++) {
            $app = new Application($cluster, $options);
            $lock = $app->lock('job');
            $lock->begin('acquire', true);
            $cluster->awaitWaiters('job', $i + 1);
            $queue[] = [$app, $lock];
        }
        while ([$app, $lock] = array_shift($queue)) {
            $holding->release();
            self::assertTrue($app->end(), 'The head of the queue gets it');
            foreach ($queue as [$other]) {
                self::assertFalse($other->actor->isDone(), 'Nobody else does');
            }
            $holding = $lock;
        }
    }

    /** @dataProvider backends */
    public function testAWaitMayHaveALimit(Cluster $cluster): void
    {
        [$alice, $bob] = [new Application($cluster), new Application($cluster, ['timeout' => 0.3])];
        $alice->lock('job')->acquire();
        $lock = $bob->lock('job');
        self::assertThrows(LockConflictedException::class, static fn () => $lock->acquire(true), 'The time is up');
        self::assertThrows(LockConflictedException::class, static fn () => $lock->acquireRead(true), 'The time is up');

        $outcome = $bob->actor->tryRun('return ini_get("cluster_lock.auto_renew");');
        self::assertSame('1', $outcome->value(), 'The setting is as it was');
        $patient = new Application($cluster, ['timeout' => null], ['cluster_lock.timeout' => '0.3']);
        $theirs = $patient->lock('job');
        self::assertThrows(LockConflictedException::class, static fn () => $theirs->acquire(true), 'of php.ini');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testAReaderIsPromotedAndDemoted(Cluster $cluster, array $options): void
    {
        [$alice, $bob] = [new Application($cluster, $options), new Application($cluster, $options)];
        [$hers, $his] = [$alice->lock('job'), $bob->lock('job')];
        self::assertTrue($hers->acquireRead(), 'It is free');
        self::assertTrue($his->acquireRead(), 'Readers share');
        self::assertFalse($hers->acquire(), 'There is another reader');
        self::assertTrue($hers->isAcquired(), 'It is still a reader');
        $his->release();
        self::assertTrue($hers->acquire(), 'Nobody else reads');
        self::assertFalse($his->acquireRead(), 'It is exclusive');
        self::assertTrue($hers->acquireRead(), 'Back to reading');

        self::assertTrue($his->acquireRead(), 'Readers share again');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testTwoReadersThatWaitForTheirPromotionAreServedOneAfterTheOther(
        Cluster $cluster,
        array $options
    ): void {
        [$alice, $bob] = [new Application($cluster, $options), new Application($cluster, $options)];
        [$hers, $his] = [$alice->lock('job'), $bob->lock('job')];
        $hers->acquireRead();
        $his->acquireRead();
        $hers->begin('acquire', true);
        $cluster->awaitWaiters('job', 1);
        $his->begin('acquire', true);

        self::assertTrue($alice->end(), 'The first is served first, because the second has stopped reading');
        $cluster->awaitWaiters('job', 1);
        $hers->release();
        self::assertTrue($bob->end(), 'Then the second');
    }

    /** @dataProvider backends */
    public function testAReaderWhosePromotionIsOvertakenHoldsNothing(Cluster $cluster): void
    {
        [$alice, $bob] = [new Application($cluster), new Application($cluster)];
        $alice->store()->setLogger($logger = $alice->new(MemoryLogger::class));
        [$hers, $his] = [$alice->lock('job'), $bob->lock('job')];
        $hers->acquireRead();
        $his->begin('acquire', true);
        $cluster->awaitWaiters('job', 1);
        self::assertFalse($hers->acquire(), 'Somebody waits for it already, and comes first');
        self::assertTrue($bob->end(), 'He has it');

        self::assertFalse($hers->isAcquired(), 'Nobody reads while he writes');
        self::assertStringContainsString('"job" lock was given back', implode($logger->lines()), 'The log tells');
    }

    /** @dataProvider backends */
    public function testAReaderWhosePromotionIsRefusedGoesOnReading(Cluster $cluster): void
    {
        $app = new Application($cluster, ['renew' => true]);
        [$lock, $other] = [$app->lock('job'), $app->lock('job')];
        $lock->acquireRead();
        $other->acquireRead();
        self::assertThrows(
            LockAcquiringException::class,
            static fn () => $lock->acquire(true),
            'It could only wait for its own request'
        );

        self::assertTrue($lock->isAcquired(), 'It is still a reader');
        self::assertTrue($other->isAcquired(), 'It is still a reader');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testALockIsReleasedWhenItIsDestroyed(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        $lock = $app->lock('job');
        $lock->acquire();
        $lock->drop();

        $cluster->assertFree('job', 'The Lock object is gone');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testWithoutAutoReleaseALockLastsUntilTheEndOfTheRequest(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        $lock = $app->lock('job', 300.0, false);
        $lock->acquire();
        $lock->drop();
        $cluster->assertHeld('job', 'The Lock object is gone, and was not to release it');
        $app->actor->quit();

        $cluster->assertFree('job', 'The request has ended');
        self::assertSame('', $app->actor->process()->errors(), 'There is nothing to warn of');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testTheEndOfAChildReleasesNothing(Cluster $cluster, array $options): void
    {
        $process = $cluster->process(<<<'PHP'
            $options = unserialize(hear());
            $store = new ClusterLock\Symfony\ClusterLockStore(...$options);
            $lock = (new Symfony\Component\Lock\LockFactory($store))->createLock('job');
            say($lock->acquire());
            if (pcntl_fork() === 0) {
                say($lock->isAcquired());
                $lock->release();
                exit(0);
            }
            pcntl_wait($status);
            say('child ended');
            hear();
            say($lock->isAcquired());
            PHP, ['auto_prepend_file' => __DIR__ . '/fixtures/remote.php']);
        $process->tell(serialize($options));
        $process->expect('true');
        $process->expect('false');
        $process->expect('child ended');
        $cluster->assertHeld('job', 'It is the parent that has it');
        $process->tell('end');
        $process->expect('true');
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame('', $process->errors(), 'There is nothing to warn of');

        $cluster->assertFree('job', 'The parent has ended');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testALockThatWasBrokenIsNotAcquired(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        $app->store()->setLogger($logger = $app->new(MemoryLogger::class));
        [$lock, $released, $refreshed] = [$app->lock('job'), $app->lock('released'), $app->lock('refreshed')];
        foreach (['job' => $lock, 'released' => $released, 'refreshed' => $refreshed] as $name => $each) {
            $each->acquire();
            $cluster->observer()->call('cluster_lock_break', $name);
        }
        self::assertFalse($lock->isAcquired(), 'The server says so');
        self::assertTrue($lock->isExpired(), 'It is over');
        $released->release();
        self::assertThrows(LockConflictedException::class, static fn () => $refreshed->refresh(), 'It is over');
        self::assertTrue($lock->acquire(), 'It may be acquired afresh');

        self::assertSame(
            [
                'notice: The "job" lock was lost before it was released.',
                'notice: The "released" lock was lost before it was released.',
                'notice: The "refreshed" lock was lost before it was released.',
            ],
            $logger->lines(),
            'Symfony has no exception for it, so the log tells'
        );
    }

    public function testOfAThousandReadersEachIsAcquired(): void
    {
        $cluster = Cluster::redis();
        $app = new Application($cluster);
        $lock = $app->lock('job');
        $lock->acquireRead();
        $others = $cluster->actor();
        $others->run(<<<'PHP'
            for ($i = 0; $i < 1001; $i++) {
                $GLOBALS['held'][] = $reader = new ClusterLock('job', LOCK_SH, 600.0);
                $reader->acquire(0.0);
            }
            return true;
            PHP);

        self::assertGreaterThan(0, $cluster->info('job')['more_holders'], 'A report does not tell of all');
        self::assertTrue($lock->isAcquired(), 'It is one of them all the same');
    }

    public function testALockWhoseDataIsLostIsNotAcquired(): void
    {
        $server = RedisServer::own();
        $app = new Application(Cluster::redis($server));
        $lock = $app->lock('job');
        $lock->acquire();
        $server->client()->do('FLUSHALL');

        self::assertFalse($lock->isAcquired(), 'Another one could have it');
        self::assertTrue($lock->acquire(), 'It may be acquired afresh');
    }

    /** @dataProvider backends */
    public function testTheFactoryLogs(Cluster $cluster): void
    {
        [$alice, $bob] = [new Application($cluster), new Application($cluster)];
        $alice->factory()->setLogger($logger = $alice->new(MemoryLogger::class));
        $lock = $alice->lock('job');
        $lock->acquire();
        $lock->release();
        $bob->lock('job')->acquire();
        $alice->lock('job')->acquire();

        $lines = implode("\n", $logger->lines());
        self::assertStringContainsString('debug: Successfully acquired the "job" lock.', $lines);
        self::assertStringContainsString('debug: Expiration defined for "job" lock for "300" seconds.', $lines);
        self::assertStringContainsString('info: Failed to acquire the "job" lock. Someone else', $lines);
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testEveryHolderHasAGreaterFence(Cluster $cluster, array $options): void
    {
        $fences = [];
        foreach (['acquire', 'acquireRead', 'acquire'] as $acquire) {
            $app = new Application($cluster, $options);
            $key = $app->key('job');
            $fence = static fn () => $app->static(ClusterLockStore::class, 'fence', $key);
            $lock = $app->factory()->createLockFromKey($key);
            self::assertNull($fence(), 'It holds nothing yet');
            $lock->$acquire();
            $fences[] = $fence();
            self::assertSame($cluster->info('job')['fence'], $fence(), 'It is that of cluster_lock_info()');
            $lock->release();
            self::assertNull($fence(), 'It holds nothing any more');
        }
        $sorted = $fences;
        sort($sorted);
        self::assertSame($sorted, array_values(array_unique($fences)), 'Later holders have greater fences');
    }

    /** @dataProvider backends */
    public function testItIsOneOfACombinedStore(Cluster $cluster): void
    {
        [$alice, $bob] = [new Application($cluster), new Application($cluster)];
        $stores = [$alice->store(), $alice->new(InMemoryStore::class)];
        $combined = $alice->new(CombinedStore::class, $stores, $alice->new(UnanimousStrategy::class));
        $key = $alice->key('job');
        $combined->save($key);
        $combined->putOffExpiration($key, 60.0);
        self::assertTrue($combined->exists($key), 'Both have it');
        self::assertFalse($bob->lock('job')->acquire(), 'It is held');
        $combined->delete($key);

        self::assertTrue($bob->lock('job')->acquire(), 'It was given back');
    }

    public function testACycleCostsTwoRoundTrips(): void
    {
        $server = RedisServer::own();
        foreach ([[], ['renew' => true]] as $options) {
            $app = new Application(Cluster::redis($server), $options);
            $trips = static function (string $resource, float $ttl) use ($app, $server): int {
                $before = self::scriptsRun($server);
                $lock = $app->lock($resource, $ttl);
                $lock->acquire();
                $lock->release();

                return self::scriptsRun($server) - $before;
            };
            $trips('warm', 300.0);
            self::assertSame(2, $trips('job', 300.0), "LockFactory's default ttl is the store's");
            self::assertSame($options === [] ? 3 : 2, $trips('other', 10.0), 'Another ttl has to be told');
        }
    }

    private static function scriptsRun(RedisServer $server): int
    {
        preg_match('/^calls=(\d+)/', $server->client()->info('commandstats')['cmdstat_evalsha'] ?? 'calls=0', $calls);

        return (int) $calls[1];
    }
}
