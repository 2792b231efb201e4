<?php

/**
 * The functions of the extension, as stubs/cluster_lock.stubs.php of its repository documents them. What
 * is different here is in this package's README.
 */

declare(strict_types=1);

use ClusterLock\Polyfill\FileFunctions;
use ClusterLock\Polyfill\Functions;

use function ClusterLock\Polyfill\load;

/** Acquires a lock that all PHP processes of the cluster share, waiting for it if need be. */
#[NoDiscard('as the lock may not have been acquired')]
function cluster_lock(string $name, ?float $timeout = null, int $mode = LOCK_EX, ?float $ttl = null): bool
{
    load();

    return Functions::lock($name, $timeout, $mode, $ttl);
}

/** Gives a lock back that cluster_lock() acquired. */
function cluster_unlock(string $name): bool
{
    load();

    return Functions::unlock($name);
}

/**
 * Acquires a lock, calls, and releases the lock whatever happens in the callback.
 *
 * @param callable $callback of the caller's scope, as with functions of PHP's own: a private method of it, too. A type
 *                           would be checked in this function's scope.
 */
function cluster_synchronized(string $name, mixed $callback, ?float $timeout = null, ?float $ttl = null): mixed
{
    load();

    return Functions::synchronized($name, $callback, $timeout, $ttl);
}

/**
 * Has $work done once for all who want it done: true only if a run of it that began after this call is complete.
 *
 * @param callable $work of the caller's scope, as with cluster_synchronized()
 */
function cluster_coalesced(string $name, mixed $work, ?float $timeout = null, ?float $ttl = null): bool
{
    load();

    return Functions::coalesced($name, $work, $timeout, $ttl);
}

/** file_put_contents() that readers can never see half done. */
function cluster_file_put_contents(string $filename, mixed $data, int $flags = 0, ?string $lock = null): int|false
{
    load();

    return FileFunctions::putContents($filename, $data, $flags, $lock);
}

/**
 * make(1) for a cluster: makes a file from others, once for all who want it, unless it is newer than they are.
 *
 * @param callable                  $build   of the caller's scope, as with cluster_synchronized()
 * @param array<string|Stringable> $sources
 */
function cluster_file_build(string $target, mixed $build, array $sources = [], ?float $timeout = null): bool
{
    load();

    return FileFunctions::build($target, $build, $sources, $timeout);
}

/**
 * flock() for a cluster.
 *
 * @param resource $stream
 */
function cluster_flock($stream, int $operation, &$would_block = null): bool
{
    load();

    return FileFunctions::flock($stream, $operation, $would_block);
}

/** This node forgets what it knows about a path, as far as PHP can make it. */
function cluster_clearstatcache(string $filename): void
{
    load();

    FileFunctions::clearStatCache($filename);
}

/** The fencing token of a lock that this request holds by cluster_lock(). */
function cluster_lock_fence(string $name): ?int
{
    load();

    return Functions::fence($name);
}

/** Who holds a lock and who waits for it. */
function cluster_lock_info(string $name): ?array
{
    load();

    return Functions::info($name);
}

/** All held locks whose names start with a prefix, sorted by name. */
function cluster_lock_list(string $prefix = "", int $limit = 1000): array
{
    load();

    return Functions::list($prefix, $limit);
}

/** An administrator removes a lock whoever holds it; the next waiter gets it. */
function cluster_lock_break(string $name, ?int $fence = null): bool
{
    load();

    return Functions::break($name, $fence);
}

/** What every server that keeps locks says of itself: for health checks. */
function cluster_lock_servers(): array
{
    load();

    return Functions::servers();
}

/** The state of the locks in this process. */
function cluster_lock_status(): array
{
    load();

    return Functions::status();
}
