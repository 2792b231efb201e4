<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/**
 * Seconds on a clock that nobody sets, and that goes on while the machine is suspended, as leases on the
 * server do: CLOCK_BOOTTIME, as far as PHP can have it. hrtime() stands still then, /proc/uptime does not.
 */
final class Clock
{
    /** So many seconds that /proc/uptime is further ahead than before were a suspend, and not its steps of 10 ms. */
    private const SUSPENDED = 0.05;

    /** How far /proc/uptime is ahead of hrtime(). */
    private static float $ahead = -INF;

    private static ?bool $hasUptime = null;

    public static function now(): float
    {
        $monotonic = hrtime(true) / 1e9;
        self::$hasUptime ??= Quiet::try(static fn () => is_readable('/proc/uptime'));
        if (self::$hasUptime) {
            $uptime = (float) Quiet::try(static fn () => file_get_contents('/proc/uptime'));
            // A container may be shown its own age there.
            if ($uptime < $monotonic * 0.99) {
                self::$hasUptime = false;
            } elseif ($uptime - $monotonic > self::$ahead + self::SUSPENDED) {
                self::$ahead = $uptime - $monotonic;
            }
        }

        return self::$hasUptime ? $monotonic + self::$ahead : $monotonic;
    }

    public static function sleep(float $seconds): void
    {
        usleep((int) (max(0.0, $seconds) * 1e6));
    }
}
