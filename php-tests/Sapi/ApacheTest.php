<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Sapi;

use ClusterLock\Tests\Support\Apache;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * Apache with mod_php, whose processes serve requests themselves: for all virtual hosts, until they are replaced.
 */
final class ApacheTest extends TestCase
{
    private const HOLD = <<<'PHP'
        cluster_lock('job', 60) || exit('not locked');
        echo 'held by ', getmypid(), '.';
        flush();
        await_file($_GET['file']);
        echo cluster_unlock('job') ? 'kept' : 'lost';
        PHP;

    private const WAIT = 'echo cluster_lock("job", 60) ? "got it" : "timed out";';

    public function testVirtualHostsLockEachOnItsServer(): void
    {
        $servers = ['one.test' => RedisServer::own([], 's3cret'), 'two.test' => RedisServer::own()];
        $hosts = [
            'one.test' => [
                'cluster_lock.dsn' => "redis://:s3cret@{$servers['one.test']->address()}",
                'cluster_lock.prefix' => 'one:',
            ],
            'two.test' => ['cluster_lock.dsn' => $servers['two.test']->dsn(), 'cluster_lock.prefix' => 'two:'],
        ];
        // One process serves both.
        $apache = new Apache($hosts, [], ['StartServers' => 1, 'MaxSpareServers' => 1, 'MaxRequestWorkers' => 1]);
        $code = <<<'PHP'
            $held = cluster_lock('job', 5);
            $status = cluster_lock_status();
            echo json_encode([$held, $status['dsn'], ini_get('cluster_lock.dsn'), ini_get('cluster_lock.prefix'), getmypid()]);
            PHP;
        $pids = [];
        for ($round = 1; $round <= 3; $round++) {
            foreach (['one.test' => 'one:', 'two.test' => 'two:'] as $host => $prefix) {
                $body = $apache->get($code, [], $host);
                [$held, $dsn, $shown, $set, $pids[]] = json_decode($body, true, flags: JSON_THROW_ON_ERROR);
                self::assertTrue($held, "$host locks");
                self::assertSame($prefix, $set, "$host has a prefix of its own");
                self::assertStringContainsString($servers[$host]->address(), $dsn, "$host has a server of its own");
                self::assertStringNotContainsString('s3cret', $body, 'The password is for nobody to see');
                self::assertNotSame([], $servers[$host]->client()->do('KEYS', "$prefix*"), "$host has locked there");
            }
        }
        self::assertCount(1, array_unique($pids), 'One process has served all');
        self::assertSame([], $servers['one.test']->client()->do('KEYS', 'two:*'), 'Nothing of the other host is there');
        self::assertSame([], $servers['two.test']->client()->do('KEYS', 'one:*'), 'Nothing of the other host is there');
    }

    public function testAGracefulRestartWaitsForWhoHoldsAndWhoWaits(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        // Beyond what the lease alone would last.
        $apache = new Apache([], $cluster->settings(['cluster_lock.ttl' => '1', 'cluster_lock.max_hold' => '0']));
        $go = TempDir::forTest() . '/go';
        chmod(dirname($go), 0755);
        $holder = $apache->begin(self::HOLD, ['file' => $go]);
        $holder->awaitText('.');
        $first = $apache->begin(self::WAIT);
        $cluster->awaitWaiters('job', 1);
        $before = $apache->workers();
        $info = $cluster->info('job');
        $old = [$info['holders'][0]['pid'], $info['waiters'][0]['pid']];
        self::assertSame([], array_diff($old, $before), 'Two children hold and wait');

        $apache->restartGracefully();
        Until::true(
            static function () use ($apache, $before, $old): bool {
                $left = array_intersect($before, $apache->workers());

                return array_diff($left, $old) === [] && count($left) === 2 && array_diff($apache->workers(), $before) !== [];
            },
            fn () => "all other children should be replaced: {$apache->log()}"
        );
        self::assertSame('taken', $apache->get('echo cluster_lock("job", 0) ? "free" : "taken";'), 'It is held');
        self::assertSame(
            'free',
            $apache->get('echo cluster_lock("other", 5) ? "free" : "taken";'),
            'New children lock'
        );
        $second = $apache->begin(self::WAIT);
        $cluster->awaitWaiters('job', 2);
        touch($go);
        self::assertSame("held by {$old[0]}.kept", $holder->body(), 'It kept its lock and its request');
        self::assertSame('got it', $first->body(), 'The one of before is woken');
        self::assertSame('got it', $second->body(), 'and the one of after');
        foreach ($old as $child) {
            Until::true(static fn () => !in_array($child, $apache->workers(), true), 'the old children should end');
            $cluster->awaitNoConnectionOf($child);
        }
        self::assertTrue($apache->isRunning(), $apache->log());
        $this->assertNothingInTheParent($cluster, $apache);
        $cluster->assertFree('job', 'All requests are over');
    }

