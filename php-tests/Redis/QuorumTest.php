<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * Independent servers, of which a majority decides: real processes, and servers that die under them.
 */
final class QuorumTest extends TestCase
{
    /** @var list<RedisServer> */
    private array $servers;

    protected function setUp(): void
    {
        parent::setUp();
        $this->servers = array_map(static fn () => RedisServer::own(), [0, 1, 2]);
    }

    private function cluster(): Cluster
    {
        $hosts = array_map(static fn (RedisServer $server) => $server->address(), $this->servers);

        return Cluster::at('redis+quorum://' . implode(',', $hosts));
    }

    public function testNoUpdateIsLostWhileServersDieAndReturnEmpty(): void
    {
        $dir = TempDir::forTest();
        file_put_contents("$dir/counter", '0');
        $actors = $this->cluster()->actors(4);
        foreach ($actors as $actor) {
            $actor->beginRun(<<<'PHP'
                for ($last = 0, $turns = 0; !file_exists("$dir/enough"); $turns++) {
                    cluster_lock('counter', 60) || throw new Exception('no lock');
                    cluster_lock_fence('counter') > $last || throw new Exception('a token that is not greater');
                    $last = cluster_lock_fence('counter');
                    file_put_contents("$dir/counter", (string) ((int) file_get_contents("$dir/counter") + 1));
                    cluster_unlock('counter') || throw new Exception('lost');
                    clearstatcache();
                }
                return $turns;
                PHP, dir: $dir);
        }
        $progress = static fn () => (int) file_get_contents("$dir/counter");
        $goesOn = static function (string $why) use ($progress): void {
            $seen = $progress();
            Until::true(static fn () => $progress() > $seen + 20, $why, 60);
        };
        $goesOn('it should begin');
        foreach ([0, 1] as $i) {
            // One at a time, and each is back and asked again before the next one goes.
            $this->servers[$i]->kill();
            $goesOn('two of three should be enough');
            $this->servers[$i]->start();
            // A name says which process it is: one may have several connections before another one has any.
            $names = fn () => array_column($this->servers[$i]->client()->clients(), 'name');
            Until::true(
                static fn () => count(array_unique($names())) >= count($actors),
                'all should use the returned server again',
                60
            );
            $goesOn('three should not be too many');
        }
        touch("$dir/enough");
        $turns = array_map(static fn (Actor $actor) => $actor->end(60), $actors);

        self::assertSame(array_sum($turns), $progress(), 'Each increment should have survived');
        self::assertGreaterThan(0, min($turns), 'Everyone should have had a turn');
    }

    public function testTooFewServersAreReportedAtOnce(): void
    {
        $alice = $this->cluster()->actor(['cluster_lock.command_timeout' => 1, 'cluster_lock.connect_timeout' => 1]);
        self::assertTrue($alice->call('cluster_lock', 'job'));
        $this->servers[0]->kill();
        $this->servers[2]->signal(SIGSTOP);
        $outcome = $alice->try('cluster_lock', 'other', Until::TOO_LONG);
        $this->servers[2]->signal(SIGCONT);

        self::assertWarns($outcome, 'cluster_lock', '"other"', '/2 of 3 servers failed, and 2 are needed/');
        // For a second the one that gave no answer is not tried again.
        Until::true(static fn () => $alice->try('cluster_lock', 'other', 0)->value === true, 'two are enough again');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'The lock was held by a majority throughout');
    }

    public function testAForkedChildLeavesItsParentsLockAndConnectionsAlone(): void
    {
        $cluster = $this->cluster();
        $alice = $cluster->actor();
        $outcome = $alice->run(<<<'PHP'
            cluster_lock('job') || throw new Exception('no lock');
            for ($i = 0; $i < 5; $i++) {
                $pid = pcntl_fork();
                if ($pid === 0) {
                    $own = cluster_lock("child", 5) && cluster_unlock("child");
                    exit($own && !cluster_lock('job', 0) ? 0 : 1);
                }
                pcntl_waitpid($pid, $status);
                if (pcntl_wexitstatus($status) !== 0) {
                    return "child $i failed";
                }
            }
            return cluster_unlock('job');
            PHP);

        self::assertTrue($outcome, 'Children lock on their own, and the parent keeps what it holds');
    }

    public function testTheEndOfARequestReleasesEverywhere(): void
    {
        $cluster = $this->cluster();
        $fpm = new Fpm($cluster->settings());
        $fpm->get('cluster_lock("job"); ini_set("memory_limit", "4M"); str_repeat("x", 1 << 28);');
        foreach ($this->servers as $server) {
            Until::true(
                static fn () => Cluster::redis($server)->info('job') === null,
                'Each server should see the lock released'
            );
        }
        $cluster->assertFree('job', 'A fatal error ends what the request held');
        $status = $fpm->get('echo json_encode(cluster_lock_status());');
        self::assertSame('quorum', json_decode($status, true)['backend']);
    }

    public function testOneWriteAtATimeToAFile(): void
    {
        $file = TempDir::forTest() . '/log';
        $actors = $this->cluster()->actors(3);
        foreach ($actors as $actor) {
            $actor->beginRun(<<<'PHP'
                for ($i = 0; $i < 20; $i++) {
                    cluster_file_put_contents($file, "line\n", FILE_APPEND | LOCK_EX) === 5
                        || throw new Exception('not written');
                }
                return true;
                PHP, file: $file);
        }

        self::assertSame([true, true, true], array_map(static fn (Actor $a) => $a->end(60), $actors));
        self::assertSame(60, count(file($file)), 'No appended line is lost');
    }
}
