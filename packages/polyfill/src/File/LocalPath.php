<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Failure;

/** A file name as PHP's own functions take it: the absolute path it means. Symbolic links stay as they are. */
final class LocalPath
{
    /**
     * @param string $what plain local files alone can be
     *
     * @throws Failure it is not a plain local file's
     */
    public static function of(string $filename, bool $useIncludePath, string $what = 'replaced'): string
    {
        $path = $filename;
        if (preg_match('#^([a-z0-9+.-]{2,})://#i', $filename, $match)) {
            if (strcasecmp($match[1], 'file') !== 0) {
                throw self::notPlain($what);
            }
            $path = (string) preg_replace('#^file://(localhost(?=/))?#i', '', $filename);
            if (!str_starts_with($path, '/')) {
                throw self::notPlain($what);
            }
        } elseif (preg_match('#^data:#i', $filename)) {
            throw self::notPlain($what);
        }
        if (strlen($path) >= PHP_MAXPATHLEN) {
            throw Failure::other(sprintf('The path is too long: more than %d bytes', PHP_MAXPATHLEN - 1));
        }
        $found = $useIncludePath ? stream_resolve_include_path($path) : false;
        if ($found !== false) {
            return $found;
        }

        if (str_starts_with($path, '/')) {
            return $path;
        }
        $directory = getcwd();

        return $directory !== false
            ? "$directory/$path"
            : throw Failure::other('The working directory cannot be found: No such file or directory');
    }

    private static function notPlain(string $what): Failure
    {
        return Failure::other("Only plain local files can be $what, not those of a stream wrapper");
    }
}
