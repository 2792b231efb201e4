<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ClusterLock;
use ClusterLock\Polyfill\File\FileLocks;
use ClusterLock\Polyfill\File\Replacement;
use Throwable;
use WeakMap;

/**
 * What this request holds, and its end: by a Guard, after the shutdown functions and the destructors of others; PHP gets there
 * after return, exit, an exception and a fatal error, and not when the process is killed.
 */
final class Request
{
    /** @var array<string, Hold> of cluster_lock(), by name */
    private static array $holds = [];

    /** @var WeakMap<ClusterLock, ObjectState>|null */
    private static ?WeakMap $objects = null;

    /** @var array<string, callable(): mixed> claims that are waiting: how to take them back */
    private static array $waiting = [];

    /** When the next lease is to be renewed. */
    private static float $due = INF;

    private static int $lastId = 0;
    private static ?int $pid = null;
    private static ?Identity $identity = null;
    private static bool $isRegistered = false;
    private static ?Guard $guard = null;

    /** @var list<ObjectState> of objects that PHP has destroyed before those which may use them */
    private static array $orphans = [];

    /** Every function begins here. */
    public static function enter(): void
    {
        if (self::$pid !== getmypid()) {
            self::forget();
            self::$pid = (int) getmypid();
        }
        if (!self::$isRegistered) {
            self::$isRegistered = true;
            register_shutdown_function([new Reserve(), 'free']);
            // After a fatal error PHP destroys only what is younger.
            register_shutdown_function(static fn () => self::$guard = new Guard());
        }
        // Now, too: another shutdown function may exit before that one, and PHP calls none that a destructor registers.
        self::$guard ??= new Guard();
        Settings::tell();
        FileLocks::sweep();
        self::keepAlive();
    }

    /** Renews what is due: whenever we are called, since PHP has no other time for it. */
    public static function keepAlive(): void
    {
        if (self::$due === INF || Clock::now() < self::$due) {
            return;
        }
        self::$due = INF;
        foreach (self::allLeases() as $lease) {
            $lease->keepAlive();
        }
    }

    /** Some lease is to be renewed at this time. */
    public static function isDue(float $when): void
    {
        self::$due = min(self::$due, $when);
    }

    /** Encoded: who asks, and by which code. */
    public static function identity(bool $run): string
    {
        $own = self::$identity ??= Identity::own();

        return ($run ? $own->forRun() : $own)->encode(Call::here());
    }

    /** @param (callable(): mixed)|null $withdraw how to take a claim back; null: its wait is over */
    public static function waiting(string $token, ?callable $withdraw): void
    {
        if ($withdraw === null) {
            unset(self::$waiting[$token]);
        } else {
            self::$waiting[$token] = $withdraw;
        }
    }

    /**
     * Acquires for cluster_lock() and those that nest in it.
     *
     * @throws Failure
     */
    public static function lock(LockName $name, Wish $wish): Turn
    {
        $held = self::$holds[$name->bytes] ?? null;
        if ($held !== null && Host::inCoroutine()) {
            throw Failure::coroutine();
        }
        if ($held !== null && !$held->isOurs() && $held->lease->isHeld()) {
            return $wish->timeout === 0.0 ? new Turn(null) : throw Failure::otherFiber();
        }
        $loss = $held?->lease->loss();
        if ($held !== null && $loss === null) {
            return $wish->mode === Mode::Shared || $held->lease->mode === Mode::Exclusive
                ? self::nested($name, 1)
                : self::convert($name, $wish, $held);
        }
        if ($held !== null) {
            unset(self::$holds[$name->bytes]);
            // The server may still count it as ours, and would let us wait for ourselves.
            self::letGo($held->lease);
        }
        $turn = self::refusal($name, $wish, null)
            ?? self::ask($name, $wish, null, static fn (): ?Turn => self::nested($name, 1));
        $turn->lost = $loss;
        if ($turn->lease !== null && $turn->hold === 0) {
            self::$holds[$name->bytes] = new Hold(++self::$lastId, $turn->lease);
            $turn->hold = self::$lastId;
        }

        return $turn;
    }

    /**
     * Acquires for a run. What cluster_lock() has acquired exclusively it nests in; inside a run it would wait for itself,
     * or, where that nests, go on for ever: what the work saves may ask for the work.
     *
     * @param string $function whose run it is
     *
     * @throws Failure
     */
    public static function beginRun(string $function, LockName $name, Wish $wish): Turn
    {
        $held = self::$holds[$name->bytes] ?? null;
        if ($held !== null && $held->isOurs() && $held->lease->isHeld()) {
            if ($held->runs !== null || $held->lease->mode === Mode::Shared) {
                return $wish->timeout === 0.0 ? new Turn(null) : throw Failure::deadlock();
            }
        }

        $turn = self::lock($name, $wish);
        if ($turn->isHeld() && isset(self::$holds[$name->bytes])) {
            self::$holds[$name->bytes]->runs = $function;
        }

        return $turn;
    }

