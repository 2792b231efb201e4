<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Quiet;

/**
 * Makes an NFS client ask its server, as far as PHP can: to open a directory or a file is to have its attributes
 * checked (close-to-open consistency). What remains old until the client's own time is up are the attributes of
 * files that may not be opened.
 */
final class Refresh
{
    public static function path(string $filename): void
    {
        try {
            $path = LocalPath::of($filename, false);
        } catch (Failure) {
            // Those of other wrappers have no cache but PHP's.
            return;
        }
        clearstatcache(true, $path);
        // The directory first: a client remembers that a name did not exist as long as that is unchanged.
        self::directory(dirname($path));
        if (is_link($path)) {
            self::directory(dirname((string) Quiet::try(static fn () => realpath($path))));
        }
        clearstatcache(true, $path);
        if (Quiet::try(static fn () => is_file($path))) {
            self::file($path);
        } elseif (Quiet::try(static fn () => is_dir($path))) {
            self::directory($path);
        }
        clearstatcache(true, $path);
        clearstatcache(true, $filename);
    }

    public static function file(string $path): void
    {
        $file = Quiet::try(static fn () => fopen($path, 'rne'));
        if ($file !== false) {
            fclose($file);
        }
    }

    public static function directory(string $directory): void
    {
        $open = Quiet::try(static fn () => opendir($directory));
        if ($open !== false) {
            closedir($open);
        }
    }
}
