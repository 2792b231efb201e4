<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** What this process asks of its host. */
final class Host
{
    private static ?string $boot = null;

    /** The user that the kernel checks. */
    public static function user(): int
    {
        return function_exists('posix_geteuid')
            ? posix_geteuid()
            : (int) Quiet::try(static fn () => fileowner('/proc/self'));
    }

    /** Names the time since the kernel has started. */
    public static function boot(): string
    {
        return self::$boot ??= (string) Quiet::try(
            static fn () => file_get_contents('/proc/sys/kernel/random/boot_id')
        );
    }
}
