<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** How asking for a lock ended, when nothing failed. */
final class Turn
{
    /** An earlier hold of the name that was found to be lost, and has been dropped. */
    public ?Loss $lost = null;

    /** Which hold of cluster_lock() it became: one that is converted stays the same. */
    public int $hold = 0;

    public function __construct(
        /** Null: the time is up. */
        public readonly ?Lease $lease,
        public readonly float $waited = 0.0,
        /** Who was in the way. */
        public readonly ?Identity $blocker = null,
        /** A run covers it: nothing is held. */
        public readonly bool $isCovered = false,
        /** How many stood before it. */
        public readonly int $ahead = 0,
    ) {
    }

    public function isHeld(): bool
    {
        return $this->lease !== null;
    }
}
