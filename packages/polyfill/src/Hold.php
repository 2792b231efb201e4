<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** What cluster_lock() holds under one name. */
final class Hold
{
    public function __construct(
        public readonly int $id,
        public readonly Lease $lease,
        /** Unlocks needed. */
        public int $depth = 1,
    ) {
    }
}
