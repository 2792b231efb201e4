<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * The server loses its data or its scripts, or restarts empty.
 */
final class DataLossTest extends TestCase
{
    public function testFlushAllWhileHeldIsNoticedAtUnlock(): void
    {
        $server = RedisServer::own();
        [$alice, $bob] = Cluster::redis($server)->actors(2, ['cluster_lock.auto_renew' => '0']);
        $alice->call('cluster_lock', 'job');
        $fence = $alice->call('cluster_lock_fence', 'job');
        $server->client()->do('FLUSHALL');

        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/data/i');
        $bob->call('cluster_lock', 'job', 0);
        self::assertGreaterThan(
            $fence,
            $bob->call('cluster_lock_fence', 'job'),
            'A later fence is greater all the same'
        );
    }

    public function testASecondHolderAfterFlushAllIsNoticedAtUnlock(): void
    {
        $server = RedisServer::own();
        [$alice, $bob] = Cluster::redis($server)->actors(2, ['cluster_lock.auto_renew' => '0']);
        $alice->call('cluster_lock', 'job');
        $fence = $alice->call('cluster_lock_fence', 'job');
        $server->client()->do('FLUSHALL');
        self::assertTrue($bob->call('cluster_lock', 'job', 0), 'The server knows of no holder');

        self::assertGreaterThan($fence, $bob->call('cluster_lock_fence', 'job'), 'The fence keeps the late one out');
        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/another holder|data/i');
        self::assertTrue($bob->call('cluster_unlock', 'job'), "Alice's late unlock did not touch Bob's lock");
    }

    public function testARenewalNoticesTheLossWithoutTakingTheLockBack(): void
    {
        $server = RedisServer::own();
        [$alice, $bob] = Cluster::redis($server)->actors(2, ['cluster_lock.ttl' => '0.6']);
        $alice->call('cluster_lock', 'job');
        $server->client()->do('FLUSHALL');
        Until::true(
            static fn () => $alice->call('cluster_lock_fence', 'job') === null,
            'a renewal should have noticed'
        );

        self::assertTrue($bob->call('cluster_lock', 'job', 0), 'What the server lost stays lost');
        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/data/i');
    }

    public function testAFileIsNotWrittenUnderALockThatTheServerForgot(): void
    {
        $server = RedisServer::own();
        $alice = Cluster::redis($server)->actor(['cluster_lock.auto_renew' => '0']);
        $file = TempDir::forTest() . '/file';
        file_put_contents($file, 'old');
        $alice->call('cluster_lock', 'job');
        $server->client()->do('FLUSHALL');

        self::assertWarns(
            $alice->try('cluster_file_put_contents', $file, 'new', 0, 'job'),
            'cluster_file_put_contents',
            'job'
        );
        self::assertSame('old', file_get_contents($file), 'The old file should be untouched');
    }

    public function testAWaiterGetsItAfterFlushAll(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        $bob->begin('cluster_lock', 'job', 60);
        $cluster->awaitWaiters('job', 1);
        $server->client()->do('FLUSHALL');

        self::assertTrue($bob->end(), 'Bob asks again and gets it');
        $alice->try('cluster_unlock', 'job')->warning();
        self::assertTrue($bob->call('cluster_unlock', 'job'), 'Bob held it throughout');
    }

    public function testWaitersKeepTheirOrderAfterFlushAll(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $actors = $cluster->actors(5);
        $alice = array_shift($actors);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        foreach ($actors as $i => $actor) {
            $actor->beginRun(
                '$got = cluster_lock("job", 60); $fence = cluster_lock_fence("job"); return $got && cluster_unlock("job") ? $fence : 0;'
            );
            $cluster->awaitWaiters('job', $i + 1);
        }
        $server->client()->do('FLUSHALL');
        $fences = array_map(static fn ($actor) => $actor->end(), $actors);

        self::assertNotContains(0, $fences, 'All get their turn');
        self::assertCount(4, array_unique($fences), 'one after the other');
    }

