<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Local;

use ClusterLock\Polyfill\Attempt;
use ClusterLock\Polyfill\Claim;
use ClusterLock\Polyfill\Identity;
use ClusterLock\Polyfill\LockName;
use ClusterLock\Polyfill\Loss;
use ClusterLock\Polyfill\Mode;
use ClusterLock\Polyfill\Report;
use ClusterLock\Polyfill\Store;

/**
 * The rules of one lock, as lua/common.lua has them, for locks on one host; kept in the form in which the extension
 * keeps those of its "local:". Names and order of the steps follow common.lua.
 *
 * @phpstan-type Held   array{token: string, fence: int, expiry_ms: int, since_us: int, identity: string}
 * @phpstan-type Queued array{token: string, place: int, until_ms: int, sleeps: bool, exclusive: bool, run?: bool, identity: string}
 */
final class Machine
{
    /** The lease of a waiter that was handed the lock and has not confirmed yet, in ms: GRANT of common.lua. */
    public const GRANT = 2200;

    /** So many are the first of a queue. */
    private const NEAR = 16;

    private int $fence = 0;

    /** @var Held|null */
    private ?array $writer = null;

    /** @var array<string, Held> by token */
    private array $readers = [];

    /** @var list<Queued> in the order of their turn */
    private array $queue = [];

    /** @var string|array<string, string> how the last holder before the present one ended */
    private string|array $previous = 'Nobody';

    /** The fencing token of the newest run that is complete. */
    private int $run = 0;

    /** @var array<string, int> whom this step lets in, by token, with their fencing tokens */
    public array $granted = [];

    /** @var list<string> waiters whom the newest run covers, and who have left the queue */
    public array $covered = [];

    /** @var list<string> waiters that sleep for long, and have come among the first: they are to ask again */
    public array $called = [];

    /** @var list<string> waiters that this step has taken out of the queue */
    public array $forgotten = [];

    /** @param bool $known whether there was a record */
    public function __construct(private readonly Moment $now, private readonly bool $known)
    {
    }

    /** @param array<string, mixed> $record */
    public static function of(array $record, Moment $now): self
    {
        $machine = new self($now, true);
        $machine->fence = (int) $record['fence'];
        $machine->writer = self::decoded($record['writer']);
        $machine->readers = array_map(self::decoded(...), (array) $record['readers']);
        $machine->queue = array_map(self::decoded(...), $record['queue']);
        $machine->previous = $record['previous'];
        $machine->run = (int) ($record['run'] ?? 0);

        return $machine;
    }

    /** @return array<string, mixed> */
    public function record(): array
    {
        return [
            'fence' => $this->fence,
            'writer' => self::encoded($this->writer),
            'readers' => (object) array_map(self::encoded(...), $this->readers),
            'queue' => array_map(self::encoded(...), $this->queue),
            'previous' => $this->previous,
        ] + ($this->run === 0 ? [] : ['run' => $this->run]);
    }

    /** acquire.lua */
    public function attempt(Claim $claim, bool $giveUp): Attempt
    {
        $me = $claim->token;
        $exclusive = $claim->mode === Mode::Exclusive;
        $expiry = $this->now->leaseMs + Claim::millis($claim->ttl);
        if (($this->writer['token'] ?? null) === $me) {
            if ($exclusive) {
                $this->writer['expiry_ms'] = $expiry;

                return Attempt::held($this->writer['fence']);
            }
            if ($this->writer['fence'] > $claim->converts) {
                return $this->busy($claim->place, $this->writer);
            }
            $this->writer = null;
            $fence = $this->grant($me, false, $claim->identity, Claim::millis($claim->ttl));
            $this->settle();

            return Attempt::held($fence);
        }
        if (isset($this->readers[$me])) {
            if (!$exclusive) {
                $this->readers[$me]['expiry_ms'] = $expiry;
                $fence = $this->readers[$me]['fence'];
                $this->settle();

                return Attempt::held($fence);
            }
            if ($this->readers[$me]['fence'] > $claim->converts) {
                return $this->busy($claim->place, $this->readers[$me]);
            }
            unset($this->readers[$me]);
        }
        $place = $this->place($claim, $exclusive);
        if ($place === null) {
            return Attempt::busy($claim->place, Store::BEAT, '');
        }
        if ($claim->run && $this->run > $place) {
            if ($this->forget($me)) {
                $this->settle();
            }

            return Attempt::covered();
        }
        $ahead = $this->enqueue($claim, $place, $exclusive);
        $mine = $this->settle($me, Claim::millis($claim->ttl));
        if ($mine !== null) {
            return Attempt::held($mine);
        }
        if ($giveUp) {
            $this->forget($me);
            $this->settle();
        }

        return $this->busy($place, $this->writer ?? $this->firstToLeave(), $ahead);
    }

