<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** The answer to an attempt. */
final class Attempt
{
    private function __construct(
        /** The fencing token; null: somebody else has it. */
        public readonly ?int $fence,
        public readonly int $place,
        /** Seconds until the lease that blocks runs out. */
        public readonly float $blockedFor,
        /** Encoded identity of one who blocks. */
        public readonly string $holder,
        /** So many lie dead before it that one step does not get to it: it is to ask again at once. */
        public readonly bool $isUnfinished = false,
        /** A run is complete whose holder was let in after the claim came. It is not queued any more, and holds nothing. */
        public readonly bool $isCovered = false,
        /** How many stand before it in the queue, the dead among them included. */
        public readonly int $ahead = 0,
    ) {
    }

    public static function held(int $fence): self
    {
        return new self($fence, 0, 0.0, '');
    }

    public static function busy(int $place, int $blockedForMillis, string $holder, int $ahead = 0): self
    {
        return new self(null, $place, max(0, $blockedForMillis) / 1000, $holder, ahead: $ahead);
    }

    public static function covered(): self
    {
        return new self(null, 0, 0.0, '', isCovered: true);
    }

    public static function unfinished(int $place): self
    {
        return new self(null, $place, 0.0, '', true);
    }
}
