<?php

declare(strict_types=1);

// One process that opens, locks and closes one file over and over.
//
//   php streams.php DIRECTORY
//
//   run WAY N    N times, in one go    -> nanoseconds for each

namespace Bench;

ini_set('display_errors', 'stderr');
set_error_handler(static function (int $level, string $message): never {
    throw new \ErrorException($message, 0, $level);
});

[, $directory] = $argv;
$path = "$directory/file-" . getmypid();
touch($path);
$open = fopen($path, 'c+');

$ways = [
    'fopen, fclose' => function (int $n) use ($path): void {
        while ($n-- > 0) {
            fclose(fopen($path, 'r'));
        }
    },
    'flock, unlock' => function (int $n) use ($open): void {
        while ($n-- > 0) {
            flock($open, LOCK_EX);
            flock($open, LOCK_UN);
        }
    },
    'file_put_contents, LOCK_EX' => function (int $n) use ($path): void {
        while ($n-- > 0) {
            file_put_contents($path, 'x', LOCK_EX);
        }
    },
];

echo "ready\n";

while (false !== $line = fgets(STDIN)) {
    [$command, $way, $n] = explode("\t", rtrim($line));
    if ('run' !== $command) {
        throw new \LogicException("unknown command $command");
    }
    $run = $ways[$way];
    $start = hrtime(true);
    $run((int) $n);
    echo intdiv(hrtime(true) - $start, (int) $n), "\n";
}
