<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Sapi;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Embed;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * FrankenPHP's worker mode: one script serves many requests, between which PHP calls no extension and frees nothing. Each
 * is a request all the same: what it has locked ends with it, and the next one knows nothing of it.
 */
final class WorkerModeTest extends TestCase
{
    /** Does in each request what it is told, and says "over" when the request is. */
    private const WORKER = <<<'PHP'
        const SCRIPT = __FILE__;
        $kept = new stdClass();
        say('started');
        hear() === 'locked' && (cluster_lock('boot', 0) || exit(3));
        say('booted');
        while (frankenphp_handle_request(static function () use ($kept) {
            say(json_encode(eval(hear())));
        })) {
            say('over');
            eval(hear());
        }
        PHP;

    /** @dataProvider backends */
    public function testWhatARequestHasLockedEndsWithIt(Cluster $cluster): void
    {
        $worker = $this->worker($cluster);
        $this->request($worker, <<<'PHP'
            $kept->object = new ClusterLock('object');
            return [cluster_lock('function', 0), cluster_lock('nested', 0) && cluster_lock('nested', 0),
                cluster_lock('shared', 0, LOCK_SH), $kept->object->acquire(0)];
            PHP, [true, true, true, true]);
        foreach (['function', 'nested', 'shared', 'object'] as $name) {
            $cluster->assertFree($name, "The request that has locked \"$name\" is over");
        }
        $this->between($worker);
        $this->request($worker, <<<'PHP'
            return [cluster_lock_status()['held'], cluster_lock_fence('function'), @cluster_unlock('nested'),
                $kept->object->isHeld(), $kept->object->acquire(0), $kept->object->isHeld()];
            PHP, [[], null, false, false, true, true]);
        $cluster->assertFree('object', 'Nor is it held any longer by an object that lives on');
    }

    /** @dataProvider backends */
    public function testTheOneWhoWaitsIsServedAtItsEnd(Cluster $cluster): void
    {
        $worker = $this->worker($cluster);
        $waiter = $cluster->actor();
        $worker->tell($this->line('cluster_lock("job", 0); say("held"); hear(); return 1;'));
        $worker->expect('held');
        $waiter->begin('cluster_lock', 'job', 60);
        $cluster->awaitWaiters('job', 1);
        $worker->tell('end');
        $worker->expect('1');
        $worker->expect('over');

        self::assertTrue($waiter->end(60.0), 'The end of the request is the end of the lock');
    }

    public function testEachRequestIsReportedAsItself(): void
    {
        $cluster = Cluster::redis();
        $worker = $this->worker($cluster);
        for ($request = 1; $request <= 3; $request++) {
            $this->request($worker, <<<'PHP'
                cluster_lock("job", 0);
                $holder = cluster_lock_info("job")["holders"][0];
                return [$holder["request_uri"], $holder["script"] === SCRIPT];
                PHP, ["/request/$request", true]);
            $this->between($worker);
        }
    }

    /** @dataProvider backends */
    public function testWhatWasLockedBetweenRequestsEndsWhenTheNextBegins(Cluster $cluster): void
    {
        $worker = $this->worker($cluster);
        $this->request($worker, 'return 1;', 1);
        $this->between($worker, 'cluster_lock("between", 0) || exit(3);');
        $this->request($worker, 'return [cluster_lock_status()["held"], cluster_lock_fence("between")];', [[], null]);
        $cluster->assertFree('between', 'It was nobody\'s any more');
    }

    /** @dataProvider backends */
    public function testWhatWasLockedBetweenRequestsIsNotHeldWhileTheNextIsWaitedFor(Cluster $cluster): void
    {
        $fifo = TempDir::forTest() . '/come';
        posix_mkfifo($fifo, 0600);
        $worker = $this->worker($cluster, come: $fifo);
        // Later than the worker, which would inherit it.
        $come = fopen($fifo, 'r+');
        $this->request($worker, 'return 1;', 1);
        fclose($come);
        $this->between($worker, 'say(cluster_lock("between", 0));');
        $worker->expect('true');

        self::assertTrue($cluster->actor()->call('cluster_lock', 'between', 30), 'The script waits for a request');
        $come = fopen($fifo, 'r+');
        $this->request($worker, 'return [cluster_lock_status()["held"], cluster_lock_fence("between")];', [[], null]);
        fclose($come);
    }

    /** @dataProvider backends */
    public function testWhatTheScriptHasLockedBeforeEndsWithItsFirstRequest(Cluster $cluster): void
    {
        $worker = $this->worker($cluster, 'locked');
        $this->request($worker, 'return [cluster_lock_status()["held"], cluster_lock_fence("boot")];', [[], null]);
        $cluster->assertFree('boot', 'The script has gone on to serve requests');
    }

