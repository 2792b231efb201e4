<?php

declare(strict_types=1);

namespace ClusterLock\Tests\LifeCycle;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * However a request ends, its locks are free at once: in cli and in php-fpm.
 */
final class RequestEndTest extends TestCase
{
    /** How it ends => exit code, what it says at the end. */
    private const ENDS = [
        'return' => [0, ''],
        'exit' => [3, ''],
        'exit in a callback' => [3, ''],
        'exit in a destructor' => [3, ''],
        'exception' => [255, 'nobody catches this'],
        'exception in a callback' => [255, 'nobody catches this'],
        'fatal error' => [255, 'Fatal error: the end'],
        'fatal error in a callback' => [255, 'Fatal error: the end'],
        'compile error' => [255, 'declare class A'],
        'memory limit' => [255, 'Allowed memory size'],
        'memory limit in recursion' => [255, 'Allowed memory size'],
        'time limit' => [255, 'Maximum execution time'],
        'time limit in a callback' => [255, 'Maximum execution time'],
        'lock in a shutdown function' => [0, ''],
        'lock in a late destructor' => [0, ''],
    ];

    private const NAMES = [
        'function',
        'nested',
        'shared',
        'object',
        'cycle',
        'callback',
        'destructor',
        'shutdown',
        'late',
        'late object',
    ];

    /** @return iterable<string, array{Cluster, string, int, string}> */
    public static function ends(): iterable
    {
        foreach (self::ENDS as $how => [$code, $message]) {
            foreach (Cluster::backends() as $backend => [$cluster]) {
                yield "$how on $backend" => [$cluster, $how, $code, $message];
            }
        }
    }

    /** @dataProvider ends */
    public function testACommandLeavesNoLock(Cluster $cluster, string $how, int $code, string $message): void
    {
        $file = dirname(__DIR__) . '/fixtures/ends.php';
        $process = PhpProcess::file($file, $cluster->settings(['cluster_lock.ttl' => '60']), [$how]);

        // A time limit counts the processor's time, of which a busy machine gives little.
        self::assertSame($code, $process->wait(60.0), "The exit code should be as ever.\n" . $process->transcript());
        self::assertStringStartsWith("all held\n", $process->output(), 'It should have held its locks');
        self::assertStringContainsString($message, $process->errors(), "PHP's own message should be as ever");
        self::assertStringNotContainsString(
            'luster_lock',
            // The project's folder may have its name. A debug build of PHP names its own source, too.
            preg_replace(['/cluster_lock-/', '/ at \S+:\d+ \(/'], '', str_replace(dirname(__DIR__, 2), '', $process->errors())),
            'There is nothing to warn of'
        );
        $this->assertAllFree($cluster, $how);
    }

    /**
     * PHP may end a script only when the function that comes next has returned.
     *
     * @dataProvider calls
     */
    public function testAScriptOverItsMemoryLimitGoesNoFurtherThanItsNextCall(string $call): void
    {
        $cluster = Cluster::redis();
        $process = PhpProcess::code(<<<PHP
            \$file = tempnam(sys_get_temp_dir(), 'cl');
            register_shutdown_function('unlink', \$file);
            \$object = new ClusterLock('object');
            \$half = str_repeat('x', 1_500_000);
            ini_set('memory_limit', (string) (memory_get_usage(true) + 1_000_000));
            \$whole = \$half . \$half;
            $call;
            say('gone on');
            PHP, $cluster->settings());

        self::assertSame(255, $process->wait(60.0), $process->transcript());
        self::assertStringContainsString('Allowed memory size', $process->errors());
        self::assertStringNotContainsString('gone on', $process->output());
        $cluster->assertFree('job', 'The script is over');
    }

