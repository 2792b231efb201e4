<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisClient;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * What goes over the wire: one command to lock, one to unlock, and no polling.
 */
final class RoundTripsTest extends TestCase
{
    public function testAFreeLockCostsOneCommandAndItsReleaseOne(): void
    {
        $server = RedisServer::own();
        $actor = Cluster::redis($server)->actor(['cluster_lock.auto_renew' => '0']);
        $loop = 'for ($i = 0; $i < 100; $i++) { cluster_lock("job $i", 0) && cluster_unlock("job $i"); } return true;';
        $actor->run($loop);
        $before = self::commands($server->client());
        $actor->run($loop);
        $after = self::commands($server->client());

        self::assertSame(['evalsha' => 200], self::added($before, $after), '100 locks and 100 unlocks');
    }

    public function testANestedLockCostsNothing(): void
    {
        $server = RedisServer::own();
        $actor = Cluster::redis($server)->actor(['cluster_lock.auto_renew' => '0']);
        $actor->run('return cluster_lock("job") && cluster_lock("other") && cluster_unlock("other");');
        $before = self::commands($server->client());
        $actor->run(
            'for ($i = 0; $i < 10; $i++) { cluster_lock("job") && cluster_unlock("job"); } return cluster_lock_fence("job");'
        );

        self::assertSame([], self::added($before, self::commands($server->client())), 'The server need not know');
    }

    public function testAWaiterSleepsInTheServer(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        $bob->call('cluster_lock', 'warm', 0);
        $before = self::commands($server->client());
        $bob->call('cluster_lock', 'job', 2.0);
        $added = self::added($before, self::commands($server->client()));

        // Slices of about a second, each with one try and one sleep, and the last try.
        self::assertLessThanOrEqual(10, array_sum($added), 'Two seconds of waiting cost ' . json_encode($added));
        self::assertGreaterThanOrEqual(1, $added['blpop'] ?? 0, 'A waiter should sleep in the server');
    }

    public function testAHandOffWakesNobodyElse(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $actors = $cluster->actors(6, ['cluster_lock.auto_renew' => '0']);
        $alice = array_shift($actors);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        foreach ($actors as $i => $actor) {
            $actor->begin('cluster_lock', 'job', 60);
            $cluster->awaitWaiters('job', $i + 1);
        }
        $sleeping = static fn () => count(
            array_filter($server->client()->clients(), static fn ($c) => str_contains($c['flags'], 'b'))
        );
        Until::true(static fn () => $sleeping() === 5, 'all five should sleep in the server');
        $before = self::commands($server->client());
        $alice->call('cluster_unlock', 'job');
        $actors[0]->end();
        Until::true(static fn () => $sleeping() === 4, 'four should sleep on');
        $added = self::added($before, self::commands($server->client()));

        // Who is woken for nothing sleeps again. One may just have renewed its heartbeat.
        self::assertLessThanOrEqual(1, $added['blpop'] ?? 0, 'Only one should be woken: ' . json_encode($added));
    }

    public function testAHandOffIsToldToTheNext(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.auto_renew' => '0']);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        $asked = [];
        for ($i = 0; $i < 7; $i++) {
            $bob->begin('cluster_lock', 'job', 60, LOCK_EX, 60);
            $cluster->awaitWaiters('job', 1);
            $before = self::commands($server->client());
            $alice->call('cluster_unlock', 'job');
            self::assertTrue($bob->end(), 'It is handed over');
            $asked[] = self::added($before, self::commands($server->client()))['evalsha'];
            [$alice, $bob] = [$bob, $alice];
        }

        // The release, and what confirms the hand-over. A heartbeat may fall in between, but not always.
        self::assertLessThanOrEqual(2, min($asked), 'Who is told need not ask: ' . json_encode($asked));
    }

    /** @return array<string, int> commands that clients sent; what scripts call is not counted */
    private static function commands(RedisClient $redis): array
    {
        $calls = [];
        foreach ($redis->info('commandstats') as $name => $value) {
            if (preg_match('/^cmdstat_(evalsha|eval|blpop|brpop|blmpop|lpop|scan|ping|publish|subscribe|script\|.*|client\|.*|hello|auth)$/', $name, $m)) {
                preg_match('/^calls=(\d+)/', $value, $count);
                $calls[$m[1]] = (int) $count[1];
            }
        }

        return $calls;
    }

    /**
     * @param array<string, int> $before
     * @param array<string, int> $after
     *
     * @return array<string, int>
     */
    private static function added(array $before, array $after): array
    {
        $added = [];
        foreach ($after as $name => $count) {
            $added[$name] = $count - ($before[$name] ?? 0);
        }
        unset($added['client|list'], $added['client|id']);

        return array_filter($added);
    }
}
