<?php

declare(strict_types=1);

namespace ClusterLock\Tests\LifeCycle;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * A waiting process stays interruptible; signals belong to PHP's main thread.
 */
final class SignalTest extends TestCase
{
    /** @dataProvider backends */
    public function testAHandlerRunsSoonAndTheWaitEndsSanely(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $bob->run('pcntl_async_signals(true); pcntl_signal(SIGUSR1, static fn () => say("signal")); return true;');
        $bob->begin('cluster_lock', 'job', Until::TOO_LONG);
        $cluster->awaitWaiters('job', 1);
        $bob->process()->signal(SIGUSR1);
        $bob->process()->expect('signal');

        $alice->call('cluster_unlock', 'job');
        $outcome = $bob->outcome();
        self::assertSame([], $outcome->warnings, 'A signal is no failure');
        $held = $bob->call('cluster_lock_fence', 'job') !== null;
        self::assertSame($outcome->value, $held, 'true means held, false (interrupted) means not held');
        if ($held) {
            $bob->call('cluster_unlock', 'job');
        }
        $cluster->assertFree('job', 'Nothing may be left behind');
    }

    /** @return iterable<string, array{string, string, string}> how it is taken, by the handler, and given back */
    public static function sameNames(): iterable
    {
        $ways = [
            'cluster_lock()' => ['cluster_lock($name, 20)', 'cluster_unlock($name)'],
            'cluster_flock()' => ['cluster_flock($h, LOCK_EX)', 'cluster_flock($h, LOCK_UN)'],
        ];
        $handlers = $ways + [
            'ClusterLock' => ['($GLOBALS["o"] = new ClusterLock($name))->acquire(20)', '$GLOBALS["o"]->release() === null'],
            'cluster_synchronized()' => ['cluster_synchronized($name, static fn () => true, 20)', 'true'],
            'cluster_flock() by another handle' => [
                'cluster_flock($GLOBALS["other"] = fopen($file, "c+"), LOCK_EX)',
                'fclose($GLOBALS["other"])',
            ],
            'cluster_file_put_contents()' => ['cluster_file_put_contents($file, "x", LOCK_EX) === 1', 'true'],
        ];
        foreach ($ways as $outer => [$take, $give]) {
            foreach ($handlers as $inner => [$nested, $back]) {
                yield "$inner within $outer" => ["$take && $give", $nested, $back];
            }
        }
    }

