<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\Plain;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * A stream that is locked by cluster_flock() is to its user what it was: the close is noticed by something that data does
 * not pass.
 */
final class FlockTest extends TestCase
{
    private Cluster $cluster;
    private string $file;

    protected function setUp(): void
    {
        parent::setUp();
        $this->cluster = Cluster::local();
        $this->file = TempDir::forTest() . '/file';
        file_put_contents($this->file, '');
    }

    public function testAWriteThatFailsHalfWayIsReportedAsWithoutALock(): void
    {
        $actor = $this->actor();
        // A limit on the size of files: write(2) fails half-way, as on a full disk.
        $actor->run('return pcntl_signal(SIGXFSZ, SIG_IGN);');
        exec('prlimit --fsize=102400 --pid ' . $actor->pid(), $lines, $code);
        if ($code !== 0) {
            self::markTestSkipped('There is no prlimit here.');
        }
        $write = fn (string $lock): mixed => $actor->tryRun(
            '$h = fopen($file, "c+"); ftruncate($h, 0); ' . $lock . ' return [fwrite($h, str_repeat("x", 300000)), ftell($h),'
                . ' fwrite($h, "more"), fflush($h), fclose($h)];',
            file: $this->file
        );
        $without = $write('');
        $with = $write('cluster_flock($h, LOCK_EX);');

        self::assertSame(102400, $without->value[0], 'PHP tells how much was written');
        self::assertSame($without->value, $with->value, 'and so it does under the lock');
        self::assertSame($without->messages(), $with->messages(), 'with the same warnings');
    }

    public function testALockedStreamCanBeGivenToWhatNeedsItsDescriptor(): void
    {
        $told = $this->actor()->run(<<<'PHP'
            $h = fopen($file, 'c+');
            cluster_flock($h, LOCK_EX);
            [$read, $write, $except] = [[$h], [$h], null];
            $selected = stream_select($read, $write, $except, 0);
            $process = proc_open(['echo', 'child'], [1 => $h], $pipes);
            proc_close($process);
            rewind($h);
            return [$selected, posix_isatty($h), fgets($h), cluster_flock($h, LOCK_UN)];
            PHP, file: $this->file);

        self::assertSame([2, false, "child\n", true], $told, 'stream_select(), posix_isatty(), proc_open()');
    }

    /** @return array<string, array{string}> */
    public static function waysToOpen(): array
    {
        return [
            'as usual' => ['fopen($file, "c+")'],
            'with a context' => ['fopen($file, "c+", false, $GLOBALS["context"] = stream_context_create())'],
            'after options for all' => ['(stream_context_set_default(["http" => ["method" => "GET"]])'
                . ' ? fopen($file, "c+") : null)'],
            'by another descriptor' => ['fopen("/proc/self/fd/" . array_search(true, array_map('
                . 'fn ($fd) => @readlink("/proc/self/fd/$fd") === $file,'
                . '($GLOBALS["first"] = fopen($file, "c+")) ? range(0, 30) : [])), "c+")'],
        ];
    }

    /** @dataProvider waysToOpen */
    public function testFcloseEndsTheLockAtOnce(string $open): void
    {
        [$alice, $other] = [$this->actor(), Handle::open($this->actor(), $this->file)];
        foreach ([LOCK_EX, LOCK_SH] as $operation) {
            $alice->run(
                "\$GLOBALS['h'] = $open; cluster_flock(\$GLOBALS['h'], \$operation);",
                file: $this->file,
                operation: $operation
            );
            self::assertFalse($other->lock(LOCK_EX | LOCK_NB), 'Alice has it');
            $alice->run('fclose($GLOBALS["h"]);');
            self::assertTrue($other->lock(LOCK_EX | LOCK_NB), 'She has closed it');
            $other->unlock();
        }
    }

    public function testUnlockingAndLockingAgainWatchesTheSameClose(): void
    {
        [$alice, $other] = [$this->actor(), Handle::open($this->actor(), $this->file)];
        $alice->run(<<<'PHP'
            $GLOBALS['h'] = fopen($file, 'c+');
            foreach ([LOCK_EX, LOCK_SH, LOCK_UN, LOCK_SH, LOCK_EX, LOCK_UN, LOCK_EX] as $operation) {
                cluster_flock($GLOBALS['h'], $operation) || throw new Exception("not $operation");
            }
            PHP, file: $this->file);
        self::assertFalse($other->lock(LOCK_EX | LOCK_NB), 'Alice has it');
        $alice->run('unset($GLOBALS["h"]);');

        self::assertTrue($other->lock(LOCK_EX | LOCK_NB), 'She has it no longer');
    }

