<?php

declare(strict_types=1);

namespace ClusterLock\Chaos;

use ClusterLock;

/**
 * Code that comes in between, at any time: a signal's handler that locks, and garbage that holds locks and is collected
 * whenever PHP likes.
 */
function interrupt(History $history): void
{
    $names = ['interrupt-a', 'interrupt-b'];
    pcntl_async_signals(true);
    // PHP takes handlers away before it ends, and this signal's default is death.
    register_shutdown_function(static fn () => pcntl_signal(SIGALRM, SIG_IGN) && pcntl_alarm(0));
    pcntl_signal(SIGALRM, static function () use ($history, $names): void {
        $hold = new Hold($history, ['function', 'object'][random_int(0, 1)], $names[random_int(0, 1)], LOCK_EX, 2.0);
        if ($hold->take(0.0)) {
            $hold->look();
            $hold->give();
        }
        $garbage = new class {
            public ?object $self = null;
            public ?ClusterLock $lock = null;
        };
        $garbage->self = $garbage;
        $garbage->lock = new ClusterLock('garbage-' . getmypid(), LOCK_EX, 0.5);
        try {
            $garbage->lock->acquire(0.0);
        } catch (\ClusterLockException) {
            // The server is away.
        }
        pcntl_alarm(1);
    });
    pcntl_alarm(1);
}
