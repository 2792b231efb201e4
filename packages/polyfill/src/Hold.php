<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use Fiber;
use WeakReference;

/** What cluster_lock() holds under one name. */
final class Hold
{
    /** Calls of cluster_synchronized() that have not come back. */
    public int $calls = 0;

    /** The function whose run is under way in it. */
    public ?string $runs = null;

    /** @var WeakReference<Fiber>|null the holder; null: the request itself */
    private readonly ?WeakReference $fiber;

    public function __construct(
        public int $id,
        public readonly Lease $lease,
        /** Unlocks needed. */
        public int $depth = 1,
    ) {
        $fiber = Fiber::getCurrent();
        $this->fiber = $fiber === null ? null : WeakReference::create($fiber);
    }

    /** The holder is the fiber that runs. What one has left behind is the request's. */
    public function isOurs(): bool
    {
        $fiber = $this->fiber?->get();

        return Fiber::getCurrent() === ($fiber?->isTerminated() ? null : $fiber);
    }
}