    public function testAnEmptyRestartWhileHeldAndWaiting(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.retry_after' => '0.2']);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        $fence = $alice->call('cluster_lock_fence', 'job');
        $bob->begin('cluster_lock', 'job', 60);
        $cluster->awaitWaiters('job', 1);
        $server->kill();
        $server->start();
        $outcome = $bob->outcome();

        if ($outcome->value === true) {
            self::assertSame([], $outcome->warnings, 'A wait that survives a restart is silent');
        } else {
            self::assertWarns($outcome, 'cluster_lock', '"job"', '/' . preg_quote($server->address(), '/') . '/');
            Until::true(
                static fn () => $bob->try('cluster_lock', 'job', 10)->value,
                'after the restart Bob should get it'
            );
        }
        self::assertGreaterThan(
            $fence,
            $bob->call('cluster_lock_fence', 'job'),
            'A later fence is greater all the same'
        );
        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/data|holder/i');
        self::assertTrue($bob->call('cluster_unlock', 'job'), 'Bob was not disturbed');
    }

    public function testAShortRestartDoesNotTroubleAnIdleProcess(): void
    {
        $server = RedisServer::own();
        $actor = Cluster::redis($server)->actor();
        for ($i = 0; $i < 3; $i++) {
            self::assertTrue($actor->call('cluster_lock', 'job', 0), 'A stale connection is replaced without a word');
            self::assertTrue($actor->call('cluster_unlock', 'job'), 'and so it goes on');
            $server->kill();
            $server->start();
        }
    }

    public function testScriptFlushIsNotNoticed(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '0.9']);
        for ($i = 0; $i < 3; $i++) {
            $server->client()->do('SCRIPT', 'FLUSH');
            self::assertTrue($alice->call('cluster_lock', 'job', 0), 'Lock after SCRIPT FLUSH');
            $bob->begin('cluster_lock', 'job', 30);
            $cluster->awaitWaiters('job', 1);
            $server->client()->do('SCRIPT', 'FLUSH');
            self::assertFalse($cluster->observer()->call('cluster_lock', 'job', 1.2), 'Renewed after SCRIPT FLUSH');
            self::assertTrue($alice->call('cluster_unlock', 'job'), 'Unlock after SCRIPT FLUSH');
            self::assertTrue($bob->end(), 'Hand-off after SCRIPT FLUSH');
            $server->client()->do('SCRIPT', 'FLUSH');
            self::assertIsArray($alice->call('cluster_lock_info', 'job'), 'Info after SCRIPT FLUSH');
            $server->client()->do('SCRIPT', 'FLUSH');
            self::assertTrue($alice->call('cluster_lock_break', 'job'), 'Break after SCRIPT FLUSH');
            $bob->try('cluster_unlock', 'job');
        }
        $stats = $server->client()->info('commandstats');
        self::assertArrayNotHasKey('cmdstat_script|load', $stats, 'SCRIPT LOAD is never used: some servers refuse it');
    }

    public function testNothingStaysForEver(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        [$alice, $bob, $carol] = $cluster->actors(3);
        $alice->call('cluster_lock', 'held');
        $alice->call('cluster_lock', 'shared', 0, LOCK_SH);
        $alice->call('cluster_lock', 'idle');
        $alice->call('cluster_unlock', 'idle');
        $bob->begin('cluster_lock', 'held', 60);
        $cluster->awaitWaiters('held', 1);
        $carol->begin('cluster_lock', 'shared', 60);
        $cluster->awaitWaiters('shared', 1);
        $bob->kill();
        $carol->kill();
        $keys = $server->client()->do('KEYS', '*');

        self::assertGreaterThanOrEqual(2, count($keys), 'There should be something to look at');
        foreach ($keys as $key) {
            self::assertGreaterThan(0, $server->client()->do('PTTL', $key), "$key should expire by itself");
            self::assertLessThan(3_600_000, $server->client()->do('PTTL', $key), "$key should expire soon");
        }
    }
}
