<?php

declare(strict_types=1);

// One process that replaces one file over and over, in one of several ways.
//
//   php writer.php DIRECTORY
//
//   write WAY BYTES N    N timed writes of BYTES bytes             -> base64 of N little-endian u32, nanoseconds
//
// Only cluster_file_put_contents() and the rename ways keep a reader from seeing half a file; only the "fsync" ways
// and durable_writes=1 survive a power cut.

namespace Bench;

ini_set('display_errors', 'stderr');
set_error_handler(static function (int $level, string $message): never {
    throw new \ErrorException($message, 0, $level);
});

function swap(string $path, string $data, bool $sync): int|false
{
    $temp = tempnam(dirname($path), 'tmp');
    $file = fopen($temp, 'w');
    $written = fwrite($file, $data);
    if ($sync) {
        fsync($file);
    }
    fclose($file);
    rename($temp, $path);
    if ($sync) {
        $directory = fopen(dirname($path), 'r');
        fsync($directory);
    }

    return $written;
}

$ways = [
    'file_put_contents' => fn (string $path, string $data) => file_put_contents($path, $data),
    'file_put_contents, LOCK_EX' => fn (string $path, string $data) => file_put_contents($path, $data, LOCK_EX),
    'tempnam, rename' => fn (string $path, string $data) => swap($path, $data, false),
    'tempnam, fsync, rename, fsync' => fn (string $path, string $data) => swap($path, $data, true),
    'cluster, durable=0' => function (string $path, string $data) {
        return cluster_file_put_contents($path, $data);
    },
    'cluster, durable=0, LOCK_EX' => function (string $path, string $data) {
        return cluster_file_put_contents($path, $data, LOCK_EX);
    },
    'cluster, durable=1' => function (string $path, string $data) {
        return cluster_file_put_contents($path, $data);
    },
];

[, $directory] = $argv;
echo "ready\n";

while (false !== $line = fgets(STDIN)) {
    [$command, $way, $bytes, $n] = explode("\t", rtrim($line));
    if ('write' !== $command) {
        throw new \LogicException("unknown command $command");
    }
    if (str_starts_with($way, 'cluster')) {
        ini_set('cluster_lock.durable_writes', str_contains($way, 'durable=1') ? '1' : '0');
    }
    $write = $ways[$way];
    $path = "$directory/target-$bytes";
    $data = random_bytes((int) $bytes);
    $write($path, $data);
    $took = [];
    for ($i = (int) $n; $i > 0; $i--) {
        $start = hrtime(true);
        $written = $write($path, $data);
        $took[] = hrtime(true) - $start;
        if ($written !== strlen($data)) {
            throw new \RuntimeException("$way wrote " . var_export($written, true) . " of $bytes bytes");
        }
    }
    if (file_get_contents($path) !== $data) {
        throw new \RuntimeException("$way left something else in the file");
    }
    echo base64_encode(pack('V*', ...$took)), "\n";
}
