<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ClusterLockConnectionException;
use ClusterLockException;
use ClusterLockLostException;

/** What kind of failure. */
enum Kind
{
    /** The settings are not usable. */
    case Config;
    /** The server cannot be reached, or the connection broke and could not be made again. */
    case Connection;
    /** The server answered, and refused. */
    case Server;
    /** The lock was ours and no longer is. */
    case Lost;
    /** The same request holds the lock in a way that makes waiting pointless. */
    case Deadlock;
    /** A file operation failed, or anything else that is told by its message. */
    case Other;

    /** @return class-string<ClusterLockException> what objects throw */
    public function exception(): string
    {
        return match ($this) {
            self::Connection => ClusterLockConnectionException::class,
            self::Lost => ClusterLockLostException::class,
            default => ClusterLockException::class,
        };
    }
}