    /**
     * Gives back what beginRun() acquired, as unlock() does. A run that nests in another hold, or that has left one behind,
     * covers nobody: the lock is held on.
     *
     * @throws Failure
     */
    public static function endRun(LockName $name, int $id, bool $complete): Loss|string|null
    {
        $held = self::$holds[$name->bytes] ?? null;
        if ($held === null || $held->id !== $id || !$held->isOurs() || $held->runs === null) {
            return self::unlock($name, $id);
        }
        $held->runs = null;
        if ($held->depth > 1 || !$complete) {
            return self::unlock($name, $id);
        }
        unset(self::$holds[$name->bytes]);

        return $held->lease->complete();
    }

    /**
     * Gives back what lock() acquired; with $id only if it is still that hold. Null: it was ours. A string: it is not.
     *
     * @throws Failure
     */
    public static function unlock(LockName $name, ?int $id = null): Loss|string|null
    {
        $held = self::$holds[$name->bytes] ?? null;
        if ($held === null || ($id !== null && $held->id !== $id)) {
            return 'is not held by this request';
        }
        if (!$held->isOurs()) {
            return 'is held by another fiber of this request, which alone can give it back';
        }
        if ($held->depth > 1) {
            $held->depth--;

            return $held->lease->loss();
        }
        unset(self::$holds[$name->bytes]);

        return $held->lease->release();
    }

    /** What cluster_lock() holds, lost or not. */
    public static function lease(LockName $name): ?Lease
    {
        $held = self::$holds[$name->bytes] ?? null;

        return $held?->isOurs() ? $held->lease : null;
    }

    /** A call of cluster_synchronized() begins (1) or ends (-1), if it is still that hold. */
    public static function calls(LockName $name, int $id, int $more): void
    {
        $held = self::$holds[$name->bytes] ?? null;
        if ($held?->id === $id) {
            $held->calls += $more;
        }
    }

    /**
     * Asks the engine, and logs a long wait.
     *
     * @param (callable(): ?Turn)|null $found as Engine::acquire() has it
     *
     * @throws Failure
     */
    public static function ask(LockName $name, Wish $wish, ?Lease $convert = null, ?callable $found = null): Turn
    {
        $turn = Engine::for($convert)->acquire($name, $wish, $convert, $found);
        if ($turn->waited > Settings::now()->slowWait) {
            self::logSlow($name, $turn->waited, $turn->blocker?->inTheWay(), '', $turn->ahead);
        }

        return $turn;
    }

    /** @param int $ahead how many had come before */
    public static function logSlow(
        LockName $name,
        float $waited,
        ?string $blocker,
        string $path = '',
        int $ahead = 0
    ): void {
        $file = $path === '' ? '' : ' (' . Text::path($path) . ')';
        $by = $blocker === null ? '' : "; $blocker";
        $behind = match ($ahead) {
            0 => '',
            1 => ' behind 1 other',
            default => " behind $ahead others",
        };
        Raise::log(sprintf('waited %.1f s for lock %s%s%s%s', $waited, Text::quoted($name->bytes), $file, $behind, $by));
    }

    /**
     * Refuses a wait that only this request itself could end: another of its handles holds the name, in a mode that
     * excludes the wish, for longer than the wait.
     *
     * @param object|null $asker the object that asks; null: cluster_lock()
     *
     * @throws Failure
     */
    public static function refusal(LockName $name, Wish $wish, ?object $asker): ?Turn
    {
        if (Host::inCoroutine()) {
            throw Failure::coroutine();
        }
        foreach (self::others($name, $asker) as $lease) {
            $outlasts = $lease->isRenewed() || $lease->remaining() > $wish->timeout;
            if ($wish->mode->excludes($lease->mode) && $lease->isHeld() && $outlasts) {
                return $wish->timeout === 0.0 ? new Turn(null) : throw Failure::deadlock();
            }
        }

        return null;
    }

    /** @return WeakMap<ClusterLock, ObjectState> */
    public static function objects(): WeakMap
    {
        return self::$objects ??= new WeakMap();
    }

    /** @return list<Lease> all that are held, by functions, objects and streams */
    public static function leases(): array
    {
        return array_values(array_filter(self::allLeases(), static fn (Lease $lease): bool => $lease->isHeld()));
    }

    /** A guard is destroyed: it is the end, or another one has taken its place. */
    public static function isLeftBy(Guard $guard): void
    {
        if (self::$guard === $guard) {
            self::$guard = $guard->isLast() ? null : $guard->successor();
            self::$guard ?? self::end();
        }
    }

    /** PHP destroys an object before others that may hold it: it keeps its lock until they are gone, too. */
    public static function outlives(ObjectState $state): void
    {
        self::$orphans[] = $state;
    }

