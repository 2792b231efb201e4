<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** Where locks live: atomic steps, each idempotent for the same token. Each throws a Failure when it fails. */
interface Store
{
    /** How often the first waiters of a queue are heard of, in ms: BEAT of common.lua. */
    public const BEAT = 1000;

    /** How much later is not yet too late for one at no distance, and how much at most, in ms: SLACK and SLACK_MOST. */
    public const SLACK = 800;
    public const SLACK_MOST = 5000;

    /** How often those far behind them are heard of, in ms: FAR. */
    public const FAR = 35_000;

    /**
     * One try. It queues when the lock is busy, or with $giveUp leaves the queue; when it is unfinished it queues in any
     * case.
     */
    public function attempt(Claim $claim, bool $giveUp): Attempt;

    /** Sleeps until the queued claim is granted the lock, or so many seconds. The next attempt tells. */
    public function awaitGrant(Claim $claim, float $seconds): void;

    /**
     * For how many seconds a server that finds itself without its memory lets nobody in, while holders have their records put
     * back. No lease may be longer. Null: it goes on as if nobody had held anything.
     */
    public function grace(): ?int;

    /** Gives the lock back, or takes the claim out of the queue. $lease: of who holds it. Null: it was ours. */
    public function release(LockName $name, string $token, ?Lease $lease = null): ?Loss;

    /**
     * Gives the lock back when the run of its holder is complete, who was given $fence. Null: it counts, or a later one that is
     * complete does.
     */
    public function complete(LockName $name, string $token, int $fence): ?Loss;

    /** Sets the lease to $ttl from now, if the lock is still held. Null: it is. */
    public function renew(Lease $lease, float $ttl): ?Loss;

    /** @return array<string, mixed>|null null: nobody holds it */
    public function info(LockName $name): ?array;

    /** @return list<array<string, mixed>> the first by name, sorted by name */
    public function list(string $prefix, int $limit): array;

    /** Of the holder with this fencing token, or of whoever holds it. False: nobody does, or another one. */
    public function break(LockName $name, ?int $meant): bool;

    /** Removes what is remembered of a name that nobody holds or will ever use again, as far as that can be done. */
    public function forget(LockName $name): void;

    /**
     * Has the server take the scripts themselves, which whoever finds it without sends: one that knows them grants locks
     * until it has lost them, and no longer. Of a name that nobody holds.
     */
    public function takeTexts(LockName $name): void;

    /**
     * @return list<array<string, mixed>> what the servers say of themselves, and whether they grant a lock and hand it over;
     *                                    where there is none, empty or the reason why there are no locks
     */
    public function servers(): array;

    /** Where the locks live, for messages, without credentials. */
    public function server(): string;

    /** @return array{version: string|null, role: string|null, open: int, created: int, discarded: int} */
    public function status(): array;
}
