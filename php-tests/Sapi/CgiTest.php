<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Sapi;

use ClusterLock\Tests\Support\Cgi;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * php-cgi: a FastCGI server that has forked its processes, or one process for one request.
 */
final class CgiTest extends TestCase
{
    public function testProcessesOfOneServerExcludeEachOther(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $server = new Cgi($cluster->settings(), 2);
        self::assertCount(2, $server->workers(), 'Two processes');
        $go = TempDir::forTest() . '/go';
        $holder = $server->begin(<<<'PHP'
            cluster_lock('job', 60) || exit('not locked');
            echo 'held.';
            flush();
            await_file($_GET['file']);
            PHP, ['file' => $go]);
        $holder->awaitText('held.');
        $waiter = $server->begin('echo cluster_lock("job", 60) ? "got it" : "timed out", ", ", PHP_SAPI;');
        $cluster->awaitWaiters('job', 1);
        $info = $cluster->info('job');
        self::assertSame('cgi-fcgi', $info['holders'][0]['sapi'], 'It is reported as what it is');
        self::assertNotSame($info['holders'][0]['pid'], $info['waiters'][0]['pid'], 'They are two processes');
        touch($go);

        self::assertSame('held.', $holder->body(), 'It has ended with the lock held');
        self::assertSame('got it, cgi-fcgi', $waiter->body(), 'and the other one got it');
        $cluster->assertFree('job', 'Both requests are over');
    }

    public function testAProcessThatHasServedItsShareLeavesNothing(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $settings = $cluster->settings(['cluster_lock.ttl' => '60']);
        $server = new Cgi($settings, 1, ['PHP_FCGI_MAX_REQUESTS' => '2']);
        $pids = [];
        for ($request = 0; $request < 6; $request++) {
            $pids[] = (int) $server->get('cluster_lock("job", 60) || exit("not locked"); echo getmypid();');
            $cluster->assertFree('job', 'The request is over');
        }
        self::assertGreaterThanOrEqual(3, count(array_unique($pids)), 'Each process serves two requests');
        $cluster->awaitNoConnectionOf($pids[0]);
        $server->stop();
        $cluster->awaitNoConnectionOf(end($pids));
    }

    /** @dataProvider backends */
    public function testAProcessForOneRequest(Cluster $cluster): void
    {
        $process = Cgi::once(
            'cluster_lock("job", 0) || exit("not locked"); echo "held by ", cluster_lock_info("job")["holders"][0]["sapi"];',
            $cluster->settings(['cluster_lock.ttl' => '60'])
        );
        $process->wait();

        self::assertStringEndsWith("\r\n\r\nheld by cgi-fcgi", $process->output(), $process->transcript());
        $cluster->assertFree('job', 'The process has ended');
    }
}
