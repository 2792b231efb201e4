<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * A test that writes files into a directory of its own.
 */
abstract class FileTestCase extends TestCase
{
    protected string $dir;

    protected function setUp(): void
    {
        parent::setUp();
        $this->dir = TempDir::forTest();
    }

    /** A process for writes that need no lock: its server is not there. */
    final protected function writer(array $settings = []): Actor
    {
        return Cluster::at('redis://127.0.0.1:1')->actor($settings);
    }

    /** The same, and it is not root's. What a write needs is loaded before: the project may lie where only root can read. */
    final protected function unprivilegedWriter(): Actor
    {
        $writer = $this->writer();
        $file = TempDir::forTest() . '/file';
        foreach (['new', 'replaced'] as $content) {
            $writer->call('cluster_file_put_contents', $file, $content);
        }
        $writer->try('cluster_file_put_contents', "$file/below", 'fails');
        $writer->run('return posix_setgid(65534) && posix_setuid(65534);');

        return $writer;
    }

    /** @return list<string> the names in the directory */
    final protected function names(): array
    {
        return array_values(array_diff(scandir($this->dir), ['.', '..']));
    }

    /** The file is as it was, and nothing else is in the directory. */
    final protected function assertUntouched(string $content, string $why, string $name = 'file'): void
    {
        self::assertSame($content, @file_get_contents("{$this->dir}/$name"), "The old file should be untouched: $why");
        self::assertSame([$name], $this->names(), "No temporary file may stay: $why");
    }

    /**
     * Begins a write whose data comes from a pipe that the test holds open: it is under way until
     * the pipe is closed.
     *
     * @return resource the pipe
     */
    final protected function beginSlowWrite(Actor $actor, string $file, int $flags = 0, ?string $lock = null)
    {
        $fifo = TempDir::forTest() . '/fifo';
        posix_mkfifo($fifo, 0600);
        // Opened for both, so that neither side waits for the other; not inherited by later processes.
        $pipe = fopen($fifo, 'r+e');
        fwrite($pipe, 'first half, ');
        $actor->beginRun(
            '$data = fopen($fifo, "r"); say("begins"); return cluster_file_put_contents($file, $data, $flags, $lock);',
            fifo: $fifo,
            file: $file,
            flags: $flags,
            lock: $lock
        );
        $actor->process()->expect('begins');

        return $pipe;
    }

    /** @param resource $pipe */
    final protected function finishSlowWrite($pipe): void
    {
        fwrite($pipe, 'second half');
        fclose($pipe);
    }
}
