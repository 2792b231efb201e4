<?php

declare(strict_types=1);

namespace ClusterLock\Tests\LifeCycle;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * An fpm worker connects with its first lock, and then keeps its connections.
 */
final class FpmWorkerTest extends TestCase
{
    /** Threads and sockets of the worker that runs this. */
    private const RESOURCES = <<<'PHP'
        $sockets = 0;
        foreach (scandir('/proc/self/fd') as $fd) {
            $sockets += (int) str_starts_with((string) @readlink("/proc/self/fd/$fd"), 'socket:');
        }
        $resources = [count(scandir('/proc/self/task')) - 2, $sockets];
        PHP;

    public function testNothingIsOpenedBeforeTheFirstLock(): void
    {
        $server = RedisServer::own();
        $fpm = new Fpm(Cluster::redis($server)->settings());
        $look = self::RESOURCES . 'echo json_encode($resources);';
        [$threads, $sockets] = json_decode($fpm->get($look));
        $fpm->get(
            'phpinfo(); cluster_lock_status(); cluster_lock_fence("job"); $lock = new ClusterLock("job"); $lock->isHeld();'
        );
        $before = json_decode($fpm->get($look));
        self::assertSame(1, $threads, 'A worker without a lock has one thread');
        self::assertSame([$threads, $sockets], $before, 'Looking opens nothing');
        self::assertSame([], $server->client()->clients(), 'The server has seen nobody');

        $during = json_decode($fpm->get('$_ = cluster_lock("job");' . self::RESOURCES . 'echo json_encode($resources);'));
        self::assertLessThanOrEqual($threads + 1, $during[0], 'The first lock may start one thread');
        self::assertGreaterThan($sockets, $during[1], 'The first lock connects');
        self::assertLessThanOrEqual($sockets + 2, $during[1], 'One connection for locks and one for renewals');
    }

    public function testTheMasterNeverConnects(): void
    {
        $server = RedisServer::own();
        $fpm = new Fpm(Cluster::redis($server)->settings(), 3);
        self::assertCount(3, $fpm->workers(), 'Three workers');

        self::assertSame([], $server->client()->clients(), 'Starting workers connects nothing');
    }

    public function testAThousandRequestsNeedNoNewConnection(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $fpm = new Fpm($cluster->settings());
        $lock = 'echo json_encode([cluster_lock("job", 5), cluster_unlock("job"), cluster_lock("left to the end", 5)]);';
        for ($i = 0; $i < 3; $i++) {
            $fpm->get($lock);
        }
        $before = (int) $server->client()->info('stats')['total_connections_received'];
        for ($i = 0; $i < 1000; $i++) {
            self::assertSame('[true,true,true]', $fpm->get($lock), "Request $i should get its locks");
        }

        self::assertSame(
            $before,
            (int) $server->client()->info('stats')['total_connections_received'],
            'Connections opened'
        );
        self::assertLessThanOrEqual(2, count($server->client()->clients()), 'Connections of one worker');
    }

    public function testWorkersShareTheLoadFairly(): void
    {
        $cluster = Cluster::redis();
        $file = TempDir::forTest() . '/counter';
        file_put_contents($file, '0');
        $fpm = new Fpm($cluster->settings(), 4);
        $code = <<<'PHP'
            cluster_lock('counter', 20) || exit('no lock');
            file_put_contents($_GET['file'], (string) (1 + (int) file_get_contents($_GET['file'])));
            echo cluster_unlock('counter') ? 'ok' : 'lost';
            PHP;
        $done = 0;
        for ($round = 0; $round < 50; $round++) {
            $requests = [];
            for ($i = 0; $i < 4; $i++) {
                $requests[] = $fpm->begin($code, ['file' => $file]);
            }
            foreach ($requests as $request) {
                self::assertSame('ok', $request->body(), 'Each request should get its turn');
                $done++;
            }
        }

        self::assertSame((string) $done, file_get_contents($file), 'No increment may be lost');
    }

    public function testATerminatedRequestIsFreeWhenItsLeaseIsOver(): void
    {
        $cluster = Cluster::redis();
        $fpm = new Fpm($cluster->settings(['cluster_lock.ttl' => '1']), 1, ['request_terminate_timeout' => '1s']);
        $cluster->observer();
        $waiter = $cluster->actor();
        $request = $fpm->begin('$_ = cluster_lock("job", 0); echo "held"; flush(); sleep(60);');
        $request->awaitText('held');
        $worker = $cluster->info('job')['holders'][0]['pid'];
        $waiter->begin('cluster_lock', 'job', 30);
        $cluster->awaitWaiters('job', 1);
        $request->awaitEnd();
        Until::true(static fn () => !is_dir("/proc/$worker"), 'fpm should have killed the worker');

        self::assertTrue($waiter->end(), 'The lease of a killed worker runs out');
        self::assertSame(
            'free',
            $fpm->get('echo cluster_lock("other", 0) ? "free" : "taken";'),
            'The new worker works'
        );
    }

    public function testAGracefulReloadLeavesNoLock(): void
    {
        $cluster = Cluster::redis();
        $fpm = new Fpm($cluster->settings(['cluster_lock.ttl' => '60']));
        $fpm->get('$_ = cluster_lock("job", 0);');
        $fpm->stop();

        $cluster->assertFree('job', 'The request has ended, and then fpm');
    }
}
