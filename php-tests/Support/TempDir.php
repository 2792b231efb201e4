<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * A directory that lives as long as one test, or as the whole run.
 */
final class TempDir
{
    private static int $made = 0;

    public static function forTest(): string
    {
        $dir = self::make();
        Cleanup::afterTest(static fn () => self::remove($dir));

        return $dir;
    }

    public static function forRun(): string
    {
        $dir = self::make();
        Cleanup::afterRun(static fn () => self::remove($dir));

        return $dir;
    }

    private static function make(): string
    {
        $dir = sprintf('%s/cluster_lock-%d-%d', realpath(sys_get_temp_dir()), getmypid(), ++self::$made);
        mkdir($dir, 0700);

        return $dir;
    }

    private static function remove(string $path): void
    {
        if (is_dir($path) && !is_link($path)) {
            foreach (array_diff(scandir($path), ['.', '..']) as $entry) {
                self::remove("$path/$entry");
            }
            rmdir($path);
        } else {
            unlink($path);
        }
    }
}
