<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Inspect;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * cluster_lock_status(): this process, without asking the server.
 */
final class StatusTest extends TestCase
{
    /** @dataProvider backends */
    public function testItHasThisShape(Cluster $cluster): void
    {
        $status = $cluster->actor()->call('cluster_lock_status');

        self::assertSame(
            ['version', 'backend', 'dsn', 'server_version', 'server_role', 'pool', 'hook', 'refused', 'held', 'counters'],
            array_keys($status),
            'The keys of the stub'
        );
        self::assertMatchesRegularExpression('/^\d+\.\d+\.\d+/', $status['version'], 'version');
        self::assertSame($cluster->isRedis() ? 'redis' : 'local', $status['backend'], 'backend');
        self::assertSame(
            ['active' => false, 'intercept' => '', 'intercept_exclude' => '*.log', 'flock_mode' => 'gate'],
            $status['hook'],
            'hook'
        );
        self::assertSame([], $status['refused'], 'Nothing is refused');
        self::assertSame([], $status['held'], 'Nothing is held');
        self::assertSame(['open', 'idle', 'created', 'discarded', 'size'], array_keys($status['pool']), 'pool');
        self::assertSame(
            [
                'acquired', 'contended', 'timed_out', 'lost', 'errors', 'wait_total', 'wait_max', 'renewals', 'runs',
                'runs_failed', 'covered', 'writes', 'flocks', 'intercepted',
            ],
            array_keys($status['counters']),
            'counters'
        );
        self::assertSame(
            [0, 0, 0, 0, 0, 0.0, 0.0, 0, 0, 0, 0, 0, 0, 0],
            array_values($status['counters']),
            'Nothing has happened yet'
        );
    }

    /** @dataProvider backends */
    public function testItListsWhatIsHeldHere(Cluster $cluster): void
    {
        $alice = $cluster->actor(['cluster_lock.ttl' => '20']);
        $alice->call('cluster_lock', 'job');
        $alice->call('cluster_lock', 'shared', 0, LOCK_SH);
        $cluster->observer()->call('cluster_lock', 'not ours');
        $held = $alice->call('cluster_lock_status')['held'];

        self::assertCount(2, $held, 'Two are held by this request');
        [$job, $shared] = $held[0]['name'] === 'job' ? $held : array_reverse($held);
        self::assertSame(['name', 'mode', 'fence', 'remaining'], array_keys($job), 'The keys of the stub');
        self::assertSame(['job', 'exclusive'], [$job['name'], $job['mode']], 'name and mode');
        self::assertSame($alice->call('cluster_lock_fence', 'job'), $job['fence'], 'fence');
        self::assertWithin(10.001, 20.0, $job['remaining'], 'What is left of a lease of 20 s');
        self::assertSame(['shared', 'shared'], [$shared['name'], $shared['mode']], 'name and mode');
        $alice->call('cluster_unlock', 'job');
        self::assertSame(['shared'], array_column($alice->call('cluster_lock_status')['held'], 'name'), 'One is left');
    }

    /** @dataProvider backends */
    public function testItCounts(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $bob->call('cluster_lock', 'job', 0.3);
        $bob->begin('cluster_lock', 'job', 20);
        $cluster->awaitWaiters('job', 1);
        $alice->call('cluster_unlock', 'job');
        $bob->end();
        $bob->call('cluster_lock', 'free');
        $counters = $bob->call('cluster_lock_status')['counters'];

        self::assertSame(2, $counters['acquired'], 'acquired');
        self::assertSame(1, $counters['timed_out'], 'timed out');
        self::assertGreaterThanOrEqual(1, $counters['contended'], 'contended');
        self::assertLessThanOrEqual(2, $counters['contended'], 'contended');
        self::assertGreaterThanOrEqual(0.3, $counters['wait_total'], 'All waits');
        self::assertWithin(0.3, $counters['wait_total'], $counters['wait_max'], 'The longest wait');
        self::assertSame([0, 0], [$counters['lost'], $counters['errors']], 'Nothing failed');
        self::assertSame(
            1,
            $alice->call('cluster_lock_status')['counters']['acquired'],
            "Another process's counters are its own"
        );
    }

    public function testItKnowsTheServerAfterTheFirstLockAndNeverConnectsByItself(): void
    {
        $server = RedisServer::own();
        $alice = Cluster::redis($server)->actor();
        $status = $alice->call('cluster_lock_status');
        self::assertSame(0, $status['pool']['created'], 'Nothing was connected');
        self::assertSame([], $server->client()->clients(), 'The server has seen nobody');

        $alice->call('cluster_lock', 'job');
        $status = $alice->call('cluster_lock_status');
        self::assertGreaterThanOrEqual(1, $status['pool']['created'], 'The lock has connected');
        self::assertSame($status['pool']['open'], count($server->client()->clients()), 'The server sees as many');
        $info = $server->client()->info('server');
        self::assertStringStartsWith(
            $info['valkey_version'] ?? $info['redis_version'],
            (string) $status['server_version'],
            'server_version'
        );
        self::assertSame('master', $status['server_role'], 'server_role');
    }

    public function testErrorsAreCounted(): void
    {
        $alice = Cluster::at('redis://127.0.0.1:' . RedisServer::freePort())->actor();
        $alice->try('cluster_lock', 'job');

        self::assertGreaterThanOrEqual(1, $alice->call('cluster_lock_status')['counters']['errors'], 'errors');
    }

    public function testTheDsnIsRedacted(): void
    {
        $dsn = Cluster::at('redis://someone:s3cret@127.0.0.1:1/3')->actor()->call('cluster_lock_status')['dsn'];

        self::assertStringNotContainsString('s3cret', $dsn, 'The password is a secret');
        self::assertStringContainsString('127.0.0.1:1', $dsn, 'The server is not');
    }
}
