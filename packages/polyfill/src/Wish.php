<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** How a lock is wanted. */
final class Wish
{
    public function __construct(
        public readonly Mode $mode,
        /** The longest wait in seconds: 0 is one try, INF is no limit. */
        public readonly float $timeout,
        /** Seconds. */
        public readonly float $ttl,
        /** It is wanted for a run, which another one's may cover. */
        public readonly bool $run = false,
    ) {
    }
}