    /** It is written, by code of the user's, before the request has ended. */
    public function testWhatASessionHasLockedIsHeldUntilItIsWritten(): void
    {
        $cluster = Cluster::redis();
        $worker = $this->worker($cluster);
        for ($request = 1; $request <= 2; $request++) {
            $worker->tell($this->line(<<<'PHP'
                session_set_save_handler(new class implements SessionHandlerInterface {
                    public function open(string $path, string $name): bool { return true; }
                    public function read(string $id): string { return cluster_lock("session $id", 5) ? '' : 'none'; }
                    public function write(string $id, string $data): bool
                    {
                        say(cluster_lock_fence("session $id") === null ? 'too late' : "written $data");
                        return cluster_unlock("session $id");
                    }
                    public function close(): bool { return true; }
                    public function destroy(string $id): bool { return true; }
                    public function gc(int $lifetime): int { return 0; }
                }, false);
                session_id('abc');
                $started = session_start(['use_cookies' => false, 'cache_limiter' => '']);
                $_SESSION['seen'] = 1;
                return $started;
                PHP));
            $worker->expect('true');
            $worker->expect('written seen|i:1;');
            $worker->expect('over');
            $cluster->assertFree('session abc', "It is written, request $request");
            $this->between($worker);
        }
    }

    /** PHP closes no stream at the end of such a request: as the kernel's lock does, ours lasts until somebody does. */
    public function testALockOnAFileLastsAsLongAsItsStream(): void
    {
        $cluster = Cluster::redis();
        $file = TempDir::forTest() . '/file';
        touch($file);
        $worker = $this->worker($cluster, settings: ['cluster_lock.path_map' => dirname($file) . '=/shared']);
        $open = '$own = fopen(' . var_export($file, true) . ', "c");';
        $this->request($worker, "$open return cluster_flock(\$own, LOCK_EX);", true);
        $cluster->assertFree('file:/shared/file', 'The stream has ended with the call');
        $this->between($worker);
        $this->request($worker, "$open \$kept->file = \$own; return cluster_flock(\$own, LOCK_EX);", true);
        $cluster->assertHeld('file:/shared/file', 'The script has the stream still');
        $this->between($worker);
        $this->request($worker, 'return [fclose($kept->file), cluster_lock_status()["held"]];', [true, []]);
        $cluster->assertFree('file:/shared/file', 'It is closed');
    }

    /** @dataProvider ends */
    public function testHoweverARequestEndsItLeavesNoLock(string $end, string $next): void
    {
        $cluster = Cluster::redis();
        $worker = $this->worker($cluster, settings: ['display_errors' => 0]);
        $worker->tell($this->line("cluster_lock('job', 0); \$kept->object = new ClusterLock('object');"
            . "\$kept->object->acquire(0); say('held'); hear(); $end"));
        $worker->expect('held');
        $worker->tell('end');
        // The program starts the script anew, unless it has survived.
        $worker->expect($next);
        $cluster->assertFree('job', "Its request has ended by $end");
        $cluster->assertFree('object', "Its request has ended by $end");
        $worker->tell('');
        if ($next === 'started') {
            $worker->expect('booted');
        }
        $this->request($worker, 'return cluster_lock_status()["held"];', []);
    }

    /** @return array<string, array{string, string}> code, and what is said next */
    public static function ends(): array
    {
        return [
            'exit' => ['exit(0);', 'started'],
            'an exception' => ['throw new Exception("nobody catches this");', 'over'],
            'a fatal error' => ['trigger_error("the end", E_USER_ERROR);', 'started'],
            'the memory limit' => ['ini_set("memory_limit", "8M"); return str_repeat("x", 50_000_000);', 'started'],
        ];
    }

    /** @dataProvider backends */
    public function testAThreadThatIsToEndLeavesNoLockAndNoPlaceInTheQueue(Cluster $cluster): void
    {
        $worker = $this->worker($cluster, settings: ['display_errors' => 0]);
        $holder = $cluster->actor();
        $holder->call('cluster_lock', 'job');
        $worker->tell($this->line('cluster_lock("held", 0); say("waits"); return cluster_lock("job", 600);'));
        $worker->expect('waits');
        $cluster->awaitWaiters('job', 1);
        $worker->signal(SIGUSR1);
        $worker->expect('started');
        $cluster->awaitWaiters('job', 0);
        $cluster->assertFree('held', 'Its request was ended');
        $holder->call('cluster_unlock', 'job');
        $cluster->assertFree('job', 'Nobody waits any more');
        $worker->tell('');
        $worker->expect('booted');
        $this->request($worker, 'return cluster_lock("job", 0);', true);
    }

    /** @param array<string, string|int|float> $settings */
    private function worker(Cluster $cluster, string $boot = '', array $settings = [], ?string $come = null): PhpProcess
    {
        $worker = Embed::run(self::WORKER, $cluster->settings($settings), 'worker', 0, 5, 1, $come);
        $worker->expect('started');
        $worker->tell($boot);
        $worker->expect('booted');

        return $worker;
    }

    private function request(PhpProcess $worker, string $code, mixed $expected): void
    {
        $worker->tell($this->line($code));
        self::assertSame(json_encode($expected), $worker->line(), $worker->transcript());
        $worker->expect('over');
    }

    private function between(PhpProcess $worker, string $code = ''): void
    {
        $worker->tell($this->line($code));
    }

    private function line(string $code): string
    {
        return preg_replace('/\s*\n\s*/', ' ', $code);
    }
}
