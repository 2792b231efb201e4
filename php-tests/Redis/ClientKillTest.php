<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * Connections are cut: a lock is not a connection.
 */
final class ClientKillTest extends TestCase
{
    public function testAHolderKeepsItsLock(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $alice = $cluster->actor();
        $alice->call('cluster_lock', 'job');
        for ($i = 0; $i < 3; $i++) {
            self::killAll($server);
            $cluster->assertHeld('job', 'Its connection was cut, its lease was not');
        }

        self::assertIsInt($alice->call('cluster_lock_fence', 'job'), 'Alice knows nothing of a loss');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'It was held throughout');
        $cluster->assertFree('job', 'It was unlocked');
    }

    public function testALeaseIsRenewedOverANewConnection(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $alice = $cluster->actor(['cluster_lock.ttl' => '1']);
        $alice->call('cluster_lock', 'job');
        for ($end = Until::now() + 2.5; Until::now() < $end; usleep(250_000)) {
            self::killAll($server);
            $cluster->assertHeld('job', 'Alice holds it throughout');
        }

        self::assertTrue($alice->call('cluster_unlock', 'job'), 'It was never lost');
    }

    public function testAWaiterStillGetsIt(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        $bob->begin('cluster_lock', 'job', 30);
        $cluster->awaitWaiters('job', 1);
        for ($i = 0; $i < 3; $i++) {
            self::awaitSleeper($server);
            self::killAll($server);
        }
        self::awaitSleeper($server);
        self::assertFalse($bob->isDone(), 'Bob waits on');
        $alice->call('cluster_unlock', 'job');

        self::assertTrue($bob->end(), 'Bob still gets it');
    }

    public function testAWaiterThatIsCutAtTheHandOffStillGetsIt(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        [$alice, $bob] = $cluster->actors(2);
        for ($i = 0; $i < 5; $i++) {
            $alice->call('cluster_lock', 'job', 0);
            $bob->begin('cluster_lock', 'job', 30);
            $cluster->awaitWaiters('job', 1);
            $alice->begin('cluster_unlock', 'job');
            self::killAll($server);
            // The outcome of a command that was cut is settled before it is reported.
            self::assertTrue($alice->end(), 'Alice held it throughout');
            self::assertTrue($bob->end(), 'Bob still gets it');
            self::assertTrue($bob->call('cluster_unlock', 'job'), 'and holds it');
        }
    }

    public function testALoopOfLocksIsNotDisturbed(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $dir = TempDir::forTest();
        $actors = $cluster->actors(3);
        foreach ($actors as $number => $actor) {
            $actor->beginRun(<<<'PHP'
                for ($turns = 1; !file_exists("$dir/stop"); $turns++) {
                    cluster_lock('job', 30) || throw new Exception('no lock');
                    cluster_unlock('job') || throw new Exception('lost');
                    file_put_contents("$dir/$number", (string) $turns);
                }
                PHP, dir: $dir, number: $number);
        }
        // The next cut comes when each has had a whole turn after the last one: a call survives one, not any number.
        $turns = static fn (int $number) => (int) @file_get_contents("$dir/$number");
        for ($cuts = 0; $cuts < 25; $cuts++) {
            $seen = array_map($turns, array_keys($actors));
            self::killAll($server);
            foreach ($actors as $number => $actor) {
                Until::true(
                    static fn () => $turns($number) >= $seen[$number] + 2 || $actor->isDone(),
                    'each should go on after a cut'
                );
            }
        }
        touch("$dir/stop");
        foreach ($actors as $actor) {
            $actor->end();
        }
        $cluster->assertFree('job', 'All have unlocked');
    }

    /** Waits until a client sleeps in the server. */
    private static function awaitSleeper(RedisServer $server): void
    {
        Until::true(
            static fn () => array_filter(
                $server->client()->clients(),
                static fn (array $c) => str_contains($c['flags'], 'b')
            ),
            'a waiter should sleep in the server'
        );
    }

    private static function killAll(RedisServer $server): void
    {
        $server->client()->do('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    }
}
