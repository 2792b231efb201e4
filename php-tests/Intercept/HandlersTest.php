<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\KernelLocks;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\Plain;
use ClusterLock\Tests\Support\Until;

/**
 * Code of the user that runs while a file is being locked: handlers of signals and of errors.
 */
final class HandlersTest extends FlockTestCase
{
    /** Has the file. */
    private ?Handle $holder = null;

    /** @return iterable<string, array{string, string}> */
    public static function ways(): iterable
    {
        foreach (array_keys(self::modes()) as $mode) {
            foreach (['flock', 'cluster_flock'] as $function) {
                yield "$function(), $mode" => [$mode, $function];
            }
        }
    }

    /** @dataProvider ways */
    public function testASignalDoesNotEndAWait(string $mode, string $function): void
    {
        [$cluster, $process] = $this->waiting($mode, <<<PHP
            pcntl_signal(SIGUSR1, static fn () => say('signal'));
            say('waiting');
            say($function(\$h, LOCK_EX));
            hear();
            PHP);
        $process->signal(SIGUSR1);
        Until::true(fn () => $cluster->waiters($this->name) === 1, 'it should still wait');
        $this->holder->unlock();
        // As in PHP, the handler may come before or after the lock.
        $said = [$process->line(), $process->line()];
        sort($said);

        self::assertSame(['signal', 'true'], $said, 'The handler has run, the lock is there');
        self::assertWouldBlock($this->holder, LOCK_EX, 'It has it');
    }

    /** @dataProvider ways */
    public function testAHandlerMayThrow(string $mode, string $function): void
    {
        [$cluster, $process] = $this->waiting($mode, <<<PHP
            pcntl_signal(SIGUSR1, static fn () => throw new DomainException('enough'));
            try {
                say('waiting');
                $function(\$h, LOCK_EX);
                say('locked');
            } catch (DomainException \$e) {
                say(\$e->getMessage());
            }
            say('goes on');
            hear();
            say($function(\$h, LOCK_EX | LOCK_NB));
            PHP);
        $process->signal(SIGUSR1);
        $process->expect('enough');
        $process->expect('goes on');
        self::assertSame([], $cluster->info($this->name)['waiters'], 'It does not wait any more');
        $this->holder->unlock();
        self::assertFreeFor($this->holder, 'It did not get it');
        $process->tell('lock');
        $process->expect('true');
        self::assertSame(0, $process->wait(), $process->transcript());
    }

    /** @dataProvider ways */
    public function testAHandlerMayExit(string $mode, string $function): void
    {
        [$cluster, $process] = $this->waiting($mode, <<<PHP
            pcntl_signal(SIGTERM, static fn () => exit(42));
            say('waiting');
            $function(\$h, LOCK_EX);
            PHP);
        $process->signal(SIGTERM);

        self::assertSame(42, $process->wait(), $process->transcript());
        self::assertSame([], $cluster->info($this->name)['waiters'], 'It does not wait any more');
    }

    /** @dataProvider ways */
    public function testAHandlerMayCloseTheVeryStream(string $mode, string $function): void
    {
        foreach (['fclose($GLOBALS["h"]);', 'unset($GLOBALS["h"]); gc_collect_cycles();'] as $close) {
            $this->holder?->unlock();
            [, $process] = $this->waiting($mode, <<<PHP
                pcntl_signal(SIGUSR1, static function () { $close say('closed'); });
                say('waiting');
                try {
                    \$value = $function(\$h, LOCK_EX);
                } catch (Throwable \$e) {
                    \$value = false;
                }
                say('done');
                hear();
                PHP);
            $process->signal(SIGUSR1);
            // It runs at once, or when the wait is over.
            Until::true(static fn () => str_contains($process->output(), 'closed') || $process->isRunning(), 'it should live');
            $this->holder->unlock();
            $said = [$process->line(), $process->line()];
            sort($said);
            self::assertSame(['closed', 'done'], $said, $process->transcript());
            $process->tell('end');
            self::assertSame(0, $process->wait(), $process->transcript());
            self::assertFreeFor($this->holder, 'The stream is closed');
        }
    }