    /** At twice the limit PHP would end the process, and leave the locks to their leases. */
    public function testAListThatIsTooLongForTheMemoryLimitEndsTheScriptAsEver(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $process = PhpProcess::code(<<<'PHP'
            for ($i = 0; $i < 3000; $i++) {
                cluster_lock(str_repeat('k', 100) . $i, 0) || exit(1);
            }
            ini_set('memory_limit', (string) (memory_get_usage(true) + 100_000));
            cluster_lock_list('', 10_000);
            PHP, $cluster->settings(['cluster_lock.ttl' => 60]));

        self::assertSame(255, $process->wait(60.0), $process->transcript());
        self::assertStringContainsString('Allowed memory size', $process->errors());
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'The script is over');
    }

    /** @return array<string, array{string}> */
    public static function calls(): array
    {
        $calls = ['cluster_lock("job")', 'cluster_synchronized("job", fn () => say("gone on"))', '$object->acquire()',
            'cluster_file_put_contents($file, "x", LOCK_EX)'];

        return array_combine($calls, array_map(static fn (string $call) => [$call], $calls));
    }

    /** @dataProvider ends */
    public function testARequestToFpmLeavesNoLock(Cluster $cluster, string $how, int $code, string $message): void
    {
        $fpm = new Fpm($cluster->settings(['cluster_lock.ttl' => '60']));
        for ($request = 1; $request <= 2; $request++) {
            $body = $fpm->beginFile(dirname(__DIR__) . '/fixtures/ends.php', ['how' => $how])->body();

            self::assertStringStartsWith("all held\n", $body, "Request $request should have held its locks");
            self::assertStringContainsString($message, $body, "PHP's own message should be as ever");
            $this->assertAllFree($cluster, "$how, request $request");
        }
        self::assertStringNotContainsString('exited', $fpm->log(), 'The worker should have survived');
    }

    /** @dataProvider backends */
    public function testAClientThatGoesAwayLeavesNoLock(Cluster $cluster): void
    {
        $fpm = new Fpm($cluster->settings(['cluster_lock.ttl' => '60']));
        $request = $fpm->begin(<<<'PHP'
            cluster_lock('job', 0) || exit('not locked');
            while (true) {
                echo str_repeat('x', 4096), 'held';
                flush();
                usleep(10000);
            }
            PHP);
        $request->awaitText('held');
        $cluster->assertHeld('job', 'The request runs');
        $request->abort();

        self::assertTrue(
            $cluster->observer()->call('cluster_lock', 'job', 10),
            'The end of the client is the end of the lock'
        );
    }

    /** @dataProvider backends */
    public function testTheWorkAfterTheResponseStillHolds(Cluster $cluster): void
    {
        $fpm = new Fpm($cluster->settings());
        $file = TempDir::forTest() . '/go';
        $request = $fpm->begin(<<<'PHP'
            cluster_lock('job', 0) || exit('not locked');
            echo 'bye';
            fastcgi_finish_request();
            await_file($_GET['file']);
            PHP, ['file' => $file]);
        self::assertSame('bye', $request->body(), 'The client has its answer');
        $cluster->assertHeld('job', 'The request works on after fastcgi_finish_request()');
        touch($file);

        self::assertTrue(
            $cluster->observer()->call('cluster_lock', 'job', 10),
            'The end of the request is the end of the lock'
        );
    }

    /** @dataProvider backends */
    public function testTheNextRequestOfTheWorkerStartsClean(Cluster $cluster): void
    {
        $fpm = new Fpm($cluster->settings());
        $first = $fpm->get('$_ = cluster_lock("job", 0); ini_set("cluster_lock.ttl", "77"); echo getmypid();');
        $second = json_decode($fpm->get(<<<'PHP'
            echo json_encode([
                'pid' => getmypid(),
                'fence' => cluster_lock_fence('job'),
                'held' => cluster_lock_status()['held'],
                'ttl' => ini_get('cluster_lock.ttl'),
                'unlock' => @cluster_unlock('job'),
                'lock' => cluster_lock('job', 0),
            ]);
            PHP), true);

        self::assertSame(
            ['pid' => (int) $first, 'fence' => null, 'held' => [], 'ttl' => '10', 'unlock' => false, 'lock' => true],
            $second,
            'Nothing of the first request is left in its worker'
        );
    }

    /** @dataProvider backends */
    public function testAWaiterInFpmIsServedAndReported(Cluster $cluster): void
    {
        $fpm = new Fpm($cluster->settings(['cluster_lock.node' => 'web-1']), 2);
        $alice = $cluster->actor();
        $alice->call('cluster_lock', 'job');
        $request = $fpm->begin(
            'echo json_encode([cluster_lock("job", 20), cluster_lock_info("job")["holders"][0]]);',
            ['secret' => 'q']
        );
        $cluster->awaitWaiters('job', 1);
        $waiter = $cluster->info('job')['waiters'][0];
        self::assertSame('web-1', $waiter['node'], 'The waiter is at its node');
        self::assertContains($waiter['pid'], $fpm->workers(), 'It is a worker');
        $alice->call('cluster_unlock', 'job');
        [$got, $holder] = json_decode($request->body(), true);

        self::assertTrue($got, 'The request gets it');
        self::assertSame('fpm-fcgi', $holder['sapi'], 'sapi');
        self::assertStringStartsWith('/page/', $holder['request_uri'], 'request_uri');
        self::assertStringNotContainsString('secret', $holder['request_uri'], 'The query string may be private');
        self::assertStringEndsWith('.php', $holder['script'], 'script');
    }

    private function assertAllFree(Cluster $cluster, string $how): void
    {
        $free = $cluster->observer()->run(<<<'PHP'
            $free = [];
            foreach ($names as $name) {
                if (cluster_lock($name, 0)) {
                    $free[] = $name;
                    cluster_unlock($name);
                }
            }
            return $free;
            PHP, names: self::NAMES);

        self::assertSame(self::NAMES, $free, "All should be free at once after: $how");
    }
}
