<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use Closure;
use Error;

/**
 * From now on until what it returns is called no signal is handled and no garbage, which may have destructors, is
 * collected. A function, since it is needed before any class is loaded.
 *
 * @return Closure(): void
 */
function undisturbed(): Closure
{
    try {
        $exists = \function_exists(...);
    } catch (Error) {
        // Disabled, as disabled.php will say.
        return static fn () => null;
    }
    // Some hosts disable single functions of these.
    $collects = $exists('gc_enabled') && $exists('gc_disable') && $exists('gc_enable') && gc_enabled();
    $interrupts = $exists('pcntl_async_signals') && $exists('pcntl_signal_dispatch') && pcntl_async_signals();
    if ($collects) {
        gc_disable();
    }
    if ($interrupts) {
        pcntl_async_signals(false);
    }

    return static function () use ($collects, $interrupts): void {
        if ($collects) {
            gc_enable();
        }
        if ($interrupts) {
            pcntl_async_signals(true);
            // Those that came meanwhile are not seen before the next one, else.
            pcntl_signal_dispatch();
        }
    };
}
