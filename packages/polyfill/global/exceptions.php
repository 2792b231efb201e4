<?php

declare(strict_types=1);

/** Anything that went wrong with a lock. */
class ClusterLockException extends RuntimeException
{
}

/** The time is up: somebody else has the lock. Try again later. */
final class ClusterLockTimeoutException extends ClusterLockException
{
}

/** The lock was ours and no longer is: what it protected may have been touched by others. */
final class ClusterLockLostException extends ClusterLockException
{
}

/** The server cannot be reached. */
final class ClusterLockConnectionException extends ClusterLockException
{
}
