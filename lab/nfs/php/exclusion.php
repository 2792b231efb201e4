<?php

// One of three ways to lock a file: holds it until it is told, or asks for it and says when it has it.

declare(strict_types=1);

require __DIR__ . '/lab.php';

/** Data for cluster_file_put_contents() that comes only when the job wants it. */
final class SlowData
{
    public static Closure $wait;
    public mixed $context;
    private bool $read = false;

    public function stream_open(string $path, string $mode, int $options, ?string &$opened): bool
    {
        return true;
    }

    public function stream_read(int $count): string
    {
        if ($this->read) {
            return '';
        }
        $this->read = true;
        (self::$wait)();
        return "written\n";
    }

    public function stream_eof(): bool
    {
        return $this->read;
    }

    public function stream_stat(): array|false
    {
        return false;
    }

    public function stream_set_option(int $option, int $first, ?int $second): bool
    {
        return false;
    }
}

/**
 * The node may open what it remembers of a file that the other one has replaced. The lock says so, and then it is
 * opened again.
 *
 * @return resource
 */
function open_and_lock(string $path, Closure $lock)
{
    for ($left = 5; $left > 0; $left--) {
        $stream = fopen($path, 'c+');
        try {
            if ($lock($stream, LOCK_EX)) {
                return $stream;
            }
        } catch (ErrorException $warning) {
            if (!str_contains($warning->getMessage(), 'stale file handle')) {
                throw $warning;
            }
        }
        fclose($stream);
    }
    throw new RuntimeException("$path cannot be locked");
}

stream_wrapper_register('slow', SlowData::class);
['kind' => $kind, 'path' => $path] = parameters();
say(['ready' => true]);
while (($words = await()) !== null) {
    // "hold": says so when it has the lock, gives it back when told. "ask": takes it and gives it back at once.
    $wait = static function () use ($words): void {
        say(['got' => hrtime(true), 'locks' => array_column(cluster_lock_list(), 'name')]);
        if ($words[0] === 'hold') {
            await();
            say(['released' => hrtime(true)]);
        }
    };
    if ($words[0] === 'ask') {
        say(['asks' => hrtime(true)]);
    }
    if ($kind === 'put') {
        SlowData::$wait = $wait;
        $source = fopen('slow://data', 'r');
        if (cluster_file_put_contents($path, $source, LOCK_EX) === false) {
            throw new RuntimeException('cluster_file_put_contents() failed');
        }
        fclose($source);
        continue;
    }
    $lock = $kind === 'cluster_flock' ? cluster_flock(...) : flock(...);
    $stream = open_and_lock($path, $lock);
    $wait();
    $lock($stream, LOCK_UN);
    fclose($stream);
}
