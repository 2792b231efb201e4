<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Sapi;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * What php-fpm does with its workers: starts them when they are needed, replaces them, looks into them, ends them.
 */
final class FpmTest extends TestCase
{
    private const LOCK = 'echo cluster_lock("job", 60) ? "locked" : "timed out";';

    public function testAWorkerThatIsIdleTakesItsConnectionWithIt(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $fpm = new Fpm($cluster->settings(['cluster_lock.ttl' => '60']), 0, [
            'pm' => 'ondemand',
            'pm.max_children' => 2,
            'pm.process_idle_timeout' => '1s',
        ]);
        for ($round = 1; $round <= 2; $round++) {
            self::assertSame('locked', $fpm->get(self::LOCK), "The first request starts a worker, round $round");
            $workers = $fpm->workers();
            $cluster->assertFree('job', 'Its request is over');
            Until::true(static fn () => $fpm->workers() === [], fn () => "an idle worker should end: {$fpm->log()}");
            foreach ($workers as $worker) {
                $cluster->awaitNoConnectionOf($worker);
            }
        }
    }

    public function testAReloadWaitsForWhoHoldsAndWhoWaits(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        // Beyond what the lease alone would last.
        $fpm = new Fpm(
            $cluster->settings(['cluster_lock.ttl' => '1', 'cluster_lock.max_hold' => '0']),
            3,
            global: ['process_control_timeout' => '60s']
        );
        $before = $fpm->workers();
        $go = TempDir::forTest() . '/go';
        $holder = $fpm->begin(<<<'PHP'
            cluster_lock('job', 60) || exit('not locked');
            echo 'held.';
            flush();
            await_file($_GET['file']);
            echo cluster_unlock('job') ? 'kept' : 'lost';
            PHP, ['file' => $go]);
        $holder->awaitText('held.');
        $waiter = $fpm->begin(self::LOCK);
        $cluster->awaitWaiters('job', 1);
        $info = $cluster->info('job');
        $old = [$info['holders'][0]['pid'], $info['waiters'][0]['pid']];
        $fpm->reload();
        Until::true(
            static fn () => array_diff($fpm->workers(), $old) === [] && array_diff($old, $fpm->workers()) === [],
            fn () => "the idle worker should end, and no other: {$fpm->log()}"
        );
        // It waits in the socket for those who come after.
        $next = $fpm->begin(self::LOCK);
        $cluster->assertHeld('job', 'The request goes on');
        touch($go);
        self::assertSame('held.kept', $holder->body(), 'It was let finish');
        self::assertSame('locked', $waiter->body(), 'So was the one who waited');
        self::assertSame('locked', $next->body(), 'The workers after them lock');
        self::assertSame([], array_intersect($before, $fpm->workers()), 'They are new ones');
        foreach ($old as $worker) {
            $cluster->awaitNoConnectionOf($worker);
        }
    }

    /** As php-fpm comes, it does not wait. */
    public function testAReloadThatCutsOffWhoHoldsCostsTheOthersALease(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $fpm = new Fpm($cluster->settings(['cluster_lock.ttl' => '1']));
        // The first of its signals would end a sleep.
        $never = TempDir::forTest() . '/never';
        $holder = $fpm->begin(
            'cluster_lock("job", 60); echo "held."; flush(); await_file($_GET["file"]);',
            ['file' => $never]
        );
        $holder->awaitText('held.');
        [$old] = array_column($cluster->info('job')['holders'], 'pid');
        $fpm->reload();
        $holder->awaitEnd();
        self::assertFalse($holder->hasEnded(), 'It was cut off');
        Until::true(static fn () => !in_array($old, $fpm->workers(), true), 'the worker should be gone');
        self::assertSame('locked', $fpm->get(self::LOCK), 'The others get the lock without it');
        $cluster->awaitNoConnectionOf($old);
    }