    /**
     * The handler takes what its own request waits for: in that wait's place, not behind it.
     *
     * @dataProvider sameNames
     */
    public function testAHandlerTakesTheSameLock(string $outer, string $inner, string $back): void
    {
        $cluster = Cluster::redis();
        $file = TempDir::forTest() . '/file';
        $name = "file:$file";
        touch($file);
        $alice = $cluster->actor();
        $alice->call('cluster_lock', $name);
        $process = $cluster->process(
            'pcntl_async_signals(true); $file = ' . var_export($file, true) . '; $name = "file:$file"; $h = fopen($file, "c+");'
            . "pcntl_signal(SIGUSR1, static function () use (\$file, \$name, \$h) { say('handler'); say($inner); say($back); });"
            . "say('waiting'); say($outer);"
        );
        $process->expect('waiting');
        $cluster->awaitWaiters($name, 1);
        $carol = $cluster->actor();
        $carol->begin('cluster_lock', $name, 30);
        $cluster->awaitWaiters($name, 2);
        $process->signal(SIGUSR1);
        $process->expect('handler');
        for ($look = 0; $look < 50; $look++) {
            self::assertSame(2, $cluster->waiters($name), 'It has one place in the queue');
        }
        $alice->call('cluster_unlock', $name);
        $process->expect('true');
        $process->expect('true');
        self::assertTrue($carol->end(), 'Then it is the turn of Carol');
        $carol->call('cluster_unlock', $name);
        $process->expect('true');
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'No lock stays');
    }

    /** @dataProvider backends */
    public function testAHandlerThatKeepsTheLockIsFoundByTheWait(Cluster $cluster): void
    {
        foreach (['cluster_lock("job", 20)', 'cluster_synchronized("job", static fn () => true, 20)'] as $outer) {
            $alice = $cluster->actor();
            $alice->call('cluster_lock', 'job');
            $process = $cluster->process(
                'pcntl_async_signals(true); pcntl_signal(SIGUSR1, static function () { say("handler"); say(cluster_lock("job", 20)); });'
                . "say('waiting'); say($outer); while (@cluster_unlock('job')) { }"
            );
            $process->expect('waiting');
            $cluster->awaitWaiters('job', 1);
            $process->signal(SIGUSR1);
            $process->expect('handler');
            $alice->call('cluster_unlock', 'job');
            $process->expect('true');
            $process->expect('true');
            self::assertSame(0, $process->wait(), $process->transcript());
            $cluster->assertFree('job', 'Nothing may be left behind');
        }
    }

    public function testAWaitForWhatAHandlerKeepsByAnotherHandleFails(): void
    {
        $cluster = Cluster::redis();
        $file = TempDir::forTest() . '/file';
        $alice = $cluster->actor();
        $alice->call('cluster_lock', "file:$file");
        $process = $cluster->process(
            'pcntl_async_signals(true); $file = ' . var_export($file, true) . '; $h = fopen($file, "c+");'
            . 'pcntl_signal(SIGUSR1, static function () use ($file) { say("handler");'
            . ' $GLOBALS["kept"] = fopen($file, "c+"); say(cluster_flock($GLOBALS["kept"], LOCK_EX)); });'
            . 'say("waiting"); say(@cluster_flock($h, LOCK_EX)); say(error_get_last()["message"]);'
        );
        $process->expect('waiting');
        $cluster->awaitWaiters("file:$file", 1);
        $process->signal(SIGUSR1);
        $process->expect('handler');
        $alice->call('cluster_unlock', "file:$file");
        $process->expect('true');
        $process->expect('false');
        $process->expect(
            "cluster_flock(): Lock \"file:$file\": this request already holds it through another handle, so waiting could only deadlock"
        );
        self::assertSame(0, $process->wait(), $process->transcript());
    }

    /** @dataProvider backends */
    public function testAHandlerMayThrow(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $bob->run(
            'pcntl_async_signals(true); pcntl_signal(SIGUSR1, static fn () => throw new DomainException("enough")); return true;'
        );
        foreach (['cluster_lock("job", 600);', '(new ClusterLock("job"))->acquire(600);', 'cluster_synchronized("job", "pi", 600);'] as $code) {
            $bob->beginRun($code);
            $cluster->awaitWaiters('job', 1);
            $bob->process()->signal(SIGUSR1);
            self::assertSame(
                'enough',
                $bob->outcome()->thrown('DomainException')->message,
                "The handler's exception ends $code"
            );
            self::assertSame([], $cluster->info('job')['waiters'], 'The interrupted waiter has left the queue');
        }
        $alice->call('cluster_unlock', 'job');
        $cluster->assertFree('job', 'Nothing may be left behind');
    }

    /** @dataProvider backends */
    public function testAHandlerMayExit(Cluster $cluster): void
    {
        $cluster->observer()->call('cluster_lock', 'job');
        $process = $cluster->process(<<<'PHP'
            pcntl_async_signals(true);
            pcntl_signal(SIGTERM, static fn () => exit(42));
            cluster_lock('other', 0) || exit('not locked');
            say('waiting');
            cluster_lock('job', 60) || exit('not locked');
            PHP);
        $process->expect('waiting');
        $cluster->awaitWaiters('job', 1);
        $process->signal(SIGTERM);

        self::assertSame(42, $process->wait(3.0), 'A daemon that is told to end should end: ' . $process->transcript());
        self::assertSame([], $cluster->info('job')['waiters'], 'It has left the queue');
        self::assertTrue($cluster->actor()->call('cluster_lock', 'other', 0), 'and released what it held');
    }

    /** @dataProvider backends */
    public function testAStormOfSignalsChangesNothing(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '1']);
        $bob->run(
            'pcntl_async_signals(true); $GLOBALS["n"] = 0; pcntl_signal(SIGUSR1, static fn () => $GLOBALS["n"]++); return true;'
        );
        $bob->call('cluster_lock', 'mine');
        // Busy in PHP, with the renewal thread at work: each signal must reach the main thread.
        $bob->beginRun(
            'for ($end = hrtime(true) + 1_500_000_000; hrtime(true) < $end; cluster_lock("a", 0) && cluster_unlock("a") || exit(9)); return $GLOBALS["n"];'
        );
        for ($sent = 0; !$bob->isDone(); $sent++) {
            $bob->process()->signal(SIGUSR1);
            usleep(200);
        }
        self::assertGreaterThan(0, $bob->end(), "Some of the $sent signals should have been handled");
        self::assertTrue($bob->call('cluster_unlock', 'mine'), 'The lease was renewed throughout');
        self::assertFalse($alice->call('cluster_lock_status')['held'] !== [], 'Alice holds nothing');
        $cluster->assertFree('mine', 'Unlocked');
    }

    /** @dataProvider backends */
    public function testATimeOutIsKeptUnderSignals(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        // An ignored signal and one with PHP's default handling: neither is a reason to give up.
        $bob->run('pcntl_signal(SIGUSR1, SIG_IGN); return true;');
        $bob->begin('cluster_lock', 'job', 1.2);
        while (!$bob->isDone()) {
            $bob->process()->signal(SIGUSR1);
            $bob->process()->signal(SIGCONT);
            usleep(2000);
        }
        $outcome = $bob->outcome();

        self::assertFalse($outcome->value(), 'Alice has it');
        self::assertTook(1.2, $outcome->seconds, 'A time-out of 1.2 s under signals');
    }

    /** @return iterable<string, array{string}> */
    public static function boundedWaits(): iterable
    {
        yield 'cluster_lock()' => ['say(cluster_lock("job", 1))'];
        yield 'ClusterLock' => ['say((new ClusterLock("job"))->acquire(1))'];
        yield 'cluster_synchronized()' => [
            'try { cluster_synchronized("job", "pi", 1); } catch (ClusterLockTimeoutException) { say(false); }',
        ];
    }

    /**
     * The handler takes the wait's place for its one try, and the wait begins another; its time does not.
     *
     * @dataProvider boundedWaits
     */
    public function testATimeOutIsKeptBesideAHandlerThatTriesTheLock(string $wait): void
    {
        $cluster = Cluster::redis();
        $cluster->observer()->call('cluster_lock', 'job');
        $process = $cluster->process(
            'pcntl_async_signals(true); pcntl_signal(SIGUSR1, static function () { say("handler"); $locked = cluster_lock("job", 0); });'
            . "say('waiting'); $wait; say('over');"
        );
        $process->expect('waiting');
        $cluster->awaitWaiters('job', 1);
        $deadline = Until::now() + Until::PATIENCE;
        while (!str_contains($process->output(), 'over') && Until::now() < $deadline) {
            $process->signal(SIGUSR1);
            usleep(100_000);
        }

        self::assertStringContainsString("handler\n", $process->output());
        self::assertStringEndsWith("\nfalse\nover\n", $process->output(), 'Its time was up');
        self::assertSame(0, $process->wait(), $process->transcript());
    }

    public function testAConversionNestsInWhatAHandlerKeeps(): void
    {
        $cluster = Cluster::redis();
        $reader = $cluster->actor();
        $reader->call('cluster_lock', 'job', null, LOCK_SH);
        $process = $cluster->process(<<<'PHP'
            pcntl_async_signals(true);
            pcntl_signal(SIGUSR1, static function () { say('handler'); say(cluster_lock('job', 20)); });
            cluster_lock('job', 20, LOCK_SH) || exit('not locked');
            cluster_lock('job', 20, LOCK_SH) || exit('not locked');
            say('waiting');
            say(cluster_lock('job', 20));
            for ($unlocks = 0; @cluster_unlock('job'); $unlocks++) {
            }
            say($unlocks);
            PHP);
        $process->expect('waiting');
        $cluster->awaitWaiters('job', 1);
        $process->signal(SIGUSR1);
        $process->expect('handler');
        $reader->call('cluster_unlock', 'job');
        $process->expect('true');
        $process->expect('true');
        $process->expect('4');
        self::assertSame(0, $process->wait(), $process->transcript());
        $cluster->assertFree('job', 'Each hold was given back');
    }

    /** @dataProvider backends */
    public function testTheTimeLimitEndsAWait(Cluster $cluster): void
    {
        $cluster->observer()->call('cluster_lock', 'job');
        $process = $cluster->process(<<<'PHP'
            // The time limit counts processor time; its signal is sent here as if it had run out.
            set_time_limit(60);
            say('waiting');
            cluster_lock('job', 60) || exit('not locked');
            PHP);
        $process->expect('waiting');
        $cluster->awaitWaiters('job', 1);
        $process->signal(SIGPROF);

        self::assertSame(255, $process->wait(3.0), 'The time limit should end a wait: ' . $process->transcript());
        self::assertStringContainsString('Maximum execution time', $process->errors(), "PHP's own message");
        self::assertSame([], $cluster->info('job')['waiters'], 'It has left the queue');
    }

    /** @dataProvider backends */
    public function testTheThreadLeavesAllSignalsToPhp(Cluster $cluster): void
    {
        $actor = $cluster->actor(['cluster_lock.ttl' => '0.3']);
        $actor->call('cluster_lock', 'job');
        // A thread begins with all signals blocked; what counts is how it is when it works.
        Until::true(
            static fn () => $actor->call('cluster_lock_status')['counters']['renewals'] > 0,
            'the thread should have renewed the lease'
        );
        $blocked = $actor->run(<<<'PHP'
            $blocked = [];
            foreach (array_diff(scandir('/proc/self/task'), ['.', '..', (string) getmypid()]) as $task) {
                preg_match('/^SigBlk:\s*(\S+)/m', file_get_contents("/proc/self/task/$task/status"), $match);
                $blocked[] = hexdec(substr($match[1], -8));
            }
            return $blocked;
            PHP);
        $wanted = array_sum(
            array_map(
                static fn (int $s) => 1 << ($s - 1),
                [SIGHUP, SIGINT, SIGTERM, SIGALRM, SIGPROF, SIGUSR1, SIGCHLD]
            )
        );
        foreach ($blocked as $mask) {
            self::assertSame($wanted, $mask & $wanted, 'A thread of the extension has all signals blocked');
        }
        self::assertCount(1, $blocked, 'There is one thread');
    }
}
