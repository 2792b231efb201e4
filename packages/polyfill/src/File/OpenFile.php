<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Quiet;

/** A regular file that is open. */
final class OpenFile
{
    private const DELETED = ' (deleted)';

    private function __construct(
        /** Its real path. */
        public readonly string $path,
        public readonly int $device,
        public readonly int $inode,
    ) {
    }

    /**
     * Null: it is not a regular file of a plain stream.
     *
     * @param resource $stream
     */
    public static function of($stream): ?self
    {
        $meta = stream_get_meta_data($stream);
        $stat = fstat($stream);
        if ($meta['stream_type'] !== 'STDIO' || $stat === false || ($stat['mode'] & 0170000) !== 0100000) {
            return null;
        }
        $typed = preg_replace('#^file://(localhost(?=/))?#i', '', $meta['uri'] ?? '');
        $path = self::isAt(realpath($typed), $stat) ? (string) realpath($typed) : self::known($stat, $typed);

        return $path === null ? null : new self($path, $stat['dev'], $stat['ino']);
    }

    /**
     * By what the kernel knows it, or else by what it was opened by: it may have been renamed, replaced or deleted.
     *
     * @param array<string, int> $stat
     */
    private static function known(array $stat, string $typed): ?string
    {
        clearstatcache();
        foreach (Quiet::try(static fn () => scandir('/proc/self/fd', SCANDIR_SORT_NONE)) ?: [] as $fd) {
            $path = Quiet::try(static fn () => readlink("/proc/self/fd/$fd"));
            if ($path !== false && self::isAt("/proc/self/fd/$fd", $stat)) {
                // Those who open the path now lock it by its name. The mark may be part of a name, too.
                $isMarked = str_ends_with($path, self::DELETED) && !self::isAt($path, $stat);

                return $isMarked ? substr($path, 0, -strlen(self::DELETED)) : $path;
            }
        }
        $directory = realpath(dirname($typed));

        return $directory === false || str_contains($typed, '://') ? null : "$directory/" . basename($typed);
    }

    /** @param array<string, int> $stat */
    private static function isAt(string|false $path, array $stat): bool
    {
        if ($path === false) {
            return false;
        }
        clearstatcache(true, $path);
        $there = Quiet::try(static fn () => stat($path));

        return $there !== false && $there['ino'] === $stat['ino'] && $there['dev'] === $stat['dev'];
    }
}