    public function testWhatIsDoneWithTheOptionsOfTheStreamEndsNoLock(): void
    {
        [$alice, $other] = [$this->actor(), Handle::open($this->actor(), $this->file)];
        $alice->run(<<<'PHP'
            $GLOBALS['h'] = fopen($file, 'c+');
            cluster_flock($GLOBALS['h'], LOCK_EX);
            $options = stream_context_get_options($GLOBALS['h']);
            $GLOBALS['copy'] = stream_context_create($options);
            foreach ($options as $wrapper => $values) {
                foreach (array_keys($values) as $name) {
                    stream_context_set_option($GLOBALS['h'], $wrapper, $name, null);
                }
            }
            unset($options, $values, $GLOBALS['copy']);
            PHP, file: $this->file);
        self::assertFalse($other->lock(LOCK_EX | LOCK_NB), 'The stream is open');
        $alice->run('fclose($GLOBALS["h"]); return cluster_lock_status()["held"];');

        self::assertTrue($other->lock(LOCK_EX | LOCK_NB), 'At the latest the next call sees that it is not');
    }

    public function testAChildThatClosesItEndsNotItsParentsLock(): void
    {
        [$alice, $other] = [$this->actor(), Handle::open($this->actor(), $this->file)];
        $alice->run(<<<'PHP'
            $GLOBALS['h'] = fopen($file, 'c+');
            cluster_flock($GLOBALS['h'], LOCK_EX);
            if (($child = pcntl_fork()) === 0) {
                fclose($GLOBALS['h']);
                posix_kill(getmypid(), SIGKILL);
            }
            pcntl_waitpid($child, $status);
            PHP, file: $this->file);

        self::assertFalse($other->lock(LOCK_EX | LOCK_NB), 'The parent has it');
        self::assertTrue($alice->run('return cluster_flock($GLOBALS["h"], LOCK_UN);'), 'and had it throughout');
    }

    /** @return array<string, array{string, string}> what a signal's handler does, what the process says at last */
    public static function handlers(): array
    {
        return [
            'exit' => ['exit(3)', ''],
            'exception' => ['throw new Exception("enough")', "enough\n"],
            'fclose' => ['fclose($GLOBALS["h"])', "false\n"],
        ];
    }

    /** @dataProvider handlers */
    public function testAHandlerMayEndTheWaitForAPlainHolder(string $do, string $says): void
    {
        $plain = Plain::actor();
        $plain->run('$GLOBALS["h"] = fopen($file, "c+"); flock($GLOBALS["h"], LOCK_EX);', file: $this->file);
        $code = "pcntl_async_signals(true); pcntl_signal(SIGUSR1, static fn () => $do);"
            . "\$h = fopen('{$this->file}', 'c+'); say('waits');"
            . 'try { say(json_encode(cluster_flock($h, LOCK_EX))); } catch (Exception $e) { say($e->getMessage()); }';
        $process = Sides::process('phpredis', $code, $this->cluster->settings(['cluster_lock.ttl' => '60']));
        $process->expect('waits');
        $this->cluster->awaitHolder("file:{$this->file}", $process->pid());
        $process->signal(SIGUSR1);

        self::assertSame($says === '' ? 3 : 0, $process->wait(), $process->transcript());
        self::assertSame("waits\n$says", $process->output());
        self::assertSame([], $this->cluster->observer()->call('cluster_lock_list'), 'The cluster lock is given back');
    }

    /** @return array<string, array{string, string}> how it is opened, what ends its lock */
    public static function endsBesideAProgram(): array
    {
        return [
            'LOCK_UN' => ['c+', 'cluster_flock($GLOBALS["h"], LOCK_UN);'],
            'fclose() of what is not inherited' => ['c+e', 'fclose($GLOBALS["h"]);'],
        ];
    }

    /**
     * What the README advises.
     *
     * @dataProvider endsBesideAProgram
     */
    public function testAProgramThatGoesOnRunningNeedNotKeepTheKernelsLock(string $mode, string $end): void
    {
        $gate = ['cluster_lock.flock_mode' => 'gate'];
        $alice = Sides::polyfill($this->cluster, 'phpredis', $gate);
        $others = [Handle::open($this->cluster->actor($gate), $this->file), Handle::open(Plain::actor(), $this->file, 'c+', 'flock')];
        $alice->run(
            '$GLOBALS["h"] = fopen($file, $mode); cluster_flock($GLOBALS["h"], LOCK_EX);'
                . '$GLOBALS["p"] = proc_open(["cat"], [["pipe", "r"], ["file", "/dev/null", "w"]], $GLOBALS["pipes"]);',
            file: $this->file,
            mode: $mode
        );
        foreach ($others as $other) {
            self::assertFalse($other->lock(LOCK_EX | LOCK_NB), 'Alice has it');
        }
        $alice->run($end);
        foreach ($others as $other) {
            self::assertTrue($other->lock(LOCK_EX | LOCK_NB), 'The program has no part in it');
            $other->unlock();
        }
    }

    private function actor(): Actor
    {
        return Sides::polyfill($this->cluster, 'phpredis', ['cluster_lock.flock_mode' => 'replace']);
    }
}
