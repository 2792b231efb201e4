<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Local;

use ClusterLock\Polyfill\Clock;

/** The moment of a step. */
final class Moment
{
    private function __construct(
        /** For leases, in ms: never set back. */
        public readonly int $leaseMs,
        /** For fencing tokens and reports: Unix time in µs. */
        public readonly int $unixUs,
    ) {
    }

    public static function now(): self
    {
        return new self((int) (Clock::now() * 1000), (int) (microtime(true) * 1e6));
    }
}