    /** release.lua: null when it was ours. With the fencing token of its holder a run is complete: null when it counts. */
    public function release(string $me, ?int $run = null): ?Loss
    {
        $loss = $this->giveBack($me, $run);
        if ($run === null) {
            return $loss;
        }

        // That it was released says nothing of the run.
        return $this->run >= $run ? null : $loss ?? Loss::superseded();
    }

    private function giveBack(string $me, ?int $run): ?Loss
    {
        if (($this->writer['token'] ?? null) === $me) {
            $this->run = $run === $this->writer['fence'] ? $run : $this->run;
            $this->writer = null;
            $this->previous = ['Released' => $me];
        } elseif (isset($this->readers[$me])) {
            unset($this->readers[$me]);
            $this->previous = ['Released' => $me];
        } elseif (!$this->forget($me)) {
            return $this->standing($me);
        }
        $this->settle();

        return null;
    }

    /** renew.lua: null when it is ours. */
    public function renew(string $me, float $ttl): ?Loss
    {
        $expiry = $this->now->leaseMs + Claim::millis($ttl);
        if (($this->writer['token'] ?? null) === $me) {
            $this->writer['expiry_ms'] = $expiry;
        } elseif (isset($this->readers[$me])) {
            $this->readers[$me]['expiry_ms'] = $expiry;
        } else {
            return $this->standing($me) ?? Loss::superseded();
        }

        return null;
    }

    /** break.lua: whether somebody held it, and was meant. */
    public function break(?int $meant): bool
    {
        $held = true;
        $writes = $this->writer !== null && $this->isAlive($this->writer);
        $reads = array_filter($this->readers, $this->isAlive(...)) !== [];
        if (($writes || $reads) && $meant !== null && $meant !== $this->fence) {
            return false;
        }
        if ($writes) {
            $this->previous = ['Broken' => $this->writer['token']];
            $this->writer = null;
        } elseif ($reads) {
            $this->readers = [];
            $this->previous = 'BrokenReaders';
        } else {
            $held = false;
        }
        $this->settle();

        return $held;
    }

    /**
     * inspect.lua, read: no more than $most holders and $most waiters are told of.
     *
     * @return array<string, mixed>|null
     */
    public function report(LockName $name, int $most): ?array
    {
        $holders = array_filter([$this->writer, ...array_values($this->readers)]);
        $holders = array_values(array_filter($holders, $this->isAlive(...)));
        usort($holders, static fn (array $a, array $b): int => $b['expiry_ms'] <=> $a['expiry_ms']);
        $waiters = array_slice($this->queue, 0, $most);

        return Report::of(
            $name,
            $this->writer === null ? Mode::Shared : Mode::Exclusive,
            $this->fence,
            array_map(fn (array $held): array => [
                'identity' => Identity::decode($held['identity']),
                'since' => $held['since_us'],
                'fence' => $held['fence'],
                'left' => $held['expiry_ms'] - $this->now->leaseMs,
            ], array_slice($holders, 0, $most)),
            array_map(static fn (array $waiter): array => [
                'identity' => Identity::decode($waiter['identity']),
                'since' => $waiter['place'],
                'mode' => $waiter['exclusive'] ? Mode::Exclusive : Mode::Shared,
            ], array_values(array_filter($waiters, fn (array $waiter): bool => !$this->isDead($waiter)))),
            max(0, count($holders) - $most),
            count($this->queue) - count($waiters)
        );
    }

