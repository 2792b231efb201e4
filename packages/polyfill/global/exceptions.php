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
    private mixed $result = null;

    /** What the callback of cluster_synchronized() returned before the loss was found; null where there was none. */
    public function getResult(): mixed
    {
        return $this->result;
    }
}

/** The server cannot be reached. */
final class ClusterLockConnectionException extends ClusterLockException
{
}
