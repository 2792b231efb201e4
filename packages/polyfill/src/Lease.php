<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** A lock that is held, or was: it may be lost at any time, and knows it by its own clock. */
final class Lease
{
    /** When it runs out, by Clock. */
    private float $deadline = 0.0;

    /** When it is to be renewed, if this request calls us by then. */
    private float $due = INF;

    private ?Loss $told = null;

    public function __construct(
        public readonly Engine $engine,
        public readonly LockName $name,
        public readonly string $token,
        public readonly Mode $mode,
        public readonly int $fence,
        private float $ttl,
        float $sent,
        /** Not renewed from here on: -INF for one that never is. */
        private readonly float $renewUntil,
        /** Encoded: who holds it. */
        public readonly string $identity,
        /** It was acquired for a run. */
        private readonly bool $run = false,
    ) {
        $this->extend($sent, $ttl);
    }

    /**
     * When a lease that began at $sent, the moment before the command left, ends by the holder's clock. A
     * hundredth and 2 ms are taken off for clocks that run at different speeds, and what this one may be behind.
     */
    public static function end(float $sent, float $ttl): float
    {
        return $sent + max(0.0, $ttl - $ttl / 100 - 0.002 - Clock::error());
    }

    /** What is known of a loss, without asking. */
    public function loss(): ?Loss
    {
        $late = Clock::now() - $this->deadline;

        return $this->told ?? ($late >= 0.0 ? Loss::expired($late) : null);
    }

    public function isHeld(): bool
    {
        return $this->engine->isOwn() && $this->loss() === null;
    }

    /** Seconds left; 0.0 when it is not held. */
    public function remaining(): float
    {
        return $this->isHeld() ? max(0.0, $this->deadline - Clock::now()) : 0.0;
    }

    /** Whether it is renewed while this request waits for a lock. */
    public function isRenewed(): bool
    {
        return $this->isHeld() && Clock::now() < $this->renewUntil;
    }

    /** Renews it when that is due. A failure is not told here: the lease runs on, and the next call tries again. */
    public function keepAlive(): void
    {
        $now = Clock::now();
        if ($now >= $this->renewUntil || !$this->isHeld()) {
            return;
        }
        if ($now < $this->due) {
            Request::isDue($this->due);

            return;
        }
        try {
            $this->told = $this->engine->store->renew($this, $this->ttl);
            if ($this->told === null) {
                $this->extend($now, $this->ttl);
                Counters::add('renewals');
            }
        } catch (Failure) {
            $this->dueAt(Clock::now() + min(1.0, $this->ttl / 10));
        }
    }

    /**
     * Sets the lease to $ttl from now.
     *
     * @throws Failure it is no longer ours, or the server cannot be reached and it is what it was
     */
    public function refresh(float $ttl): void
    {
        $this->engine->admit($ttl);
        $loss = $this->loss();
        if ($loss === null) {
            $sent = Clock::now();
            // If it is shorter it counts from now on: the server may set it, and the answer be lost.
            $this->deadline = min($this->deadline, self::end($sent, $ttl));
            $loss = $this->told = $this->engine->store->renew($this, $ttl);
            if ($loss === null) {
                $this->ttl = $ttl;
                $this->extend($sent, $ttl);
                // An answer that was long on its way says what was.
                $loss = $this->loss();
            }
        }
        if ($loss !== null) {
            throw Failure::lost($loss);
        }
    }

    /**
     * Asks the server whether it is still ours, and extends it by its own ttl.
     *
     * @throws Failure as refresh()
     */
    public function verify(): void
    {
        $this->refresh($this->ttl);
    }

    /**
     * Gives it back. Null: it was ours throughout.
     *
     * @throws Failure the server cannot be reached: the lease will run out by itself
     */
    public function release(): ?Loss
    {
        return $this->engine->isOwn() ? $this->finish(false) : null;
    }

    /**
     * Gives it back when the run for which it was acquired is complete. Null: it was ours throughout.
     *
     * @throws Failure as release(): it is complete all the same, and covers nobody, or those to whom it could be told
     */
    public function complete(): ?Loss
    {
        return $this->engine->isOwn() ? $this->finish($this->run) : null;
    }

    private function finish(bool $complete): ?Loss
    {
        $loss = null;
        try {
            $loss = $this->giveBack($complete);
        } finally {
            if ($this->run) {
                Counters::add($complete && $loss === null ? 'runs' : 'runs_failed');
            }
        }

        return $loss;
    }

    private function giveBack(bool $complete): ?Loss
    {
        $known = $this->loss();
        try {
            // Beyond the end of the lease, too: the server knows whether that was needed.
            $told = match (true) {
                (bool) $known?->told => null,
                $complete && $known === null => $this->engine->store->complete($this->name, $this->token, $this->fence),
                default => $this->engine->store->release($this->name, $this->token, $this),
            };
        } catch (Failure $failure) {
            $known ?? throw Engine::counted($failure);
            $told = null;
        }
        // With a grace period the server may have said so by our own word alone, which counts only while the lease is not
        // over: others have been let in since, perhaps.
        $loss = $known ?? $told ?? ($this->engine->store->grace() === null ? null : $this->loss());
        if ($loss !== null) {
            Counters::add('lost');
        }

        return $loss;
    }

    private function extend(float $sent, float $ttl): void
    {
        $this->deadline = self::end($sent, $ttl);
        $this->dueAt($sent + $ttl / 3);
    }

    private function dueAt(float $when): void
    {
        $this->due = $when;
        Request::isDue($when);
    }
}
