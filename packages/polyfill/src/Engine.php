<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ClusterLock\Polyfill\Local\LocalStore;
use ClusterLock\Polyfill\Redis\RedisStore;
use Throwable;

/** Acquire and wait, on a store. Of one process: a forked child makes its own. */
final class Engine
{
    /** For how many seconds a last try goes on while its steps are unfinished. */
    private const LAST_TRY = 1.0;

    /** Just after the blocking lease has run out is the time to find its holder dead. */
    private const PAUSE = 0.005;

    /** After a wait whose connection broke: how long to hold off, at first and at most. */
    private const HOLD_OFF = [0.002, 0.5];

    /** How often an acquire whose lease is over before its answer arrives is asked again. */
    private const TOO_LATE = 3;

    private static ?self $current = null;
    private static string $madeFor = '';

    private readonly int $pid;

    /** @var array<int, Claim> under way */
    private array $claims = [];

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

    /**
     * A lease that a server might have given and forgotten, and that would still run when it lets others in, is refused.
     *
     * @throws Failure
     */
    public function admit(float $ttl): void
    {
        $grace = $this->store->grace();
        if ($grace !== null && $ttl > $grace) {
            throw Failure::other("a lease of $ttl s is longer than the grace period of $grace s (cluster_lock.ttl or \$ttl, and "
                . '?grace= in cluster_lock.dsn): a server that has lost its memory would let others in before it is over');
        }
    }

    /** Whether this process made it, and not the one it was forked from. */
    public function isOwn(): bool
    {
        return $this->pid === getmypid();
    }

    /**
     * Waits for a lock in the order of arrival. `$convert` is a lease that goes on under its token in another mode.
     *
     * @param (callable(): ?Turn)|null $found asked when a signal's handler has taken this wait's place in the queue, and is
     *                                        done: whether the wait has found what it waits for, or ends. Null: it goes on.
     *
     * @throws Failure the server cannot be reached or refuses; nothing is held then, as far as it can be known
     */
    public function acquire(LockName $name, Wish $wish, ?Lease $convert = null, ?callable $found = null): Turn
    {
        try {
            $this->admit($wish->ttl);
        } catch (Failure $refused) {
            if ($convert !== null) {
                $this->store->release($name, $convert->token);
            }

            throw self::counted($refused);
        }
        // The run that covers an interrupted wait may have begun before the code that asks now.
        $place = $convert === null && !$wish->run ? $this->place($name, $wish->mode) : null;
        $claim = new Claim(
            $name,
            $convert?->token ?? $place?->token ?? Claim::newToken(),
            $wish->mode,
            $wish->ttl,
            Request::identity($wish->run),
            $convert?->fence ?? $place?->converts ?? 0,
            run: $wish->run,
        );
        $claim->place = $place?->place ?? 0;
        while (true) {
            $turn = $this->present($claim, $wish) ?? ($found === null ? null : $found());
            if ($turn !== null) {
                return $turn;
            }
            $again = new Claim($name, Claim::newToken(), $wish->mode, $wish->ttl, $claim->identity, 0, $claim->started, $wish->run);
            [$again->blocker, $again->ahead] = [$claim->blocker, $claim->ahead];
            $claim = $again;
        }
    }

    /**
     * The place in the queue of a wait for the same lock, which is interrupted by the code that asks now: behind it that code
     * would wait for itself. A place for the other mode is of no use, and is left.
     */
    private function place(LockName $name, Mode $mode): ?Claim
    {
        foreach (array_reverse($this->claims) as $claim) {
            if (!$claim->isTaken && !$claim->run && $claim->name->bytes === $name->bytes && $claim->mode === $mode) {
                $claim->isTaken = true;

                return $claim;
            }
        }

        return null;
    }