    public function testTheParentStaysAsItIsOverManyRestarts(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $apache = new Apache([], $cluster->settings());
        for ($restart = 1; $restart <= 5; $restart++) {
            self::assertSame('locked', $apache->get('echo cluster_lock("job", 5) ? "locked" : "";'), "Restart $restart");
            $before = $apache->workers();
            $files[] = count(scandir("/proc/{$apache->pid()}/fd"));
            // The second kind ends the children at once.
            $restart % 2 ? $apache->restartGracefully() : $apache->signal(SIGHUP);
            Until::true(
                static fn () => array_intersect($before, $apache->workers()) === [] && $apache->workers() !== [],
                fn () => "restart $restart should replace the children: {$apache->log()}"
            );
        }
        self::assertSame('locked', $apache->get('echo cluster_lock("job", 5) ? "locked" : "";'), $apache->log());
        self::assertLessThanOrEqual($files[1], $files[4], 'No descriptor stays behind');
        $this->assertNothingInTheParent($cluster, $apache);
        self::assertStringNotContainsString('Segmentation', $apache->log());
    }

    /** Apache ends a child in its handler of the signal, in the middle of whatever PHP is doing. */
    public function testChildrenThatWaitAndHoldCanBeEnded(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $apache = new Apache([], $cluster->settings(['cluster_lock.ttl' => '1']));
        $go = TempDir::forTest() . '/go';
        chmod(dirname($go), 0755);
        $holder = $apache->begin(self::HOLD, ['file' => $go]);
        $holder->awaitText('.');
        $waiters = [];
        for ($i = 1; $i <= 2; $i++) {
            $waiters[] = $apache->begin(self::WAIT);
            $cluster->awaitWaiters('job', $i);
        }
        $next = $cluster->actor();
        $next->begin('cluster_lock', 'job', 60);
        $cluster->awaitWaiters('job', 3);
        $children = $apache->workers();
        $apache->signal(SIGTERM);
        Until::true(static fn () => !$apache->isRunning(), fn () => "Apache should end: {$apache->log()}");

        foreach ($children as $child) {
            self::assertFalse(is_dir("/proc/$child"), 'Each child has ended');
            $cluster->awaitNoConnectionOf($child);
        }
        self::assertStringNotContainsString('SIGKILL', $apache->log(), 'None had to be killed');
        self::assertDoesNotMatchRegularExpression('/exit signal (?!Terminated)/', $apache->log(), 'None has crashed');
        $holders = array_column($cluster->info('job')['holders'], 'pid');
        self::assertSame([$next->pid()], $holders, 'They have given back what they held, and their places');
        self::assertTrue($next->end(60.0));
    }

    /** Its table and the heap are half changed in there. */
    public function testAChildThatIsEndedInTheMiddleOfACallReturnsFromItFirst(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $settings = ['cluster_lock.command_timeout' => Until::PATIENCE, 'cluster_lock.ttl' => Until::PATIENCE];
        $apache = new Apache([], $cluster->settings($settings), [
            'StartServers' => 1, 'MaxSpareServers' => 1, 'MaxRequestWorkers' => 1,
        ]);
        // The next one has the connection already.
        $child = (int) $apache->get('cluster_lock("job"); echo getmypid();');
        $server->signal(SIGSTOP);
        $request = $apache->begin('cluster_lock("job"); for (;;) { usleep(1000); }');
        $unread = sprintf('/0100007F:%04X [0-9A-F]{8}:[0-9A-F]{4} 01 [0-9A-F]{8}:(?!00000000)/', $server->port);
        Until::true(
            static fn () => preg_match($unread, file_get_contents('/proc/net/tcp')) === 1,
            'the command should be sent'
        );
        posix_kill($child, SIGTERM);
        $server->signal(SIGCONT);
        Until::true(static fn () => !is_dir("/proc/$child"), fn () => "the child should end: {$apache->log()}");
        self::assertDoesNotMatchRegularExpression('/exit signal/', $apache->log());
        $cluster->assertFree('job', 'What it was given it has given back');
    }

    public function testAChildThatHasServedItsShareLeavesNothing(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $apache = new Apache([], $cluster->settings(['cluster_lock.ttl' => '60']), [
            'StartServers' => 1, 'MaxSpareServers' => 1, 'MaxRequestWorkers' => 1, 'MaxConnectionsPerChild' => 2,
        ]);
        $code = <<<'PHP'
            cluster_lock('job', 60) || exit('not locked');
            $GLOBALS['late'] = new class {
                public function __destruct()
                {
                    cluster_lock('late', 60);
                }
            };
            echo getmypid();
            PHP;
        $pids = [];
        for ($request = 0; $request < 5; $request++) {
            $pids[] = (int) $apache->get($code);
            $cluster->assertFree('job', 'The request is over');
            $cluster->assertFree('late', 'and its destructors');
        }
        self::assertGreaterThanOrEqual(3, count(array_unique($pids)), 'Each child serves two requests');
        foreach (array_diff($pids, $apache->workers()) as $pid) {
            $cluster->awaitNoConnectionOf($pid);
        }
    }

    private function assertNothingInTheParent(Cluster $cluster, Apache $apache): void
    {
        $pid = $apache->pid();
        self::assertSame([], $cluster->connections($pid), 'The parent has no connection');
        self::assertSame(["$pid"], array_values(array_diff(scandir("/proc/$pid/task"), ['.', '..'])), 'nor a thread');
    }
}