    /** php-fpm stops the process and looks into it, by ptrace(2). */
    public function testAWaitSurvivesTheSlowLog(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $log = TempDir::forTest() . '/slow.log';
        $fpm = new Fpm($cluster->settings(), 1, ['slowlog' => $log, 'request_slowlog_timeout' => '1s']);
        $holder = $cluster->actor();
        $holder->call('cluster_lock', 'job');
        $request = $fpm->begin(self::LOCK);
        $cluster->awaitWaiters('job', 1);
        Until::true(
            static fn () => is_file($log) && str_contains(file_get_contents($log), 'cluster_lock()')
                || str_contains($fpm->log(), 'failed to ptrace'),
            fn () => "it should be in the slow log: {$fpm->log()}"
        );
        if (str_contains($fpm->log(), 'failed to ptrace')) {
            self::markTestSkipped('php-fpm may not look into its workers here');
        }
        $cluster->awaitWaiters('job', 1);
        $holder->call('cluster_unlock', 'job');

        self::assertSame('locked', $request->body(), 'The wait went on, without a word');
    }

    public function testARequestThatIsEndedWhileItWaitsIsInNobodysWay(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $fpm = new Fpm($cluster->settings(), 1, ['request_terminate_timeout' => '1s']);
        [$holder, $next] = $cluster->actors(2);
        $holder->call('cluster_lock', 'job');
        $request = $fpm->begin(self::LOCK);
        $cluster->awaitWaiters('job', 1);
        [$worker] = $fpm->workers();
        $next->begin('cluster_lock', 'job', 60);
        $request->awaitEnd();
        Until::true(static fn () => !is_dir("/proc/$worker"), fn () => "the worker should be ended: {$fpm->log()}");
        $holder->call('cluster_unlock', 'job');

        self::assertTrue($next->end(60.0), 'Who stood behind it is served');
        $next->call('cluster_unlock', 'job');
        self::assertSame('locked', $fpm->get(self::LOCK), 'The worker after it locks');
        $cluster->awaitNoConnectionOf($worker);
    }

    public function testAWorkerThatHasServedItsShareLeavesNothing(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $fpm = new Fpm($cluster->settings(['cluster_lock.ttl' => '60']), 1, ['pm.max_requests' => 2]);
        $pids = [];
        for ($request = 0; $request < 6; $request++) {
            [$locked, $pids[]] = explode(' ', $fpm->get(self::LOCK . 'echo " ", getmypid();'));
            self::assertSame('locked', $locked, "Request $request");
        }
        self::assertCount(3, array_unique($pids), 'Each worker serves two requests');
        $cluster->awaitNoConnectionOf((int) $pids[0]);
        $cluster->assertFree('job', 'All requests are over');
    }

    public function testALockTakenAfterTheResponseEndsWithTheRequest(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $fpm = new Fpm($cluster->settings(['cluster_lock.ttl' => '60']));
        $go = TempDir::forTest() . '/go';
        $body = $fpm->get(<<<'PHP'
            echo 'bye';
            fastcgi_finish_request();
            ob_start(static function (string $output) {
                cluster_lock('output', 0);
                return '';
            });
            cluster_lock('job', 0);
            await_file($_GET['file']);
            PHP, ['file' => $go]);
        self::assertSame('bye', $body, 'The client has its answer');
        Until::true(static fn () => $cluster->info('job') !== null, 'the request goes on and locks');
        touch($go);
        foreach (['job', 'output'] as $name) {
            Until::true(static fn () => $cluster->info($name) === null, "the lock \"$name\" should end with its request");
        }
        self::assertSame('locked', $fpm->get(self::LOCK), 'The next request has a clean worker');
    }

    /** The master runs it before it forks. */
    public function testPreloadedCodeLocksUntilItHasRun(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $preload = TempDir::forTest() . '/preload.php';
        file_put_contents($preload, '<?php cluster_lock("preload", 5) || exit(1); final class Preloaded {}');
        $fpm = new Fpm($cluster->settings([
            'opcache.preload' => $preload,
            'opcache.preload_user' => posix_getpwuid(posix_geteuid())['name'],
        ]), 2, [], ['posix', 'pcntl', 'opcache']);
        self::assertSame('preloaded', $fpm->get('echo class_exists("Preloaded") ? "preloaded" : "not";'), $fpm->log());
        $cluster->assertFree('preload', 'It has run');
        self::assertSame('locked', $fpm->get(self::LOCK), 'Workers lock');
    }
}
