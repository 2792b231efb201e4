<?php

declare(strict_types=1);

namespace ClusterLock\Tests\LifeCycle;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * Everything at once, for longer: kills, stops, cut connections, lost scripts, many waiters.
 *
 * @group slow
 */
final class ChaosTest extends TestCase
{
    /**
     * Logs the fence at the beginning and at the end of a turn, and whether the lock was kept throughout.
     * One that was stopped beyond its lease may write at any time, but then it hears that it lost the lock.
     */
    private const WORK = <<<'PHP'
        for ($turns = 0; !file_exists($stop); clearstatcache()) {
            if (!@cluster_lock('chaos', 20)) {
                continue;
            }
            $fence = cluster_lock_fence('chaos');
            file_put_contents($log, "$fence begin\n", FILE_APPEND);
            usleep(mt_rand(0, 2000));
            file_put_contents($log, "$fence end\n", FILE_APPEND);
            file_put_contents($log, "$fence " . (@cluster_unlock('chaos') ? 'kept' : 'lost') . "\n", FILE_APPEND);
            $turns++;
        }
        return $turns;
        PHP;

    public function testWhoeverWasToldThatItKeptTheLockWasAlone(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $dir = TempDir::forTest();
        $start = static function () use ($cluster, $dir): Actor {
            $actor = $cluster->actor(['cluster_lock.ttl' => '0.5', 'cluster_lock.retry_after' => '0.1']);
            $actor->beginRun(self::WORK, log: "$dir/log", stop: "$dir/stop");

            return $actor;
        };
        $actors = array_map($start, range(1, 6));
        mt_srand(42);
        for ($end = Until::now() + 25.0; Until::now() < $end; usleep(mt_rand(50_000, 250_000))) {
            $i = mt_rand(0, 5);
            switch (mt_rand(1, 4)) {
                case 1:
                    $actors[$i]->kill();
                    $actors[$i] = $start();
                    break;
                case 2:
                    $actors[$i]->process()->signal(SIGSTOP);
                    usleep(mt_rand(100_000, 900_000));
                    $actors[$i]->process()->signal(SIGCONT);
                    break;
                case 3:
                    $server->client()->do('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
                    break;
                default:
                    $server->client()->do('SCRIPT', 'FLUSH');
            }
        }
        touch("$dir/stop");
        foreach ($actors as $actor) {
            $actor->process()->signal(SIGCONT);
            $actor->end();
        }

        $this->assertHistoryIsSane(file("$dir/log", FILE_IGNORE_NEW_LINES));
    }

    /** @dataProvider backends */
    public function testAHundredWaitersAreServedInOrder(Cluster $cluster): void
    {
        $holder = $cluster->actor();
        $holder->call('cluster_lock', 'job', 0, LOCK_EX, 120);
        $waiters = [];
        for ($i = 1; $i <= 100; $i++) {
            $waiters[] = $actor = $cluster->actor();
            $actor->beginRun(
                '$got = cluster_lock("job", 120); $f = cluster_lock_fence("job"); return $got && cluster_unlock("job") ? $f : 0;'
            );
            $cluster->awaitWaiters('job', $i, 30);
        }
        $holder->call('cluster_unlock', 'job');
        $fences = array_map(static fn (Actor $a) => $a->end(60), $waiters);
        $sorted = $fences;
        sort($sorted);

        self::assertNotContains(0, $fences, 'All should get their turn');
        self::assertSame($sorted, $fences, 'in the order of their arrival');
    }

    /** @param list<string> $lines */
    private function assertHistoryIsSane(array $lines): void
    {
        $kept = array_flip(preg_filter('/^(\d+) kept$/', '$1', $lines));
        self::assertGreaterThan(0, count($kept), 'Work should have been done');
        $open = null;
        $newest = 0;
        foreach ($lines as $number => $line) {
            [$fence, $what] = explode(' ', $line);
            if (!isset($kept[$fence])) {
                continue;
            }
            if ($what === 'begin') {
                self::assertNull(
                    $open,
                    "Line $number: $fence was let in while $open was at work, and both were told that they kept it"
                );
                self::assertGreaterThan($newest, (int) $fence, "Line $number: a later holder has a greater fence");
                $open = $fence;
                $newest = (int) $fence;
            } elseif ($what === 'end') {
                self::assertSame($open, $fence, "Line $number: it ends what it began");
                $open = null;
            }
        }
    }
}
