<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/**
 * Seconds on a clock that nobody sets, and that goes on while the machine is suspended, as leases on the
 * server do: CLOCK_BOOTTIME, as far as PHP can have it. hrtime() stands still then, /proc/uptime does not.
 */
final class Clock
{
    /** Of /proc/uptime, in seconds. */
    private const STEP = 0.01;

    /** So many seconds that it is further ahead than before were a suspend. */
    private const SUSPENDED = 0.02;

    /** How far /proc/uptime is ahead of hrtime(): all suspends since the boot. Exactly nothing when there was none. */
    private static float $ahead = 0.0;

    private static ?bool $hasUptime = null;

    public static function now(): float
    {
        self::$hasUptime ??= Quiet::try(static fn () => is_readable('/proc/uptime'));
        $uptime = self::$hasUptime ? (float) Quiet::try(static fn () => file_get_contents('/proc/uptime')) : 0.0;
        // In this order: when this process has to wait in between, it takes the clock to be less ahead, never more.
        $monotonic = hrtime(true) / 1e9;
        // A container may be shown its own age there.
        if ($uptime < $monotonic * 0.99) {
            self::$hasUptime = false;
        } elseif ($uptime - $monotonic > self::$ahead + self::SUSPENDED) {
            self::$ahead = $uptime - $monotonic;
        }

        return $monotonic + self::$ahead;
    }

    /** By how much this clock may be behind that of another process. */
    public static function error(): float
    {
        return self::$ahead > 0.0 ? self::SUSPENDED + self::STEP : 0.0;
    }

    public static function sleep(float $seconds): void
    {
        usleep((int) (max(0.0, $seconds) * 1e6));
    }
}
