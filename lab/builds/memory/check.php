<?php

// For the programs next to it: what this process takes, and a check that ends it.

declare(strict_types=1);

function check(bool $holds, string $what): void
{
    if (!$holds) {
        fwrite(STDERR, "FAILED: $what\n");
        exit(1);
    }
}

/** @return array{rss: int, fds: int, threads: int} resident memory in KiB, open descriptors, threads */
function size_of_process(): array
{
    $status = file_get_contents('/proc/self/status');
    preg_match('/^VmRSS:\s+(\d+)/m', $status, $rss);
    preg_match('/^Threads:\s+(\d+)/m', $status, $threads);

    // scandir() has one open itself, and counts itself.
    return ['rss' => (int) $rss[1], 'fds' => count(scandir('/proc/self/fd')) - 3, 'threads' => (int) $threads[1]];
}

/** Tells how much is held after the first tenth of the work and at its end; more is growth. */
function check_growth(array $early, array $late, float $ratio): void
{
    printf(
        "%d KiB, %d descriptors, %d threads at first; %d KiB, %d, %d at the end\n",
        ...[...array_values($early), ...array_values($late)]
    );
    check($late['rss'] <= $early['rss'] * $ratio, "resident memory grew by more than a factor of $ratio");
    check($late['fds'] <= $early['fds'], 'descriptors are left open');
    check($late['threads'] <= $early['threads'], 'threads are left running');
}
