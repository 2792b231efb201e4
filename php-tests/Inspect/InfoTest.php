<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Inspect;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * cluster_lock_info(): who holds, who waits, and never the secret.
 */
final class InfoTest extends TestCase
{
    /** @dataProvider backends */
    public function testAFreeLockIsNull(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        self::assertNull($alice->call('cluster_lock_info', 'job'), 'Never locked');
        $alice->call('cluster_lock', 'job');
        $alice->call('cluster_unlock', 'job');

        self::assertNull($alice->call('cluster_lock_info', 'job'), 'Unlocked');
        self::assertSame([], $alice->call('cluster_lock_list'), 'A free lock is not listed');
    }

    /** @dataProvider backends */
    public function testItTellsAllAboutTheHolder(Cluster $cluster): void
    {
        $alice = $cluster->actor(['cluster_lock.node' => 'node-a', 'cluster_lock.ttl' => '20']);
        $before = microtime(true);
        $alice->call('cluster_lock', 'job');
        $info = $cluster->info('job');

        self::assertSame(
            ['name', 'mode', 'fence', 'ttl', 'since', 'holders', 'waiters', 'more_holders', 'more_waiters'],
            array_keys($info),
            'The keys of the contract'
        );
        self::assertSame('job', $info['name'], 'name');
        self::assertSame('exclusive', $info['mode'], 'mode');
        self::assertSame($alice->call('cluster_lock_fence', 'job'), $info['fence'], 'fence');
        self::assertIsFloat($info['ttl'], 'ttl');
        self::assertWithin(10.001, 20.0, $info['ttl'], 'What is left of a lease of 20 s');
        self::assertIsFloat($info['since'], 'since');
        self::assertEqualsWithDelta($before, $info['since'], 2.0, 'since is Unix time');
        self::assertSame([], $info['waiters'], 'Nobody waits');
        self::assertCount(1, $info['holders'], 'One holder');
        self::assertSame([0, 0], [$info['more_holders'], $info['more_waiters']], 'Nobody is left out');

        $holder = $info['holders'][0];
        self::assertSame(
            ['node', 'pid', 'sapi', 'script', 'request_uri', 'since', 'fence', 'run', 'function', 'file', 'line'],
            array_keys($holder),
            'The keys of the contract, for a holder'
        );
        self::assertSame('node-a', $holder['node'], 'node');
        self::assertSame($alice->pid(), $holder['pid'], 'pid');
        self::assertSame('cli', $holder['sapi'], 'sapi');
        self::assertStringEndsWith('fixtures/actor.php', $holder['script'], 'script');
        self::assertSame('', $holder['request_uri'], 'There is no request URI on the command line');
        self::assertSame($info['since'], $holder['since'], 'since');
        self::assertSame($info['fence'], $holder['fence'], 'fence');
    }

    /** @dataProvider backends */
    public function testItTellsAllAboutWaiters(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $bob = $cluster->actor(['cluster_lock.node' => 'node-b']);
        $carol = $cluster->actor(['cluster_lock.node' => 'node-c']);
        $alice->call('cluster_lock', 'job');
        $before = microtime(true);
        $bob->begin('cluster_lock', 'job', 20, LOCK_SH);
        $cluster->awaitWaiters('job', 1);
        $carol->begin('cluster_lock', 'job', 20);
        $cluster->awaitWaiters('job', 2);
        $waiters = $cluster->info('job')['waiters'];

        self::assertSame(
            ['node', 'pid', 'since', 'mode', 'run', 'function', 'file', 'line'],
            array_keys($waiters[0]),
            'The keys of the contract, for a waiter'
        );
        self::assertSame(['node-b', 'node-c'], array_column($waiters, 'node'), 'node, by arrival');
        self::assertSame([$bob->pid(), $carol->pid()], array_column($waiters, 'pid'), 'pid');
        self::assertSame(['shared', 'exclusive'], array_column($waiters, 'mode'), 'mode');
        self::assertEqualsWithDelta($before, $waiters[0]['since'], 3.0, 'since is Unix time');
        self::assertLessThanOrEqual($waiters[1]['since'], $waiters[0]['since'], 'Who came first waits longer');
    }

    /** @dataProvider backends */
    public function testTheFenceOfASharedLockIsItsNewest(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $bob->call('cluster_lock', 'job', 0, LOCK_SH);
        $info = $cluster->info('job');

        self::assertSame('shared', $info['mode'], 'mode');
        self::assertSame($bob->call('cluster_lock_fence', 'job'), $info['fence'], 'The newest fence given out');
        self::assertSame($info['holders'][0]['since'], $info['since'], 'Held since the oldest holder came');
    }

    public function testNoFunctionShowsATokenOrASecretKey(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        [$alice, $bob, $carol] = $cluster->actors(3);
        $alice->call('cluster_lock', 'job');
        $bob->begin('cluster_lock', 'job', 20, LOCK_SH);
        $cluster->awaitWaiters('job', 1);
        $carol->call('cluster_lock', 'shared', 0, LOCK_SH);
        $secrets = self::tokensIn($server);
        self::assertGreaterThanOrEqual(3, count($secrets), 'Two holders and a waiter should have a token in Redis');

        $shown = json_encode([
            $alice->call('cluster_lock_info', 'job'),
            $alice->call('cluster_lock_info', 'shared'),
            $alice->call('cluster_lock_list'),
            $alice->call('cluster_lock_status'),
            $alice->run(
                '$lock = new ClusterLock("own"); $lock->acquire(); ob_start(); var_dump($lock, (array) $lock); phpinfo(); return ob_get_clean();'
            ),
            $carol->try('cluster_lock', 'job', 0)->messages(),
        ], JSON_THROW_ON_ERROR | JSON_PARTIAL_OUTPUT_ON_ERROR);
        foreach ($secrets as $secret) {
            self::assertStringNotContainsString($secret, $shown, 'A token is a secret');
        }
    }

    public function testAnUnreachableServerIsNullWithAWarning(): void
    {
        $alice = Cluster::at('redis://127.0.0.1:' . RedisServer::freePort())->actor();
        $outcome = $alice->try('cluster_lock_info', 'job');

        self::assertNull($outcome->value, 'Nothing is known');
        self::assertCount(1, $outcome->warnings, 'There is one warning');
        self::assertStringContainsString('cluster_lock_info(): ', $outcome->messages(), 'It names the function');
        self::assertStringContainsString('job', $outcome->messages(), 'It names the lock');
    }

    /** @return list<string> all runs of 32 hexadecimal digits in the server's keys and values */
    private static function tokensIn(RedisServer $server): array
    {
        $redis = $server->client();
        $text = '';
        foreach ($redis->do('KEYS', '*') as $key) {
            $text .= $key . ' ' . json_encode(match ($redis->do('TYPE', $key)) {
                'string' => $redis->do('GET', $key),
                'zset' => $redis->do('ZRANGE', $key, 0, -1),
                'hash' => $redis->do('HGETALL', $key),
                'list' => $redis->do('LRANGE', $key, 0, -1),
            }) . "\n";
        }
        preg_match_all('/\b[0-9a-f]{32}\b/', $text, $matches);

        return array_values(array_unique($matches[0]));
    }
}
