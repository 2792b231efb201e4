<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use Error;

/** From its making to its end no signal is handled and no garbage, which may have destructors, is collected. */
final class Undisturbed
{
    private readonly bool $collects;
    private readonly bool $interrupts;

    public function __construct()
    {
        // Some hosts disable single functions of these.
        $this->collects = self::has('gc_enabled', 'gc_disable', 'gc_enable') && gc_enabled();
        $this->interrupts = self::has('pcntl_async_signals', 'pcntl_signal_dispatch') && pcntl_async_signals();
        if ($this->collects) {
            gc_disable();
        }
        if ($this->interrupts) {
            pcntl_async_signals(false);
        }
    }

    public function end(): void
    {
        if ($this->collects) {
            gc_enable();
        }
        if ($this->interrupts) {
            pcntl_async_signals(true);
            // Those that came meanwhile are not seen before the next one, else.
            pcntl_signal_dispatch();
        }
    }

    private static function has(string ...$functions): bool
    {
        try {
            $exists = \function_exists(...);
        } catch (Error) {
            // Disabled, as disabled.php will say.
            return false;
        }
        foreach ($functions as $function) {
            if (!$exists($function)) {
                return false;
            }
        }

        return true;
    }
}
