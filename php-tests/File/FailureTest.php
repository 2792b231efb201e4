<?php

declare(strict_types=1);

namespace ClusterLock\Tests\File;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\SystemCalls;

/**
 * When a write fails, the old file is as it was and nothing else is left.
 */
final class FailureTest extends FileTestCase
{
    public function testAFullDiskIsAWarning(): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $writer = $this->writer();
        // A limit on the size of files: write(2) fails half-way, as on a full disk.
        $writer->run('return pcntl_signal(SIGXFSZ, SIG_IGN);');
        exec('prlimit --fsize=100000 --pid ' . $writer->pid(), $lines, $code);
        if ($code !== 0) {
            self::markTestSkipped('There is no prlimit here.');
        }
        foreach ([str_repeat('x', 200000), array_fill(0, 2000, str_repeat('x', 100))] as $data) {
            $outcome = $writer->tryRun(
                'return cluster_file_put_contents($file, $data);',
                file: "{$this->dir}/file",
                data: $data
            );
            self::assertMatchesRegularExpression('/file too large/i', $outcome->warning(), 'It says why');
            $this->assertUntouched('old', 'the write failed half-way');
        }
        self::assertSame(
            3,
            $writer->call('cluster_file_put_contents', "{$this->dir}/file", 'new'),
            'A smaller one fits'
        );
    }

    public function testADirectoryThatMayNotBeWrittenIsAWarning(): void
    {
        if (posix_geteuid() !== 0) {
            self::markTestSkipped('Only root can become somebody else.');
        }
        file_put_contents("{$this->dir}/file", 'old');
        chmod($this->dir, 0755);
        $writer = $this->unprivilegedWriter();
        foreach (['file', 'new file'] as $name) {
            $warning = $writer->try('cluster_file_put_contents', "{$this->dir}/$name", 'new')->warning();
            self::assertMatchesRegularExpression('/permission denied/i', $warning, 'It says why');
            self::assertStringContainsString($this->dir, $warning, 'It says where');
        }
        $this->assertUntouched('old', 'it is not ours');
    }

    public function testTooManyOpenFilesIsAWarning(): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $outcome = $this->writer()->run(<<<'PHP'
            $open = [];
            exec('prlimit --nofile=30 --pid ' . getmypid());
            while ($f = @fopen('/dev/null', 'r')) {
                $open[] = $f;
            }
            $result = @cluster_file_put_contents($file, 'new');
            $open = null;
            return [$result, cluster_file_put_contents($file, 'old')];
            PHP, file: "{$this->dir}/file");

        self::assertSame([false, 3], $outcome, 'Without a descriptor it fails, with one it works');
        $this->assertUntouched('old', 'and that is all');
    }

    public function testItCountsWritesThatWorked(): void
    {
        $writer = $this->writer();
        $writer->call('cluster_file_put_contents', "{$this->dir}/file", 'one');
        $writer->call('cluster_file_put_contents', "{$this->dir}/file", 'two');
        $writer->try('cluster_file_put_contents', "{$this->dir}/no/file", 'three')->warning();

        self::assertSame(2, $writer->call('cluster_lock_status')['counters']['writes'], 'writes');
    }

    public function testItIsSyncedBeforeAndAfterTheRename(): void
    {
        $calls = $this->systemCalls('1');

        self::assertMatchesRegularExpression(
            '/f(data)?sync.*rename.*fsync/s',
            $calls,
            'File first, then rename, then directory'
        );
    }

    public function testSyncingCanBeTurnedOff(): void
    {
        $calls = $this->systemCalls('0');

        self::assertMatchesRegularExpression('/rename/', $calls, 'It is renamed');
        self::assertDoesNotMatchRegularExpression('/f(data)?sync/', $calls, 'durable_writes = 0 syncs nothing');
    }

    /** What a write does between the opening and the end. */
    private function systemCalls(string $durable): string
    {
        return SystemCalls::of(
            $this->writer(['cluster_lock.durable_writes' => $durable]),
            'fsync,fdatasync,rename,renameat,renameat2',
            fn (Actor $writer) => $writer->call('cluster_file_put_contents', "{$this->dir}/file", 'new')
        );
    }
}
