<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use Cluster_Lock\Waits;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * What a request that waited leaves behind; with real processes and a real server.
 */
final class WaitRecorderTest extends TestCase
{
    private RedisServer $redis;
    private string $options;

    protected function setUp(): void
    {
        $this->redis = RedisServer::own();
        $this->options = TempDir::forTest() . '/options';
    }

    public function testARequestThatDidNotWaitLeavesNothing(): void
    {
        $request = $this->request('cluster_lock("free") && cluster_unlock("free");');
        self::assertSame(0, $request->wait(), $request->transcript());
        self::assertFileDoesNotExist($this->options);
        self::assertSame('', $request->errors());
    }

    public function testOneTryIsNoWait(): void
    {
        $this->holder('taken');
        // On a busy machine a try may take as long as a wait that is counted; then it is one.
        for ($tries = 0; $tries < 50; ++$tries) {
            @unlink($this->options);
            $request = $this->request('$locked = cluster_lock("taken", 0); say(cluster_lock_status()["counters"]["wait_total"]);');
            $took = (float) $request->line();
            self::assertSame(0, $request->wait(), $request->transcript());
            if ($took < 0.01) {
                self::assertGreaterThan(0.0, $took);
                self::assertFileDoesNotExist($this->options);

                return;
            }
            self::assertFileExists($this->options);
        }
        self::fail('No try was quick');
    }

    public function testAWaitIsCountedWithItsRequest(): void
    {
        $holder = $this->holder('taken');
        $request = $this->request('say("going"); say(cluster_lock("taken"));');
        $request->expect('going');
        $this->awaitWaiter('taken');
        // The wait is to last for longer than a hand-off does, which is not counted.
        usleep(50_000);
        $holder->tell('unlock');
        $request->expect('true');
        self::assertSame(0, $request->wait(), $request->transcript());

        $totals = $this->stored()->totals(time(), 2);
        self::assertSame([1, 1, 0], [$totals['requests'], $totals['waits'], $totals['timed_out']]);
        self::assertGreaterThanOrEqual(0.05, $totals['seconds']);
        self::assertSame([], $this->stored()->slow(), 'slow_wait is an hour here');
    }

    public function testGivingUpIsRemembered(): void
    {
        $this->holder('taken');
        $request = $this->request('$_SERVER["REQUEST_URI"] = "/x?key=s3cret"; say(cluster_lock("taken", 0.05));');
        $request->expect('false');
        self::assertSame(0, $request->wait(), $request->transcript());

        $slow = $this->stored()->slow();
        self::assertCount(1, $slow);
        self::assertSame(['node-w', 1], [$slow[0]['node'], $slow[0]['timed_out']]);
        self::assertStringNotContainsString('s3cret', (string) file_get_contents($this->options));
    }

    /** Its lock is taken: the count is lost, the request is not kept. */
    public function testNeverWaitsToCount(): void
    {
        $this->holder('taken');
        $this->holder('wp:cluster_lock_waits');
        $request = $this->request('say(cluster_lock("taken", 0.05));');
        $request->expect('false');
        self::assertSame(0, $request->wait(), $request->transcript());
        self::assertFileDoesNotExist($this->options);
        self::assertSame('', $request->errors());
    }

    public function testAServerThatIsGoneMeanwhileIsNoFault(): void
    {
        $this->holder('taken');
        $request = $this->request('say(cluster_lock("taken", 0.05)); hear();');
        $request->expect('false');
        $this->redis->kill();
        $request->tell('end');
        self::assertSame(0, $request->wait(), $request->transcript());
        self::assertSame('', $request->errors());
    }

    /** Several nodes at once: each count that was written is in the sum. */
    public function testConcurrentRequestsDoNotUndoEachOther(): void
    {
        $this->holder('taken');
        $requests = [];
        for ($i = 0; $i < 8; ++$i) {
            $requests[] = $this->request('$GLOBALS["say_written"] = true; say(cluster_lock("taken", 0.05)); hear();');
        }
        foreach ($requests as $request) {
            $request->expect('false');
        }
        foreach ($requests as $request) {
            $request->tell('end');
        }
        $written = 0;
        foreach ($requests as $request) {
            self::assertSame(0, $request->wait(), $request->transcript());
            $written += substr_count($request->output(), 'written');
        }
        self::assertGreaterThan(0, $written);
        self::assertSame($written, $this->stored()->totals(time(), 2)['requests']);
    }

    /** Under php-fpm the answer is sent before the count is written, so that there is time for it. */
    public function testVisitorsWhoGiveUpAtOnceAreAllCounted(): void
    {
        $fpm = new Fpm(['cluster_lock.dsn' => $this->redis->dsn(), 'cluster_lock.slow_wait' => '3600'], 12);
        $this->holder('taken');
        $code = $this->recorded('echo json_encode(cluster_lock("taken", 0.3));');
        $requests = array_map(static fn () => $fpm->begin($code), range(1, 12));
        foreach ($requests as $request) {
            self::assertSame('false', $request->body());
        }
        $count = fn (): int => is_file($this->options) ? $this->stored()->totals(time(), 2)['requests'] : 0;
        Until::true(fn (): bool => $count() === 12, fn (): string => "12 requests have waited, {$count()} are counted");
        self::assertSame(12, $this->stored()->totals(time(), 2)['timed_out']);
    }

    /** Whoever waits for the answer does not wait for the count. */
    public function testTheAnswerComesBeforeTheCount(): void
    {
        $fpm = new Fpm(['cluster_lock.dsn' => $this->redis->dsn(), 'cluster_lock.slow_wait' => '3600']);
        $this->holder('taken');
        $counting = $this->holder('wp:cluster_lock_waits');
        self::assertSame('false', $fpm->get($this->recorded('echo json_encode(cluster_lock("taken", 0.05));')));
        self::assertFileDoesNotExist($this->options);
        $counting->tell('unlock');
        self::assertSame('1', $fpm->get('echo 1;'), 'The worker serves again');
    }

    /** Code that is recorded like a request of WordPress. */
    private function recorded(string $code): string
    {
        return 'putenv("OPTIONS=" . ' . var_export($this->options, true) . ');'
            . 'require ' . var_export(__DIR__ . '/fixtures/site.php', true) . ';'
            . 'Cluster_Lock\Wait_Recorder::start();' . $code;
    }

    private function request(string $code): PhpProcess
    {
        $settings = ['cluster_lock.node' => 'node-w', 'cluster_lock.slow_wait' => '3600', 'log_errors' => 0];

        return PhpProcess::code($this->recorded($code), $settings + ['cluster_lock.dsn' => $this->redis->dsn()]);
    }

    private function holder(string $name): PhpProcess
    {
        $code = 'say(cluster_lock(' . var_export($name, true) . ', 5)); hear();';
        $process = PhpProcess::code($code, ['cluster_lock.dsn' => $this->redis->dsn()]);
        $process->expect('true');

        return $process;
    }

    private function awaitWaiter(string $name): void
    {
        $code = 'while (count(cluster_lock_info(' . var_export($name, true) . ')["waiters"] ?? []) < 1) { usleep(3000); } say("there");';
        PhpProcess::code($code, ['cluster_lock.dsn' => $this->redis->dsn()])->expect('there');
    }

    private function stored(): Waits
    {
        self::assertFileExists($this->options);

        return Waits::of(unserialize((string) file_get_contents($this->options))['cluster_lock_waits']);
    }
}
