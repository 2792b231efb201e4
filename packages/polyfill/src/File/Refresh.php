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
        self::visit(dirname($path));
        if (is_link($path)) {
            self::visit(dirname((string) Quiet::try(static fn () => realpath($path))));
        }
        clearstatcache(true, $path);
        if (Quiet::try(static fn () => is_file($path))) {
            $file = Quiet::try(static fn () => fopen($path, 'rne'));
            if ($file !== false) {
                fclose($file);
            }
        } elseif (Quiet::try(static fn () => is_dir($path))) {
            self::visit($path);
        }
        clearstatcache(true, $path);
        clearstatcache(true, $filename);
    }

    private static function visit(string $directory): void
    {
        $open = Quiet::try(static fn () => opendir($directory));
        if ($open !== false) {
            closedir($open);
        }
    }
}
