<?php

declare(strict_types=1);

namespace ClusterLock\Tests\File;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\Until;

/**
 * Readers see whole files whatever happens to writers, and what dead writers leave is swept up.
 */
final class StormTest extends FileTestCase
{
    private const WRITE = <<<'PHP'
        for ($i = 0; true; $i++) {
            $body = str_repeat(chr(mt_rand(97, 122)), mt_rand(1, 300000));
            $done = cluster_file_put_contents($file, [md5($body), $body], $flags);
            if ($done !== 32 + strlen($body)) {
                throw new Exception('not written');
            }
            if (file_exists($stop)) {
                return $i;
            }
        }
        PHP;

    private const READ = <<<'PHP'
        for ($reads = 0; !file_exists($stop); $reads++) {
            $content = file_get_contents($file);
            if (md5(substr($content, 32)) !== substr($content, 0, 32)) {
                throw new Exception('torn: ' . strlen($content) . ' bytes');
            }
            clearstatcache();
        }
        return $reads;
        PHP;

    /** @return array<string, array{int}> */
    public static function flags(): array
    {
        return ['without a lock' => [0], 'with LOCK_EX' => [LOCK_EX]];
    }

    /** @dataProvider flags */
    public function testReadersSeeWholeFilesThoughWritersAreKilled(int $flags): void
    {
        $cluster = Cluster::redis();
        $file = "{$this->dir}/file";
        $stop = TempDir::forTest() . '/stop';
        file_put_contents($file, md5('') . '');
        $settings = ['cluster_lock.ttl' => '0.5', 'cluster_lock.timeout' => '60', 'cluster_lock.durable_writes' => '0'];
        $start = function () use ($cluster, $settings, $file, $stop, $flags): Actor {
            $writer = $cluster->actor($settings);
            $writer->beginRun(self::WRITE, file: $file, stop: $stop, flags: $flags);

            return $writer;
        };
        $readers = $cluster->actors(2);
        foreach ($readers as $reader) {
            $reader->beginRun(self::READ, file: $file, stop: $stop);
        }
        $writers = array_map($start, range(0, 2));
        mt_srand(4711);
        $killed = [];
        for ($i = 0; $i < 20; $i++) {
            usleep(mt_rand(20_000, 120_000));
            $victim = mt_rand(0, 2);
            $killed[] = $writers[$victim]->pid();
            $writers[$victim]->kill();
            $writers[$victim] = $start();
        }
        touch($stop);
        foreach ($readers as $reader) {
            self::assertGreaterThan(0, $reader->end(), 'A reader should have read, and all that it read was whole');
        }
        foreach ($writers as $writer) {
            $writer->end(30);
        }
        $left = array_diff($this->names(), ['file']);

        self::assertLessThanOrEqual(count($killed), count($left), 'Only killed writers leave something');
        foreach ($left as $name) {
            self::assertMatchesRegularExpression(
                '/\b(' . implode('|', $killed) . ')\b/',
                $name,
                "$name should name the killed process that left it"
            );
        }
    }

    /**
     * @dataProvider flags
     * @group slow
     */
    public function testAThousandWritersAndReaders(int $flags): void
    {
        $file = "{$this->dir}/file";
        file_put_contents($file, md5(''));
        // With AddressSanitizer each takes 30 MB.
        $processes = getenv('ASAN_OPTIONS') === false ? 1000 : 200;
        $process = Cluster::redis()->process(
            sprintf(
                '[$file, $flags, $processes] = [%s, %d, %d]; require %s;',
                var_export($file, true),
                $flags,
                $processes,
                var_export(dirname(__DIR__) . '/fixtures/thousand.php', true)
            ),
            ['cluster_lock.ttl' => '2', 'cluster_lock.timeout' => '100', 'cluster_lock.durable_writes' => '0', 'cluster_lock.slow_wait' => '0']
        );
        $ended = json_decode($process->line(110.0), true);
        self::assertSame(0, $process->wait(), $process->transcript());

        self::assertSame(0, $ended['torn'], 'Every read was complete');
        self::assertSame(0, $ended['failed'], 'Every write succeeded');
        self::assertSame($processes / 10, $ended['cut'], 'So many writers were killed');
        self::assertSame($processes, $ended['whole'] + $ended['cut'], 'All others went on to the end');
        $content = file_get_contents($file);
        self::assertSame(md5(substr($content, 32)), substr($content, 0, 32), 'The file is complete');
        foreach (array_diff($this->names(), ['file']) as $name) {
            self::assertMatchesRegularExpression('/\b(' . implode('|', $ended['killed']) . ')\b/', $name, "$name should be of a killed writer");
        }
    }

    public function testTheNextWriteSweepsUpWhatDeadWritersLeftAnHourAgo(): void
    {
        $file = "{$this->dir}/file";
        file_put_contents($file, 'old');
        $stale = $this->leaveTemporaryFile();
        $fresh = $this->leaveTemporaryFile();
        [$ofTheLiving, $living, $pipe] = $this->openTemporaryFile();
        touch("{$this->dir}/$stale", time() - 7200);
        touch("{$this->dir}/$ofTheLiving", time() - 7200);
        $foreign = [
            '.file.tmp',
            'file~',
            '.file.swp',
            '.nfs0001',
            '.other',
            'file.bak',
            '.file.1234',
            ltrim($stale, '.'),
            "$stale.txt",
        ];
        foreach ($foreign as $name) {
            touch("{$this->dir}/$name", time() - 100_000);
        }
        $this->writer()->call('cluster_file_put_contents', $file, 'new');

        $expected = ['file', $fresh, $ofTheLiving, ...$foreign];
        sort($expected, SORT_STRING);
        $names = $this->names();
        sort($names, SORT_STRING);
        self::assertSame($expected, $names, 'Only the stale file of the dead writer should go');
        $this->finishSlowWrite($pipe);
        self::assertSame(23, $living->end(), 'The living writer was not disturbed');
    }

    public function testAWriteSweepsUpTheTemporaryFilesOfOtherFiles(): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        foreach (range(1, 3) as $i) {
            touch("{$this->dir}/{$this->leaveTemporaryFile()}", time() - 7200);
        }
        $this->writer()->call('cluster_file_put_contents', "{$this->dir}/other", 'new');

        self::assertSame(['file', 'other'], $this->names(), 'Nothing stale stays');
    }

    public function testATemporaryFileIsNotServedByAWebServer(): void
    {
        file_put_contents("{$this->dir}/page.php", 'old');
        [$name, , $pipe] = $this->openTemporaryFile('page.php');
        self::assertStringStartsWith('.', $name, 'It is hidden');
        self::assertStringEndsNotWith('.php', $name, 'and not run');
        self::assertSame('600', decoct(fileperms("{$this->dir}/$name") & 0777), 'Nobody else may read it yet');
        fclose($pipe);
    }

    /** The name of the temporary file of a writer that was killed while it wrote. */
    private function leaveTemporaryFile(): string
    {
        [$name, $writer, $pipe] = $this->openTemporaryFile();
        $writer->kill();
        fclose($pipe);

        return $name;
    }

    /** @return array{string, Actor, resource} the temporary file of a writer at work, the writer, its pipe */
    private function openTemporaryFile(string $name = 'file'): array
    {
        $before = $this->names();
        $writer = $this->writer();
        $pipe = $this->beginSlowWrite($writer, "{$this->dir}/$name");
        $new = Until::true(
            fn () => array_values(array_diff($this->names(), $before)),
            'a temporary file should be made'
        );
        self::assertCount(1, $new, 'One temporary file for one write');

        return [$new[0], $writer, $pipe];
    }
}