    /** The request ends: half-written files first, since a lock may guard them. */
    private static function end(): void
    {
        if (self::$pid !== getmypid()) {
            return;
        }
        // A handler that throws would leave the rest behind.
        function_exists('pcntl_async_signals') && pcntl_async_signals(false);
        $thrown = self::closeSession();
        Replacement::abortAll();
        $waiting = self::$waiting;
        self::$waiting = [];
        foreach ($waiting as $withdraw) {
            try {
                $withdraw();
            } catch (Failure) {
                // A waiter that is not heard of any more loses its place.
            }
        }
        $holds = self::$holds;
        self::$holds = [];
        foreach ($holds as $hold) {
            $loss = self::letGo($hold->lease);
            if ($loss !== null && $hold->calls > 0) {
                // The callback has ended the request.
                self::tell($hold->runs ?? 'cluster_synchronized', $hold->lease->name->about("was lost before it was released: {$loss->how}"));
            }
        }
        $orphans = self::$orphans;
        self::$orphans = [];
        foreach ([...iterator_to_array(self::objects(), false), ...$orphans] as $state) {
            [$lease, $state->lease] = [$state->lease, null];
            self::letGo($lease);
        }
        FileLocks::end();
        if ($thrown !== null) {
            throw $thrown;
        }
    }

    /** A session whose handler is PHP code is written after the last destructor: under the locks that it has taken. */
    private static function closeSession(): ?Throwable
    {
        if (self::allLeases() === [] || !function_exists('session_status')) {
            return null;
        }
        try {
            if (session_status() === PHP_SESSION_ACTIVE && session_module_name() === 'user') {
                session_write_close();
            }
        } catch (Throwable $thrown) {
            return $thrown;
        }

        return null;
    }

    public static function letGo(?Lease $lease): ?Loss
    {
        try {
            return $lease?->release();
        } catch (Failure) {
            // It comes free when its lease runs out.
            return null;
        }
    }

    /** An end goes on, even if a handler of the warning throws. */
    private static function tell(string $function, string $message): void
    {
        try {
            Raise::warning($function, $message);
        } catch (Throwable) {
            Raise::log($message);
        }
    }

    /**
     * Shared to exclusive. Like flock(2): what was held is gone when it fails.
     *
     * @throws Failure
     */
    private static function convert(LockName $name, Wish $wish, Hold $held): Turn
    {
        $turn = self::refusal($name, $wish, null);
        if ($turn !== null) {
            return $turn;
        }
        unset(self::$holds[$name->bytes]);
        $found = static fn (): ?Turn => self::nested($name, $held->depth + 1, $held->id);
        $turn = self::ask($name, $wish, $held->lease, $found);
        if ($turn->lease !== null && $turn->hold === 0) {
            // It goes on being the same hold for those that know it by its number.
            self::$holds[$name->bytes] = new Hold($held->id, $turn->lease, $held->depth + 1);
            self::$holds[$name->bytes]->calls = $held->calls;
            $turn->hold = $held->id;
        }

        return $turn;
    }

    /** So many holds more of what this request has: by itself, or since a signal's handler took it during a wait. */
    private static function nested(LockName $name, int $depth, ?int $id = null): ?Turn
    {
        $held = self::$holds[$name->bytes] ?? null;
        if ($held === null || !$held->lease->isHeld()) {
            return null;
        }
        if (!$held->isOurs()) {
            throw Failure::otherFiber();
        }
        $held->depth += $depth;
        $held->id = $id ?? $held->id;
        $turn = new Turn($held->lease);
        $turn->hold = $held->id;

        return $turn;
    }

    /** @return list<Lease> held or lost */
    private static function allLeases(): array
    {
        $leases = array_map(static fn (Hold $hold): Lease => $hold->lease, array_values(self::$holds));
        foreach (self::$objects ?? [] as $state) {
            $leases[] = $state->lease;
        }

        return array_values(array_filter([...$leases, ...FileLocks::leases()]));
    }

    /** @return iterable<Lease> of this name, held by other handles than the one that asks */
    private static function others(LockName $name, ?object $asker): iterable
    {
        if ($asker !== null && isset(self::$holds[$name->bytes])) {
            yield self::$holds[$name->bytes]->lease;
        }
        foreach (self::$objects ?? [] as $object => $state) {
            if ($object !== $asker && $state->name->bytes === $name->bytes && $state->lease !== null) {
                yield $state->lease;
            }
        }
        yield from FileLocks::leasesOf($name);
    }

    /** In a forked child: nothing here is its own, and nothing may be touched. */
    private static function forget(): void
    {
        self::$holds = self::$waiting = self::$orphans = [];
        foreach (self::$objects ?? [] as $state) {
            $state->lease = null;
        }
        self::$identity = null;
        FileLocks::forget();
        Replacement::forget();
    }
}
