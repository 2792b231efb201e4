<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** The state of one ClusterLock. */
final class ObjectState
{
    /** Held, or lost and not yet told. */
    public ?Lease $lease = null;

    public function __construct(
        public readonly LockName $name,
        public readonly Mode $mode,
        /** Null is the setting at the time of acquiring. */
        public readonly ?float $ttl,
    ) {
    }

    public function __destruct()
    {
        Objects::free($this);
    }
}
