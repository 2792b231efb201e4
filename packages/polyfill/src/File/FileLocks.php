<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Lease;
use ClusterLock\Polyfill\LockName;
use ClusterLock\Polyfill\Mode;
use ClusterLock\Polyfill\Raise;

/** The locks on open files of this request, by the number of the stream. */
final class FileLocks
{
    /** @var array<int, FileLock> */
    private static array $locks = [];

    private static bool $isOver = false;

    /** @param resource $stream */
    public static function take($stream): ?FileLock
    {
        $lock = self::$locks[get_resource_id($stream)] ?? null;
        unset(self::$locks[get_resource_id($stream)]);

        return $lock;
    }

    /** @param resource $stream */
    public static function of($stream): ?FileLock
    {
        return self::$locks[get_resource_id($stream)] ?? null;
    }

    /** @param resource $stream */
    public static function put($stream, FileLock $lock): void
    {
        self::$locks[get_resource_id($stream)] = $lock;
    }

    /** Whether another handle of this request has the kernel's lock on the same file, in a mode that excludes. */
    public static function kernelIsOurs(OpenFile $file, Mode $mode): bool
    {
        foreach (self::$locks as $lock) {
            $isSame = $lock->file->device === $file->device && $lock->file->inode === $file->inode;
            if ($lock->kernel && $isSame && $mode->excludes($lock->mode)) {
                return true;
            }
        }

        return false;
    }

    /** Whether another handle holds the name by the kernel's lock alone. */
    public static function hasKernelOnly(LockName $name, Mode $mode): bool
    {
        foreach (self::$locks as $lock) {
            if ($lock->lease === null && $lock->name->bytes === $name->bytes && $mode->excludes($lock->mode)) {
                return true;
            }
        }

        return false;
    }

    /** @return list<Lease> */
    public static function leases(): array
    {
        $leases = array_map(static fn (FileLock $lock): ?Lease => $lock->lease, array_values(self::$locks));

        return array_values(array_filter($leases));
    }

    /** @return list<Lease> */
    public static function leasesOf(LockName $name): array
    {
        return array_values(array_filter(
            self::leases(),
            static fn (Lease $lease): bool => $lease->name->bytes === $name->bytes
        ));
    }

    /** A stream has been closed; the kernel's lock went with it. */
    public static function closed(int $stream): void
    {
        $lock = self::$locks[$stream] ?? null;
        if ($lock === null) {
            return;
        }
        unset(self::$locks[$stream]);
        [, $trouble] = $lock->giveBack(null);
        if ($trouble !== null) {
            self::$isOver ? Raise::log($trouble) : Raise::warning('cluster_flock', $trouble);
        }
    }

    /** Streams that were closed without our being told. */
    public static function sweep(): void
    {
        if (self::$locks === []) {
            return;
        }
        foreach (array_keys(array_diff_key(self::$locks, get_resources('stream'))) as $stream) {
            self::closed($stream);
        }
    }

    /** The request is over. PHP closes the streams later, without us: what was written is sent now. */
    public static function end(): void
    {
        self::$isOver = true;
        self::sweep();
        $streams = get_resources('stream');
        foreach (self::$locks as $number => $lock) {
            unset(self::$locks[$number]);
            [, $trouble] = $lock->giveBack($streams[$number] ?? null);
            if ($trouble !== null) {
                Raise::log($trouble);
            }
        }
    }

    /** In a forked child: the open files, and the kernel's locks on them, are shared with the parent. */
    public static function forget(): void
    {
        self::$locks = [];
    }
}
