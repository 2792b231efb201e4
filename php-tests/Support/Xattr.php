<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use FFI;

/**
 * Extended attributes, for which PHP has no functions.
 */
final class Xattr
{
    public static function isAvailable(string $dir): bool
    {
        return extension_loaded('ffi') && self::set($dir, 'user.cluster_lock_test', 'x');
    }

    public static function set(string $path, string $name, string $value): bool
    {
        return self::libc()->setxattr($path, $name, $value, strlen($value), 0) === 0;
    }

    public static function get(string $path, string $name): ?string
    {
        $buffer = FFI::new('char[4096]');
        $length = self::libc()->getxattr($path, $name, $buffer, 4096);

        return $length < 0 ? null : FFI::string($buffer, $length);
    }

    private static function libc(): FFI
    {
        static $libc = null;

        return $libc ??= FFI::cdef(
            'int setxattr(const char *path, const char *name, const char *value, size_t size, int flags);'
            . 'long getxattr(const char *path, const char *name, void *value, size_t size);'
        );
    }
}
