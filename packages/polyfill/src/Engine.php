<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ClusterLock\Polyfill\File\Mounts;
use ClusterLock\Polyfill\File\Replacement;
use ClusterLock\Polyfill\Local\LocalStore;
use ClusterLock\Polyfill\Redis\Fault;
use ClusterLock\Polyfill\Redis\RedisStore;
use Throwable;

/** Acquire and wait, on a store. Of one process: a forked child makes its own. */
final class Engine
{
    /** A waiter is heard of at least this often: the longest sleep in the store, in seconds. */
    private const SLICE = 1.0;

    /** After a wait whose connection broke: how long to hold off, at first and at most. */
    private const HOLD_OFF = [0.002, 0.5];

    /** How often an acquire whose lease is over before its answer arrives is asked again. */
    private const TOO_LATE = 3;

    /**
     * What giving a lock back may need, and taking it did not: loaded with the first lock, because a deployment may remove the
     * package's directory during a request.
     */
    private const LATER = [
        Failure::class,
        Fault::class,
        Kind::class,
        Loss::class,
        Mounts::class,
        Raise::class,
        Replacement::class,
        Text::class,
    ];

    private static ?self $current = null;
    private static string $madeFor = '';

    private readonly int $pid;

    private function __construct(public readonly Store $store)
    {
        $this->pid = (int) getmypid();
    }

    /**
     * The engine of this process for the present settings.
     *
     * @throws Failure the settings are not usable
     */
    public static function current(): self
    {
        $settings = Settings::now();
        $fingerprint = getmypid() . $settings->fingerprint();
        if (self::$current === null || self::$madeFor !== $fingerprint) {
            $dsn = $settings->dsn();
            self::$current = new self(
                $dsn->backend === 'local' ? new LocalStore($dsn, $settings) : new RedisStore($dsn, $settings)
            );
            self::$madeFor = $fingerprint;
            array_map(class_exists(...), self::LATER);
        }

        return self::$current;
    }

    /** That of a lease, or the present one. */
    public static function for(?Lease $lease): self
    {
        return $lease?->engine ?? self::current();
    }

    /** The same, if it has been made. */
    public static function existing(): ?self
    {
        return self::$madeFor === getmypid() . Settings::now()->fingerprint() ? self::$current : null;
    }

    public static function counted(Failure $failure): Failure
    {
        Counters::add('errors');

        return $failure;
    }

    /** Whether this process made it, and not the one it was forked from. */
    public function isOwn(): bool
    {
        return $this->pid === getmypid();
    }

    /**
     * Waits for a lock in the order of arrival. `$convert` is a lease that goes on under its token in another mode.
     *
     * @throws Failure the server cannot be reached or refuses; nothing is held then, as far as it can be known
     */
    public function acquire(LockName $name, Wish $wish, ?Lease $convert = null): Turn
    {
        $claim = new Claim(
            $name,
            $convert?->token ?? Claim::newToken(),
            $wish->mode,
            $wish->ttl,
            Request::identity(),
            $convert?->fence ?? 0,
        );
        // Should the wait end the request (exit in a signal's handler), its end takes the claim back.
        Request::waiting($claim->token, fn () => $this->store->release($name, $claim->token));
        $lease = $failure = null;
        try {
            $lease = $this->wait($claim, $wish);
        } catch (Failure $failure) {
            self::counted($failure);
        } catch (Throwable $thrown) {
            // By a signal's handler.
            $this->withdraw($claim);

            throw $thrown;
        }
        $waited = Clock::now() - $claim->started;
        if ($claim->blocker !== null) {
            Counters::waited($waited);
        }
        if ($failure !== null) {
            // The server may know us as a waiter, or even as the holder.
            $this->withdraw($claim);

            throw $failure;
        }
        Counters::add($lease === null ? 'timed_out' : 'acquired');
        Request::waiting($claim->token, null);

        return new Turn($lease, $waited, $claim->blocker);
    }

    /** Null: the time is up. */
    private function wait(Claim $claim, Wish $wish): ?Lease
    {
        $deadline = $claim->started + $wish->timeout;
        $holdOff = self::HOLD_OFF[0];
        $tooLate = 0;
        while (true) {
            $sent = Clock::now();
            $last = $deadline <= $sent;
            $attempt = $this->store->attempt($claim, $last);
            if ($attempt->fence !== null) {
                // This process, or the server, may have stood still for longer than the lease.
                if (Lease::end($sent, $wish->ttl) > Clock::now()) {
                    return $this->lease($claim, $wish, $attempt->fence, $sent);
                }
                if (++$tooLate < self::TOO_LATE) {
                    continue;
                }
                $why = "answers take longer than the lease of {$wish->ttl} s";
                throw Failure::connection($this->store->server(), $why);
            }
            $claim->blocker ??= Identity::decode($attempt->holder);
            if ($last) {
                return null;
            }
            $claim->place = $attempt->place;
            Request::keepAlive();
            // Just after the blocking lease has run out is the time to find its holder dead.
            $slice = min(self::SLICE, $attempt->blockedFor + 0.005, max(0.0, $deadline - Clock::now()));
            try {
                $this->store->awaitGrant($claim, $slice);
                $holdOff = self::HOLD_OFF[0];
            } catch (Failure $failure) {
                if ($failure->kind === Kind::Server) {
                    throw $failure;
                }
                // If the server is gone, the next attempt says so.
                Clock::sleep(min($slice, $holdOff));
                $holdOff = min(self::HOLD_OFF[1], $holdOff * 2);
            }
        }
    }

    private function lease(Claim $claim, Wish $wish, int $fence, float $sent): Lease
    {
        $settings = Settings::now();
        $until = $settings->autoRenew ? Clock::now() + $settings->maxHold : -INF;

        return new Lease($this, $claim->name, $claim->token, $claim->mode, $fence, $wish->ttl, $sent, $until);
    }

    private function withdraw(Claim $claim): void
    {
        try {
            $this->store->release($claim->name, $claim->token);
        } catch (Failure) {
            // What it was asked for has failed for the same reason, and is told.
        } finally {
            Request::waiting($claim->token, null);
        }
    }
}
