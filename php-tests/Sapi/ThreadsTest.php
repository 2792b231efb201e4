<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Sapi;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Embed;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * Many threads of PHP in one process, as FrankenPHP has them: each is a request of its own, and they share connections and
 * renewals.
 */
final class ThreadsTest extends TestCase
{
    private const THREADS = 8;

    private const REQUESTS = 25;

    /** Counts up, and leaves every kind of lock behind. */
    private const REQUEST = <<<'PHP'
        cluster_lock_status()['held'] === [] || exit(1);
        cluster_lock('counter', 60) || exit(2);
        $turn = 1 + (int) file_get_contents(COUNTER);
        file_put_contents(COUNTER, (string) $turn);
        cluster_unlock('counter') || exit(3);
        cluster_lock("own $turn", 0) || exit(4);
        $object = new ClusterLock('in turn', LOCK_EX, 0.2);
        $object->acquire(60) || exit(5);
        $stream = fopen(COUNTER . '.lock', 'c');
        cluster_flock($stream, LOCK_SH) || exit(6);
        if ($turn % 50 === 0) {
            // One thread renews for all.
            usleep(500_000);
            $object->isHeld() || exit(7);
        }
        if ($turn % 10 === 0) {
            exit(0);
        }
        PHP;

    protected function setUp(): void
    {
        parent::setUp();
        if (!PHP_ZTS) {
            self::markTestSkipped('This PHP has no threads');
        }
    }

    /**
     * @dataProvider modes
     */
    public function testThreadsExcludeEachOtherAndLeaveNothing(string $mode, string $code): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $counter = TempDir::forTest() . '/counter';
        file_put_contents($counter, '0');
        $code = 'defined("COUNTER") || define("COUNTER", ' . var_export($counter, true) . ");\n" . $code;
        // The second time PHP starts in a process in which there have been threads.
        $program = Embed::run($code, $cluster->settings(['cluster_lock.ttl' => '60']), $mode, self::THREADS, self::REQUESTS, 2);

        self::assertSame(0, $program->wait(300.0), $program->transcript());
        self::assertSame((string) (2 * self::THREADS * self::REQUESTS), file_get_contents($counter), $program->transcript());
        $cluster->assertClean($program);
    }

    /** @return array<string, array{string, string}> */
    public static function modes(): array
    {
        return [
            'a request each' => ['requests', self::REQUEST],
            'worker mode' => ['worker', 'while (frankenphp_handle_request(static function () { ' . self::REQUEST . ' })) {}'],
        ];
    }
}
