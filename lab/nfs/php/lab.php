<?php

// What the programs on the nodes share: the conversation with the job, the ways to lock, strict errors.

declare(strict_types=1);

// A warning is a failure, unless the program asks for it with an error handler of its own.
set_error_handler(static function (int $severity, string $message, string $file, int $line): bool {
    throw new ErrorException($message, 0, $severity, $file, $line);
});

// A variant whose extension is missing would be plain flock(), and pass.
if (!in_array(parameters()['variant'], ['flock', 'none'], true) && !extension_loaded('cluster_lock')) {
    throw new RuntimeException('the extension is not loaded');
}

/** @return array<string, mixed> what the job told this program when it started it */
function parameters(): array
{
    return json_decode($_SERVER['argv'][1], true, 8, JSON_THROW_ON_ERROR);
}

/** @param array<string, mixed> $message */
function say(array $message): void
{
    fwrite(STDOUT, json_encode($message, JSON_THROW_ON_ERROR) . "\n");
}

/** Waits for a line of the job; its words, or null when the job has said all it wanted. */
function await(): ?array
{
    $line = fgets(STDIN);
    return $line === false ? null : explode(' ', rtrim($line, "\n"));
}

function sleep_until(int $nanoseconds): void
{
    $left = intdiv($nanoseconds - hrtime(true), 1000);
    if ($left > 0) {
        usleep($left);
    }
}

/**
 * How many of the locks that this program took were none of ours, though they had to be: an intercepted flock() that
 * fell through to the kernel's would exclude as well, and nobody would notice.
 */
function not_ours(string $variant, int $taken): int
{
    return in_array($variant, ['flock', 'none'], true) ? 0 : $taken - cluster_lock_status()['counters']['acquired'];
}

/**
 * Locks or unlocks a file in the way that is measured. $name stands for the file in the naive way, which knows
 * nothing of files.
 *
 * @param resource $stream
 */
function change_lock(string $variant, $stream, int $operation, string $name): void
{
    $done = match ($variant) {
        'none' => true,
        'naive' => $operation === LOCK_UN ? cluster_unlock($name) : cluster_lock($name, null, $operation),
        'gate', 'replace' => cluster_flock($stream, $operation),
        default => flock($stream, $operation),
    };
    if (!$done) {
        throw new RuntimeException("$variant: lock operation $operation on $name failed");
    }
}
