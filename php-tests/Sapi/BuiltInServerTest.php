<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Sapi;

use ClusterLock\Tests\Support\BuiltInServer;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * PHP's own web server with several processes.
 */
final class BuiltInServerTest extends TestCase
{
    public function testItsProcessesExcludeEachOther(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $server = new BuiltInServer($cluster->settings(), 4);
        $dir = TempDir::forTest();
        file_put_contents("$dir/counter", '0');
        $holder = $server->begin(<<<'PHP'
            cluster_lock('counter', 60) || exit('not locked');
            echo getmypid(), '.';
            flush();
            await_file($_GET['file']);
            PHP, ['file' => "$dir/go"]);
        $holder->awaitText('.');
        $requests = [];
        for ($i = 1; $i <= 3; $i++) {
            $requests[] = $server->begin(<<<'PHP'
                cluster_lock('counter', 60) || exit('not locked');
                file_put_contents($_GET['file'], (string) (1 + (int) file_get_contents($_GET['file'])));
                echo getmypid();
                PHP, ['file' => "$dir/counter"]);
            $cluster->awaitWaiters('counter', $i);
        }
        $info = $cluster->info('counter');
        self::assertSame('cli-server', $info['holders'][0]['sapi'], 'It is reported as what it is');
        touch("$dir/go");
        $pids = [rtrim($holder->body(), '.')];
        foreach ($requests as $request) {
            $pids[] = $request->body();
        }

        self::assertCount(4, array_unique($pids), 'Each was in a process of its own: ' . implode(', ', $pids));
        self::assertSame('3', file_get_contents("$dir/counter"), 'No increment may be lost');
        $cluster->assertFree('counter', 'All requests are over');
    }
}