    /** Null: its place was taken. */
    private function present(Claim $claim, Wish $wish): ?Turn
    {
        // Should the wait end the request (exit in a signal's handler), its end takes the claim back.
        Request::waiting($claim->token, fn () => $this->store->release($claim->name, $claim->token));
        $this->claims[spl_object_id($claim)] = $claim;
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
        unset($this->claims[spl_object_id($claim)]);
        if ($failure !== null) {
            // The server may know us as a waiter, or even as the holder.
            $this->withdraw($claim);

            throw $failure;
        }
        if ($claim->isTaken) {
            return null;
        }
        $waited = Clock::now() - $claim->started;
        if ($claim->blocker !== null) {
            Counters::waited($waited);
        }
        Counters::add($claim->isCovered ? 'covered' : ($lease === null ? 'timed_out' : 'acquired'));
        Request::waiting($claim->token, null);

        return new Turn($lease, $waited, $claim->blocker, $claim->isCovered, $claim->ahead);
    }

    /** Null: the time is up, a run covers the claim, or it was taken. */
    private function wait(Claim $claim, Wish $wish): ?Lease
    {
        $deadline = $claim->started + $wish->timeout;
        $holdOff = self::HOLD_OFF[0];
        [$tooLate, $distance] = [0, 0.0];
        while (!$claim->isTaken) {
            $sent = Clock::now();
            $last = $deadline <= $sent;
            $attempt = $this->store->attempt($claim, $last);
            if ($attempt->fence !== null) {
                // This process, or the server, may have stood still for longer than the lease.
                if (Lease::end($sent, $wish->ttl) > Clock::now()) {
                    // From here on it cannot be taken.
                    unset($this->claims[spl_object_id($claim)]);

                    return $claim->isTaken ? null : $this->lease($claim, $wish, $attempt->fence, $sent);
                }
                if (++$tooLate < self::TOO_LATE) {
                    continue;
                }
                $why = "answers take longer than the lease of {$wish->ttl} s";
                throw Failure::connection($this->store->server(), $why);
            }
            if ($attempt->isCovered) {
                $claim->isCovered = true;

                return null;
            }
            $claim->place = $attempt->place;
            if ($attempt->isUnfinished) {
                if ($last && Clock::now() >= $deadline + self::LAST_TRY) {
                    // It is in the queue, or has been let in just now.
                    $this->withdraw($claim);

                    return null;
                }
                continue;
            }
            if ($claim->blocker === null) {
                $claim->blocker = Identity::decode($attempt->holder);
                $claim->ahead = $attempt->ahead;
            }
            if ($last) {
                return null;
            }
            Request::keepAlive();
            if ($claim->isTaken) {
                return null;
            }
            // What is asked at the end of the sleep is there after twice the way there and back. It is heard of as often as
            // the first in the queue, wherever it stands: the leases that this request holds are to be renewed.
            // What takes longer than there can be slack for is no distance: who is busy must not be asked the more often.
            $most = (Store::SLACK_MOST - Store::SLACK) / 2000;
            $distance = max(min(Clock::now() - $sent, $most), $distance * 7 / 8);
            $needed = Store::SLACK + (int) ($distance * 2000);
            $slice = (Store::BEAT - max(0, $needed - $claim->slack)) / 1000;
            $claim->slack = $needed;
            if ($slice <= 0.0) {
                // It was not known how far it is, and the server may take the claim for dead too early.
                continue;
            }
            $slice = min($slice, $attempt->blockedFor + self::PAUSE, max(0.0, $deadline - Clock::now()));
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

        return null;
    }

    private function lease(Claim $claim, Wish $wish, int $fence, float $sent): Lease
    {
        $settings = Settings::now();
        $until = $settings->autoRenew ? Clock::now() + $settings->maxHold : -INF;

        return new Lease(
            $this,
            $claim->name,
            $claim->token,
            $claim->mode,
            $fence,
            $wish->ttl,
            $sent,
            $until,
            $claim->identity,
            $wish->run
        );
    }

    /** Unless it is another's now. */
    private function withdraw(Claim $claim): void
    {
        unset($this->claims[spl_object_id($claim)]);
        if ($claim->isTaken) {
            return;
        }
        try {
            $this->store->release($claim->name, $claim->token);
        } catch (Failure) {
            // What it was asked for has failed for the same reason, and is told.
        } finally {
            Request::waiting($claim->token, null);
        }
    }
}
