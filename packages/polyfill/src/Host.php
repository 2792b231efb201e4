<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** What this process asks of its host. php.ini may hide much of it (open_basedir, disable_functions). */
final class Host
{
    private static ?string $boot = null;
    private static ?int $pid = null;

    /** The user that the kernel checks. Null: it cannot be known. */
    public static function user(): ?int
    {
        if (function_exists('posix_geteuid')) {
            return posix_geteuid();
        }
        // A socket belongs to the user of its process, and is in no file system.
        $pair = function_exists('stream_socket_pair')
            ? Quiet::try(static fn () => stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0))
            : false;
        $user = $pair ? fstat($pair[0])['uid'] ?? null : null;

        return $user ?? (Quiet::try(static fn () => stat('/proc/self')) ?: [])['uid'] ?? null;
    }

    /** Names the time since the kernel has started. '': it cannot be known. */
    public static function boot(): string
    {
        return self::$boot ??= trim((string) Quiet::try(
            static fn () => file_get_contents('/proc/sys/kernel/random/boot_id')
        ));
    }

    /** Of this process, where getmypid() is disabled. 0: it cannot be known, and then it cannot fork, either. */
    public static function pid(): int
    {
        if (function_exists('posix_getpid')) {
            return posix_getpid();
        }

        return self::$pid ??= (int) Quiet::try(static fn () => file_get_contents('/proc/self/stat'));
    }

    /** Of Swoole or OpenSwoole, whose coroutines are no fibers. */
    public static function inCoroutine(): bool
    {
        foreach (['swoole' => 'Swoole\\Coroutine', 'openswoole' => 'OpenSwoole\\Coroutine'] as $extension => $class) {
            if (extension_loaded($extension) && method_exists($class, 'getCid') && $class::getCid() >= 0) {
                return true;
            }
        }

        return false;
    }

    /** Where one of the functions that tell it is disabled. */
    public static function name(): string
    {
        return match (true) {
            function_exists('gethostname') => (string) gethostname(),
            function_exists('php_uname') => php_uname('n'),
            default => trim((string) Quiet::try(static fn () => file_get_contents('/proc/sys/kernel/hostname'))),
        };
    }
}