    /** Nobody holds it and nobody waits. */
    public function isIdle(): bool
    {
        return $this->writer === null && $this->readers === [] && $this->queue === [];
    }

    /** The newest run that is complete. */
    public function run(): int
    {
        return $this->run;
    }

    /** Grows with everyone who is let in. */
    public function fence(): int
    {
        return $this->fence;
    }

    /** The clock of the leases has begun anew: no holder or waiter is left, but tokens go on growing. */
    public function reboot(): void
    {
        [$this->writer, $this->readers, $this->queue, $this->previous] = [null, [], [], 'Nobody'];
    }

    /** @param Held|null $blocking */
    private function busy(int $place, ?array $blocking, int $ahead = 0): Attempt
    {
        $left = $blocking === null ? 0 : $blocking['expiry_ms'] - $this->now->leaseMs;

        return Attempt::busy($place, $left, $blocking['identity'] ?? '', $ahead);
    }

    /** Null: it is late; a wait does not change its mode. */
    private function place(Claim $claim, bool $exclusive): ?int
    {
        foreach ($this->queue as $waiter) {
            if ($waiter['token'] === $claim->token) {
                $isSame = $waiter['exclusive'] === $exclusive && ($waiter['run'] ?? false) === $claim->run;

                return $isSame ? $waiter['place'] : null;
            }
        }
        $last = end($this->queue);
        $run = $claim->run ? $this->run : 0;

        return $claim->place ?: max($this->now->unixUs, ($last['place'] ?? 0) + 1, $this->fence + 1, $run + 1);
    }

    /** How many stand before it. */
    private function enqueue(Claim $claim, int $place, bool $exclusive): int
    {
        $this->queue = array_filter($this->queue, static fn (array $w): bool => $w['token'] !== $claim->token);
        $this->queue[] = [
            'token' => $claim->token,
            'place' => $place,
            // As one of the first: it asks as often, wherever it stands.
            'until_ms' => $this->now->leaseMs + Store::BEAT + min($claim->slack, Store::SLACK_MOST),
            'sleeps' => false,
            'exclusive' => $exclusive,
            'identity' => $claim->identity,
        ] + ($claim->run ? ['run' => true] : []);
        // Places that are equal go by token, as in a sorted set.
        $turn = static fn (array $waiter): array => [$waiter['place'], $waiter['token']];
        usort($this->queue, static fn (array $a, array $b): int => $turn($a) <=> $turn($b));

        $ahead = 0;
        while ($this->queue[$ahead]['token'] !== $claim->token) {
            $ahead++;
        }

        return $ahead;
    }

    /** @param int $least of the fencing token */
    private function grant(string $token, bool $exclusive, string $identity, int $millis, int $least = 0): int
    {
        $this->fence = max($this->now->unixUs, $this->fence + 1, $least);
        $held = [
            'token' => $token,
            'fence' => $this->fence,
            'expiry_ms' => $this->now->leaseMs + $millis,
            'since_us' => $this->now->unixUs,
            'identity' => $identity,
        ];
        if ($exclusive) {
            $this->writer = $held;
        } else {
            $this->readers[$token] = $held;
            ksort($this->readers, SORT_STRING);
        }

        return $this->fence;
    }

    private function forget(string $token): bool
    {
        $left = array_values(array_filter($this->queue, static fn (array $w): bool => $w['token'] !== $token));
        $found = count($left) < count($this->queue);
        $this->queue = $left;
        if ($found) {
            $this->forgotten[] = $token;
        }

        return $found;
    }

