<?php

declare(strict_types=1);

// One process that holds one contestant and obeys the runner: a command a line on stdin, an answer a line on stdout.
//
//   php worker.php CONTESTANT SERVER NAME
//
//   cycles N             N timed lock+unlock                       -> base64 of N little-endian u32, nanoseconds
//   lock                 one lock                                  -> "calling T", then "held T" when it returns
//   unlock               one unlock, no answer: nothing may disturb the process that wakes
//   report               when the last unlock was called           -> "T"
//   seconds T0 S FILE    from T0 for S seconds, count in FILE      -> "N"; or "late" when T0 had passed
//   times T0 N FILE      from T0, N times, count in FILE           -> "SECONDS"; or "late"
//
// T is hrtime(true), nanoseconds of CLOCK_MONOTONIC, which all processes of a host share.

namespace Bench;

ini_set('display_errors', 'stderr');
set_error_handler(static function (int $level, string $message): never {
    throw new \ErrorException($message, 0, $level);
});

require __DIR__ . '/Contestant.php';

[, $contestant, $server, $name] = $argv;
$lock = (require __DIR__ . "/contestants/$contestant.php")($server, $name);

function say(string $line): void
{
    fwrite(STDOUT, $line . "\n");
}

/** Sleeps to just before $t0, then spins: all processes start within a microsecond or so. */
function until(int $t0): bool
{
    if (hrtime(true) >= $t0) {
        return false;
    }
    while (($left = $t0 - hrtime(true)) > 0) {
        if ($left > 2_000_000) {
            usleep(intdiv($left - 1_000_000, 1000));
        }
    }

    return true;
}

/**
 * A read and a write that only a lock can make one.
 *
 * @param resource $file
 */
function increment($file): void
{
    fseek($file, 0);
    $value = (int) fread($file, 20) + 1;
    fseek($file, 0);
    fwrite($file, sprintf('%020d', $value));
}

/** @return resource */
function counter(string $path)
{
    $file = fopen($path, 'r+');
    stream_set_read_buffer($file, 0);

    return $file;
}

// Connected, and scripts known to the server, before anything is measured.
$lock->lock();
$lock->unlock();
say('ready');

$called = 0;
while (false !== $line = fgets(STDIN)) {
    $args = explode(' ', rtrim($line));
    switch ($args[0]) {
        case 'cycles':
            for ($i = 0; $i < 10; $i++) {
                $lock->lock();
                $lock->unlock();
            }
            $took = [];
            for ($i = (int) $args[1]; $i > 0; $i--) {
                $start = hrtime(true);
                $lock->lock();
                $lock->unlock();
                $took[] = hrtime(true) - $start;
            }
            say(base64_encode(pack('V*', ...$took)));
            break;
        case 'lock':
            say('calling ' . hrtime(true));
            $lock->lock();
            $held = hrtime(true);
            say("held $held");
            break;
        case 'unlock':
            $called = hrtime(true);
            $lock->unlock();
            break;
        case 'report':
            say((string) $called);
            break;
        case 'seconds':
            $file = counter($args[3]);
            $t0 = (int) $args[1];
            $end = $t0 + (int) ((float) $args[2] * 1e9);
            if (!until($t0)) {
                say('late');
                break;
            }
            for ($n = 0; hrtime(true) < $end; $n++) {
                $lock->lock();
                increment($file);
                $lock->unlock();
            }
            say((string) $n);
            break;
        case 'times':
            $file = counter($args[3]);
            if (!until((int) $args[1])) {
                say('late');
                break;
            }
            $start = hrtime(true);
            for ($n = (int) $args[2]; $n > 0; $n--) {
                $lock->lock();
                increment($file);
                $lock->unlock();
            }
            say(sprintf('%.6f', (hrtime(true) - $start) / 1e9));
            break;
        default:
            throw new \LogicException("unknown command $args[0]");
    }
}
