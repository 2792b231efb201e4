<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\AssertionFailedError;

/**
 * Waits for states and events, never for time to pass.
 */
final class Until
{
    /** Longer than anything takes that works, on a loaded machine too: a guard against what hangs, and no measure. */
    public const PATIENCE = 60.0;

    /** A time to wait for those that are not to wait: whoever does is found out by PATIENCE. */
    public const TOO_LONG = 600;

    /**
     * Calls $probe until it returns something true, and returns that.
     *
     * @param callable(): mixed              $probe
     * @param string|callable(): string $what  what was expected, for the message of the failure
     */
    public static function true(callable $probe, string|callable $what, float $seconds = self::PATIENCE): mixed
    {
        $deadline = self::now() + $seconds;
        do {
            clearstatcache();
            if ($result = $probe()) {
                return $result;
            }
            usleep(3000);
        } while (self::now() < $deadline);
        $what = is_string($what) ? $what : $what();

        throw new AssertionFailedError(sprintf('Waited %.1f s in vain: %s', $seconds, $what));
    }

    /** Seconds on a clock that nobody sets. */
    public static function now(): float
    {
        return hrtime(true) / 1e9;
    }
}