    /** Frees it of dead holders and lets in whose turn it is; the fencing token of $me if that is among them. */
    private function settle(?string $me = null, int $millis = 0): ?int
    {
        $this->writer = $this->writer !== null && $this->isAlive($this->writer) ? $this->writer : null;
        $this->readers = array_filter($this->readers, $this->isAlive(...));
        $this->cover();
        $mine = null;
        while ($this->writer === null && $this->queue !== []) {
            $head = $this->queue[0];
            if ($this->isDead($head)) {
                $this->forget($head['token']);
            } elseif ($head['exclusive'] && $this->readers !== []) {
                break;
            } else {
                array_shift($this->queue);
                $least = ($head['run'] ?? false) ? $this->beyondRuns() : 0;
                if ($head['token'] === $me) {
                    $mine = $this->grant($me, $head['exclusive'], $head['identity'], $millis, $least);
                } else {
                    $fence = $this->grant($head['token'], $head['exclusive'], $head['identity'], self::GRANT, $least);
                    $this->granted[$head['token']] = $fence;
                }
            }
        }
        $this->callUp();

        return $mine;
    }

    /** Takes those out of the queue whom the newest run covers. */
    private function cover(): void
    {
        $isCovered = fn (array $waiter): bool => ($waiter['run'] ?? false) && $waiter['place'] < $this->run;
        $covered = array_filter($this->queue, $isCovered);
        if ($covered !== []) {
            array_push($this->covered, ...array_column($covered, 'token'));
            $this->queue = array_values(array_diff_key($this->queue, $covered));
        }
    }

    /** What the fencing token of who is let in for a run must reach: it covers all who wait for one by now. */
    private function beyondRuns(): int
    {
        $runners = array_filter($this->queue, static fn (array $waiter): bool => $waiter['run'] ?? false);

        return max([$this->run, ...array_column($runners, 'place')]) + 1;
    }

    private function callUp(): void
    {
        $most = $this->now->leaseMs + Store::BEAT + Store::SLACK_MOST;
        foreach ($this->queue as $rank => $waiter) {
            if ($rank < self::NEAR && $waiter['sleeps']) {
                $this->queue[$rank] = ['sleeps' => false, 'until_ms' => min($waiter['until_ms'], $most)] + $waiter;
                $this->called[] = $waiter['token'];
            }
        }
    }

    /** Why a token that is not a holder's is not. Null: it released already. */
    private function standing(string $me): ?Loss
    {
        return match (true) {
            $this->previous === ['Released' => $me] => null,
            $this->previous === ['Broken' => $me], $this->previous === 'BrokenReaders' => Loss::broken(),
            !$this->known => Loss::forgotten(),
            default => Loss::superseded(),
        };
    }

    /** @return Held|null */
    private function firstToLeave(): ?array
    {
        $readers = array_values($this->readers);
        usort($readers, static fn (array $a, array $b): int => $a['expiry_ms'] <=> $b['expiry_ms']);

        return $readers[0] ?? null;
    }

    /** @param Held $held */
    private function isAlive(array $held): bool
    {
        return $held['expiry_ms'] > $this->now->leaseMs;
    }

    /** @param Queued $waiter */
    private function isDead(array $waiter): bool
    {
        $left = $waiter['until_ms'] - $this->now->leaseMs;

        return $left < 0 || $left > Store::FAR + Store::SLACK_MOST;
    }

    /** Identities are bytes, which JSON does not know: they stand there as lists of numbers. */
    private static function decoded(?array $entry): ?array
    {
        return $entry === null ? null : ['identity' => pack('C*', ...$entry['identity'])] + $entry;
    }

    private static function encoded(?array $entry): ?array
    {
        return $entry === null ? null : ['identity' => array_values(unpack('C*', $entry['identity']) ?: [])] + $entry;
    }
}
