<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * Who holds and who awaits locks of flock(2) on this machine, as the kernel tells.
 */
final class KernelLocks
{
    public static function isWaiting(int $pid): bool
    {
        return preg_match("/^\\d+: -> FLOCK .* $pid /m", self::all()) === 1;
    }

    public static function isHolding(int $pid): bool
    {
        return preg_match("/^\\d+: FLOCK .* $pid /m", self::all()) === 1;
    }

    public static function awaitWaiter(int $pid): void
    {
        Until::true(
            static fn () => self::isWaiting($pid),
            static fn () => "$pid should wait in flock(2):\n" . self::all()
        );
    }

    private static function all(): string
    {
        return (string) file_get_contents('/proc/locks');
    }
}
