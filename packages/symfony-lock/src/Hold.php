<?php

declare(strict_types=1);

namespace ClusterLock\Symfony;

use ClusterLock;

/**
 * One lock that is held for a key.
 *
 * @internal
 */
final class Hold
{
    /** Its lease was set by the last call. */
    public bool $isFresh = true;

    private readonly float $renewedUntil;

    /**
     * @param int   $mode       LOCK_EX or LOCK_SH
     * @param float $lease      the lease as it was last asked for, in seconds
     * @param float $renewedFor for how long the extension keeps it alive by itself, in seconds
     */
    public function __construct(
        public readonly ClusterLock $lock,
        public readonly int $mode,
        public float $lease,
        float $renewedFor,
    ) {
        $this->renewedUntil = self::now() + $renewedFor;
    }

    /** For how much longer the extension keeps it alive by itself, in seconds. */
    public function renewedFor(): float
    {
        return max(0.0, $this->renewedUntil - self::now());
    }

    /** How long it will certainly last while this process lives, in seconds; INF: no end in sight. */
    public function remaining(): float
    {
        return $this->lock->isHeld() ? max($this->lock->remaining(), $this->renewedFor()) : 0.0;
    }

    /** Whether asking for this lease now would change nothing: the last call did. */
    public function isJustLeasedFor(float $lease): bool
    {
        return $this->isFresh && $this->lease === $lease && $this->remaining() >= 0.98 * $lease;
    }

    private static function now(): float
    {
        return hrtime(true) / 1e9;
    }
}
