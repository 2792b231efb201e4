<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\Plain;
use ClusterLock\Tests\Support\TempDir;

/**
 * file_put_contents() with LOCK_EX waits for the cluster lock of its file, and never says that there is none.
 */
final class FilePutContentsTest extends FlockTestCase
{
    /** @return iterable<string, array{string, int}> mode, flags */
    public static function ways(): iterable
    {
        foreach (array_keys(self::modes()) as $mode) {
            yield "LOCK_EX, $mode" => [$mode, LOCK_EX];
            yield "FILE_APPEND | LOCK_EX, $mode" => [$mode, FILE_APPEND | LOCK_EX];
        }
    }

    /** @dataProvider ways */
    public function testItWaits(string $mode, int $flags): void
    {
        [$cluster, $alice, $bob] = $this->two($mode);
        foreach ([LOCK_EX, LOCK_SH] as $operation) {
            file_put_contents($this->file, 'old');
            $handle = Handle::open($alice, $this->file, 'c+', 'flock');
            $handle->lock($operation);
            $bob->begin('file_put_contents', $this->file, 'new', $flags);
            $cluster->awaitWaiters($this->name, 1);
            self::assertSame('old', file_get_contents($this->file), 'Alice has it');
            $handle->close();

            self::assertSame(3, $bob->end(), 'It is his turn');
            self::assertSame($flags & FILE_APPEND ? 'oldnew' : 'new', file_get_contents($this->file), 'He has written');
        }
    }

    /** @dataProvider ways */
    public function testItHoldsTheLockWhileItWrites(string $mode, int $flags): void
    {
        [$cluster, $alice, $bob] = $this->two($mode);
        $handle = Handle::open($bob, $this->file, 'r', 'flock');
        $fifo = TempDir::forTest() . '/fifo';
        posix_mkfifo($fifo, 0600);
        $pipe = fopen($fifo, 'r+e');
        fwrite($pipe, 'first half, ');
        $alice->beginRun(
            '$data = fopen($fifo, "r"); say("begins"); return file_put_contents($file, $data, $flags);',
            fifo: $fifo,
            file: $this->file,
            flags: $flags
        );
        $alice->process()->expect('begins');
        $cluster->awaitHolder($this->name, $alice->pid());
        self::assertWouldBlock($handle, LOCK_SH, 'Alice is writing');
        $handle->beginRun('return flock($h, LOCK_SH) ? stream_get_contents($h) : false;');
        $cluster->awaitWaiters($this->name, 1);
        fwrite($pipe, 'second half');
        fclose($pipe);
        $alice->end();

        self::assertSame(
            ($flags & FILE_APPEND ? 'content' : '') . 'first half, second half',
            $bob->end(),
            'Readers see all of it'
        );
    }

    /** @dataProvider ways */
    public function testItFreesTheLock(string $mode, int $flags): void
    {
        [$cluster, $alice, $bob] = $this->two($mode);
        self::assertSame(3, $alice->call('file_put_contents', $this->file, 'new', $flags), 'Nobody is in the way');
        self::assertNull($cluster->info($this->name), 'Nobody holds it');

        self::assertSame(3, $bob->call('file_put_contents', $this->file, 'new', $flags), 'Nobody is in the way');
    }

    /** @dataProvider ways */
    public function testAfterTheTimeOutNothingIsWritten(string $mode, int $flags): void
    {
        [, $alice, $bob] = $this->two($mode);
        $handle = Handle::open($alice, $this->file, 'c+', 'flock');
        $handle->lock(LOCK_EX);
        $bob->call('ini_set', 'cluster_lock.timeout', '0.2');
        $outcome = $bob->try('file_put_contents', $this->file, 'new', $flags);
        self::assertNull($outcome->thrown, 'PHP\'s functions do not throw');
        self::assertFalse($outcome->value, 'It was not to be had');
        self::assertGreaterThanOrEqual(0.2, $outcome->seconds, 'Bob has waited');
        self::assertNotSame([], $outcome->warnings, 'What is not written is told');
        self::assertSame('content', file_get_contents($this->file), 'The file is as it was');
        $handle->unlock();

        self::assertSame(3, $bob->call('file_put_contents', $this->file, 'new', $flags), 'Nobody is in the way');
    }

    /** @dataProvider modes */
    public function testNoLineIsLostOrTorn(string $mode): void
    {
        $cluster = Cluster::redis();
        $actors = $cluster->actors(4, [
            'cluster_lock.intercept' => $this->dir,
            'cluster_lock.flock_mode' => $mode,
            'cluster_lock.timeout' => '60',
        ]);
        if ($mode === 'gate') {
            $actors[0] = Plain::actor();
        }
        unlink($this->file);
        foreach ($actors as $i => $actor) {
            $actor->beginRun(<<<'PHP'
                for ($n = 0; $n < 60; $n++) {
                    file_put_contents($file, ["$i:$n", ' ', str_repeat('x', 1000), "\n"], FILE_APPEND | LOCK_EX)
                        || throw new Exception('not written');
                }
                PHP, file: $this->file, i: $i);
        }
        foreach ($actors as $actor) {
            $actor->end(60);
        }
        $lines = file($this->file, FILE_IGNORE_NEW_LINES);

        self::assertCount(240, array_unique($lines), 'Each line is there once');
        self::assertSame([], preg_grep('/^\d:\d+ x{1000}$/', $lines, PREG_GREP_INVERT), 'and whole');
    }

    public function testAReaderUnderALockSeesWholeFiles(): void
    {
        [, $alice, $bob] = $this->two('replace');
        $alice->call('file_put_contents', $this->file, md5(''), LOCK_EX);
        $alice->beginRun(<<<'PHP'
            for ($n = 0; $n < 80; $n++) {
                $body = str_repeat((string) $n, ($n * 7919) % 50000);
                file_put_contents($file, [md5($body), $body], LOCK_EX);
            }
            PHP, file: $this->file);
        $torn = $bob->run(<<<'PHP'
            for ($n = $torn = 0; $n < 80; $n++) {
                $h = fopen($file, 'r');
                flock($h, LOCK_SH);
                $content = stream_get_contents($h);
                fclose($h);
                $torn += (int) (md5(substr($content, 32)) !== substr($content, 0, 32));
            }
            return $torn;
            PHP, file: $this->file);
        $alice->end(60);

        self::assertSame(0, $torn, 'Torn files');
    }

    public function testWithoutLockExThereIsNoLock(): void
    {
        [$cluster, $alice, $bob] = $this->two('gate');
        Handle::open($alice, $this->file, 'c+', 'flock')->lock(LOCK_EX);
        self::assertSame(3, $bob->call('file_put_contents', $this->file, 'new'), 'It does not ask');
        self::assertSame(1, $bob->call('file_put_contents', $this->file, '!', FILE_APPEND), 'It does not ask');

        self::assertSame(0, $bob->call('cluster_lock_status')['pool']['created'], 'There was no need to connect');
    }

    /** @return array{Cluster, Actor, Actor} */
    private function two(string $mode): array
    {
        $cluster = Cluster::redis();

        return [
            $cluster,
            ...$cluster->actors(2, ['cluster_lock.intercept' => $this->dir, 'cluster_lock.flock_mode' => $mode]),
        ];
    }
}
