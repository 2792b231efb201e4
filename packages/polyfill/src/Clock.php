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

    /** For so many seconds /proc/uptime need not be looked at: it costs more than all else here. */
    private const REST = 1.0;

    /** But at once when the wall clock has run away from hrtime(), as it does in a suspend; also when it is set. */
    private const AWAY = 0.005;

    /** How far /proc/uptime is ahead of hrtime(): all suspends since the boot. Exactly nothing when there was none. */
    private static float $ahead = 0.0;

    private static ?bool $hasUptime = null;

    /** By hrtime(), when /proc/uptime was last looked at, and how far the wall clock was ahead then. */
    private static float $looked = -INF;
    private static float $wall = 0.0;

    public static function now(): float
    {
        $monotonic = hrtime(true) / 1e9;
        $wall = microtime(true) - $monotonic;
        if ($monotonic - self::$looked > self::REST || abs($wall - self::$wall) > self::AWAY) {
            // As they were before: a suspend meanwhile is seen next time.
            [self::$looked, self::$wall] = [$monotonic, $wall];
            $monotonic = self::look();
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

    /** What hrtime() says after it. */
    private static function look(): float
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

        return $monotonic;
    }
}
