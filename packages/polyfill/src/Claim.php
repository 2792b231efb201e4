<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** What one acquisition wants. The same claim is presented at every attempt. */
final class Claim
{
    /** The arrival rank that an earlier attempt was given; 0 at first. */
    public int $place = 0;

    /** How much later than every BEAT it may be heard of, and still counts as living, in ms. */
    public int $slack = Store::SLACK;

    /** Who was first seen to be in the way. */
    public ?Identity $blocker = null;

    /** How many stood before it then, of whom some may have died. */
    public int $ahead = 0;

    /** By code that has interrupted its wait, and asks for the same lock. */
    public bool $isTaken = false;

    /** By a run. */
    public bool $isCovered = false;

    public readonly float $started;

    public function __construct(
        public readonly LockName $name,
        /** 128 random bits in hexadecimal: names this acquisition, unguessably. Never shown to anyone. */
        public readonly string $token,
        public readonly Mode $mode,
        /** Seconds. */
        public readonly float $ttl,
        /** Encoded: who asks. */
        public readonly string $identity,
        /** The fencing token of the lock that is to be converted; 0 when none is. */
        public readonly int $converts = 0,
        ?float $started = null,
        /** It is wanted for a run. */
        public readonly bool $run = false,
    ) {
        $this->started = $started ?? Clock::now();
    }

    public static function newToken(): string
    {
        return bin2hex(random_bytes(16));
    }

    /** Times on the wire are whole milliseconds. */
    public static function millis(float $seconds): int
    {
        return (int) min(max(0.0, floor($seconds * 1000 + 1e-6)), 1 << 40);
    }

    /** @return array<string, mixed> for var_dump() and its kin: no token */
    public function __debugInfo(): array
    {
        return ['name' => $this->name->bytes];
    }
}
