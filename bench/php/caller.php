<?php

declare(strict_types=1);

// One process that wants work of 100 ms done, for a run of it or under a plain lock, and obeys the runner: a command a line
// on stdin, an answer a line on stdout.
//
//   php caller.php
//
//   run T0          from T0 (hrtime), by cluster_coalesced()           -> "NANOSECONDS RAN": of the call, and whether it ran here
//   plain T0        the same by cluster_lock() and cluster_unlock()    -> "NANOSECONDS 1"; both: "late" when T0 had passed
//   runs N          N timed cluster_coalesced() that do nothing        -> base64 of N little-endian u32, nanoseconds
//   cycles N        N timed cluster_lock() and cluster_unlock()        -> the same

namespace Bench;

ini_set('display_errors', 'stderr');
set_error_handler(static function (int $level, string $message): never {
    throw new \ErrorException($message, 0, $level);
});

const WORK_US = 100_000;

function say(string $line): void
{
    fwrite(STDOUT, $line . "\n");
}

/** @param callable(): bool $call */
function at(int $t0, callable $call): void
{
    if (hrtime(true) >= $t0) {
        say('late');
        return;
    }
    while (($left = $t0 - hrtime(true)) > 0) {
        usleep(intdiv($left, 1000) + 1);
    }
    $start = hrtime(true);
    $ran = $call();
    say((hrtime(true) - $start) . ' ' . (int) $ran);
}

/** @param callable(): bool $call */
function times(int $n, callable $call): void
{
    for ($i = 0; $i < 10; $i++) {
        $call() || throw new \RuntimeException('not done');
    }
    $took = [];
    while ($n-- > 0) {
        $start = hrtime(true);
        $call() || throw new \RuntimeException('not done');
        $took[] = hrtime(true) - $start;
    }
    say(base64_encode(pack('V*', ...$took)));
}

function run(): bool
{
    $ran = false;
    cluster_coalesced('bench:run', static function () use (&$ran): void {
        usleep(WORK_US);
        $ran = true;
    }) || throw new \RuntimeException('not done');

    return $ran;
}

function plain(): bool
{
    cluster_lock('bench:run') || throw new \RuntimeException('not locked');
    usleep(WORK_US);
    cluster_unlock('bench:run') || throw new \RuntimeException('not unlocked');

    return true;
}

$own = 'bench:own:' . getmypid();
// Connected, and scripts known to the server, before anything is measured.
cluster_coalesced($own, static fn () => true);
say('ready');

while (false !== $line = fgets(STDIN)) {
    $args = explode(' ', rtrim($line));
    match ($args[0]) {
        'run' => at((int) $args[1], run(...)),
        'plain' => at((int) $args[1], plain(...)),
        'runs' => times((int) $args[1], static fn () => cluster_coalesced($own, static fn () => true)),
        'cycles' => times((int) $args[1], static fn () => cluster_lock($own) && cluster_unlock($own)),
    };
}