    /** @dataProvider ways */
    public function testAHandlerMayLock(string $mode, string $function): void
    {
        [$cluster, $process] = $this->waiting($mode, <<<PHP
            pcntl_signal(SIGUSR1, static function () use (\$file) {
                \$other = fopen("\$file.other", 'c');
                say($function(\$other, LOCK_EX) && $function(\$other, LOCK_UN) ? 'locks' : 'does not');
            });
            say('waiting');
            say($function(\$h, LOCK_EX));
            say($function(\$h, LOCK_UN));
            PHP);
        $process->signal(SIGUSR1);
        Until::true(static fn () => $process->isRunning(), 'it should live');
        $this->holder->unlock();
        $said = [$process->line(), $process->line(), $process->line()];
        sort($said);

        self::assertSame(['locks', 'true', 'true'], $said, $process->transcript());
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'No lock stays');
    }

    /** @dataProvider modes */
    public function testATerminatedProcessLeavesTheQueue(string $mode): void
    {
        [$cluster, $process] = $this->waiting($mode, 'say("waiting"); flock($h, LOCK_EX);', ['cluster_lock.ttl' => '1']);
        $process->signal(SIGTERM);
        self::assertSame(-1, $process->wait(), 'A signal without a handler ends it');
        $this->holder->unlock();
        $this->holder->begin(LOCK_EX);

        self::assertTrue($this->holder->actor->end(), 'Nobody waits for ever for the dead');
    }

    public function testASignalDuringTheWaitForAPlainProcess(): void
    {
        $cluster = Cluster::redis();
        $plain = Handle::open(Plain::actor(), $this->file, 'c+', 'flock');
        $plain->lock(LOCK_EX);
        $process = $cluster->process(
            'pcntl_async_signals(true); pcntl_signal(SIGTERM, static fn () => exit(42)); $h = fopen('
            . var_export($this->file, true) . ', "c+"); say("waiting"); flock($h, LOCK_EX);',
            ['cluster_lock.intercept' => $this->dir]
        );
        $process->expect('waiting');
        $cluster->awaitHolder($this->name, $process->pid());
        $process->signal(SIGTERM);

        self::assertSame(42, $process->wait(), $process->transcript());
        self::assertNull($cluster->info($this->name), 'It holds nothing');
        self::assertTrue(KernelLocks::isHolding($plain->actor->pid()), 'The plain process still has it');
    }

    /** @return array<string, array{string}> */
    public static function lockingCalls(): array
    {
        return [
            'flock()' => ['$GLOBALS["h"] = fopen($file, "c+"); flock($GLOBALS["h"], LOCK_EX);'],
            'file_put_contents()' => ['file_put_contents($file, "x", LOCK_EX);'],
            'appending' => ['file_put_contents($file, "x", LOCK_EX | FILE_APPEND);'],
            'SplFileObject' => ['$GLOBALS["h"] = new SplFileObject($file, "c+"); $GLOBALS["h"]->flock(LOCK_EX);'],
            'cluster_flock()' => ['$GLOBALS["h"] = fopen($file, "c+"); cluster_flock($GLOBALS["h"], LOCK_EX);'],
        ];
    }

    /** @dataProvider lockingCalls */
    public function testAnErrorHandlerThatThrowsMeetsNoServer(string $call): void
    {
        $process = PhpProcess::code(
            'set_error_handler(static function (int $level, string $message) { throw new ErrorException($message); });'
            . '$file = ' . var_export($this->file, true) . ';'
            . "try { $call say('no warning'); } catch (ErrorException \$e) { say(str_contains(\$e->getMessage(), \$file)); }"
            . 'unset($GLOBALS["h"], $e); restore_error_handler(); say(@file_put_contents($file, "after", LOCK_EX));',
            ['cluster_lock.dsn' => 'redis://127.0.0.1:1', 'cluster_lock.intercept' => $this->dir]
        );
        $process->expect('true');
        $process->expect('5');
        self::assertSame(0, $process->wait(), $process->transcript());

        self::assertFreeFor(Handle::open(Plain::actor(), $this->file, 'c+', 'flock'), 'No lock stays');
    }

    /** @dataProvider lockingCalls */
    public function testAnErrorHandlerThatLocksItsLogMeetsNoServer(string $call): void
    {
        $process = PhpProcess::code(
            'set_error_handler(static function (int $level, string $message) {'
            . '@file_put_contents(' . var_export("{$this->dir}/errors.txt", true) . ', "$message\n", LOCK_EX | FILE_APPEND); return true; });'
            . '$file = ' . var_export($this->file, true) . ';' . $call . 'say("goes on");',
            ['cluster_lock.dsn' => 'redis://127.0.0.1:1', 'cluster_lock.intercept' => $this->dir]
        );
        $process->expect('goes on');
        self::assertSame(0, $process->wait(), $process->transcript());

        self::assertStringContainsString($this->file, file_get_contents("{$this->dir}/errors.txt"), 'It is logged');
    }

    public function testAnErrorHandlerMayCloseTheVeryStream(): void
    {
        foreach (['flock', 'cluster_flock'] as $function) {
            $process = PhpProcess::code(
                'set_error_handler(static function () { @fclose($GLOBALS["h"]); say("closed"); return true; });'
                . '$GLOBALS["h"] = fopen(' . var_export($this->file, true) . ', "c+");'
                . "try { $function(\$GLOBALS['h'], LOCK_EX); } catch (Throwable) { } say('goes on');",
                ['cluster_lock.dsn' => 'redis://127.0.0.1:1', 'cluster_lock.intercept' => $this->dir]
            );
            $process->expect('closed');
            $process->expect('goes on');
            self::assertSame(0, $process->wait(), $process->transcript());
            $neighbour = Handle::open(Plain::actor(), $this->file, 'c+', 'flock');
            self::assertGets($neighbour, LOCK_EX, 'No lock stays');
            $neighbour->unlock();
        }
    }

    /**
     * A process that runs this code, which says "waiting" and then waits for the file.
     *
     * @param array<string, string> $settings
     *
     * @return array{Cluster, PhpProcess}
     */
    private function waiting(string $mode, string $code, array $settings = []): array
    {
        $cluster = Cluster::redis();
        $settings += ['cluster_lock.intercept' => $this->dir, 'cluster_lock.flock_mode' => $mode];
        $this->holder = Handle::open($cluster->actor($settings), $this->file, 'c+', 'flock');
        $this->holder->lock(LOCK_EX);
        $process = $cluster->process(
            'pcntl_async_signals(true); $file = ' . var_export($this->file, true) . '; $h = fopen($file, "c+");' . $code,
            $settings
        );
        $process->expect('waiting');
        $cluster->awaitWaiters($this->name, 1);

        return [$cluster, $process];
    }
}
