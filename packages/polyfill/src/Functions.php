<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ClusterLock\Polyfill\Redis\Survey;
use ClusterLockException;
use ClusterLockLostException;
use ClusterLockTimeoutException;
use Generator;
use Throwable;

/** The functions on names: check the arguments, ask the request's table, say it in PHP's way. */
final class Functions
{
    private const NOT_RUN = 'nothing is done: the function has returned a Generator, which nobody runs; with a yield in it, '
        . 'to call it does no more than make one';

    public static function lock(string $name, ?float $timeout, int $mode, ?float $ttl): bool
    {
        $function = 'cluster_lock';
        Request::enter();
        $lockName = Arguments::name($function, 1, $name);
        $timeout = Arguments::timeout($function, 2, $timeout);
        [$mode, $atOnce] = Arguments::mode($function, 3, $mode, true);
        $ttl = Arguments::ttl($function, 4, $ttl) ?? Settings::now()->ttl;
        try {
            $turn = Request::lock($lockName, new Wish($mode, $atOnce ? 0.0 : $timeout, $ttl));
        } catch (Failure $failure) {
            Raise::warning($function, $lockName->about($failure->getMessage()));

            return false;
        }
        self::warnLost($function, $lockName, $turn);

        return $turn->isHeld();
    }

    public static function unlock(string $name): bool
    {
        Request::enter();
        $lockName = Arguments::name('cluster_unlock', 1, $name);
        try {
            $given = Request::unlock($lockName);
        } catch (Failure $failure) {
            Raise::warning('cluster_unlock', self::notGivenBack($lockName, $failure));

            return false;
        }
        if ($given !== null) {
            $what = is_string($given) ? $given : "was lost before it was released: {$given->how}";
            Raise::warning('cluster_unlock', $lockName->about($what));
        }

        return $given === null;
    }

    public static function synchronized(string $name, mixed $callback, ?float $timeout, ?float $ttl): mixed
    {
        $function = 'cluster_synchronized';
        $callback = Arguments::callable($function, 2, $callback);
        Request::enter();
        $lockName = Arguments::name($function, 1, $name);
        $timeout = Arguments::timeout($function, 3, $timeout);
        $ttl = Arguments::ttl($function, 4, $ttl) ?? Settings::now()->ttl;
        try {
            $turn = Request::lock($lockName, new Wish(Mode::Exclusive, $timeout, $ttl));
        } catch (Failure $failure) {
            throw Raise::ofFailure($lockName, $failure);
        }
        self::warnLost($function, $lockName, $turn);
        if (!$turn->isHeld()) {
            $by = $turn->blocker === null ? '' : "; {$turn->blocker->inTheWay()}";
            $message = $lockName->about(sprintf('not acquired within %.1f s%s', $turn->waited, $by));

            throw Raise::here(new ClusterLockTimeoutException($message));
        }
        Request::calls($lockName, $turn->hold, 1);
        try {
            $value = self::call($callback, static fn () => self::leave($lockName, $turn));
        } catch (Throwable $thrown) {
            $trouble = self::leave($lockName, $turn);
            if ($trouble !== null) {
                self::tellBeside($function, $thrown, $trouble);
            }

            throw $thrown;
        }
        $trouble = self::leave($lockName, $turn);
        if ($trouble instanceof ClusterLockLostException) {
            (function () use ($value): void {
                $this->result = $value;
            })->call($trouble);
        }

        return $trouble === null ? $value : throw Raise::here($trouble);
    }

    public static function coalesced(string $name, mixed $work, ?float $timeout, ?float $ttl): bool
    {
        $function = 'cluster_coalesced';
        $work = Arguments::callable($function, 2, $work, 'work');
        Request::enter();
        $lockName = Arguments::name($function, 1, $name);
        $timeout = Arguments::timeout($function, 3, $timeout);
        $ttl = Arguments::ttl($function, 4, $ttl) ?? Settings::now()->ttl;
        try {
            $turn = Request::beginRun($function, $lockName, new Wish(Mode::Exclusive, $timeout, $ttl, true));
        } catch (Failure $failure) {
            Raise::warning($function, $lockName->about($failure->getMessage()));

            return false;
        }
        self::warnLost($function, $lockName, $turn);
        if (!$turn->isHeld()) {
            return $turn->isCovered;
        }
        Request::calls($lockName, $turn->hold, 1);
        try {
            // What it has returned is destroyed when the lock is given back.
            $value = self::call($work, static fn () => self::endRun($lockName, $turn, false));
        } catch (Throwable $thrown) {
            [, $trouble] = self::endRun($lockName, $turn, false);
            if ($trouble !== null) {
                self::tellBeside($function, $thrown, $trouble);
            }

            throw $thrown;
        }
        $isForgotten = $value instanceof Generator;
        [$done, $trouble] = self::endRun($lockName, $turn, $value !== false && !$isForgotten);
        $message = $trouble?->getMessage() ?? ($isForgotten ? $lockName->about(self::NOT_RUN) : null);
        if ($message !== null) {
            Raise::warning($function, $message);
        }

        return $done;
    }

    public static function fence(string $name): ?int
    {
        Request::enter();
        $lease = Request::lease(Arguments::name('cluster_lock_fence', 1, $name));

        return $lease?->isHeld() ? $lease->fence : null;
    }

    /** @return array<string, mixed>|null */
    public static function info(string $name): ?array
    {
        Request::enter();
        $lockName = Arguments::name('cluster_lock_info', 1, $name);
        try {
            return Engine::current()->store->info($lockName);
        } catch (Failure $failure) {
            Raise::warning('cluster_lock_info', $lockName->about(Engine::counted($failure)->getMessage()));

            return null;
        }
    }

    /** @return list<array<string, mixed>> */
    public static function list(string $prefix, int $limit): array
    {
        Request::enter();
        if ($limit < 1) {
            throw Arguments::error('cluster_lock_list', 2, 'limit', 'must be greater than or equal to 1');
        }
        try {
            // No name is longer.
            return strlen($prefix) > LockName::MAX ? [] : Engine::current()->store->list($prefix, $limit);
        } catch (Failure $failure) {
            $message = Engine::counted($failure)->getMessage();
            Raise::warning('cluster_lock_list', "The locks cannot be listed: $message");

            return [];
        }
    }

    public static function break(string $name, ?int $fence): bool
    {
        Request::enter();
        $lockName = Arguments::name('cluster_lock_break', 1, $name);
        if ($fence !== null && $fence < 1) {
            throw Arguments::error('cluster_lock_break', 2, 'fence', 'must be greater than or equal to 1');
        }
        try {
            return Engine::current()->store->break($lockName, $fence);
        } catch (Failure $failure) {
            Raise::warning('cluster_lock_break', $lockName->about(Engine::counted($failure)->getMessage()));

            return false;
        }
    }

    /** @return list<array<string, mixed>> a server that cannot be asked is an answer, too */
    public static function servers(): array
    {
        Request::enter();
        try {
            return Engine::current()->store->servers();
        } catch (Failure $failure) {
            $told = ['server' => Settings::now()->dsnShown(), 'error' => $failure->getMessage()];

            return [array_replace(Survey::NOTHING, $told)];
        }
    }

    /** @return array<string, mixed> */
    public static function status(): array
    {
        Request::enter();

        return Status::now();
    }

    public static function notGivenBack(LockName $name, Failure $failure): string
    {
        return $name->about("not given back, it comes free when its lease runs out: {$failure->getMessage()}");
    }

    /**
     * Calls code of the user.
     *
     * @param callable(): mixed $leave what is to be done when it never comes back: its fiber is destroyed
     */
    public static function call(callable $code, callable $leave): mixed
    {
        $isBack = false;
        try {
            $value = $code();
            $isBack = true;

            return $value;
        } catch (Throwable $thrown) {
            $isBack = true;

            throw $thrown;
        } finally {
            if (!$isBack) {
                $leave();
            }
        }
    }

    /** An earlier hold was lost. When an error handler throws at that, the caller never learns of the new one. */
    public static function warnLost(string $function, LockName $name, Turn $turn): void
    {
        if ($turn->lost === null) {
            return;
        }
        try {
            Raise::warning($function, $name->about("it was held and is lost: {$turn->lost->how}"));
        } catch (Throwable $thrown) {
            if ($turn->isHeld()) {
                self::leaveQuietly($name, $turn);
            }

            throw $thrown;
        }
    }

    /** What went wrong. Null: nothing. */
    private static function leave(LockName $name, Turn $turn): ?ClusterLockException
    {
        try {
            Request::enter();
            Request::calls($name, $turn->hold, -1);
            $given = Request::unlock($name, $turn->hold);
        } catch (Failure $failure) {
            return self::keptBack($name, $failure);
        }

        return self::ended($name, $given);
    }

    /**
     * Whether a run is complete for who asked for it, and what went wrong. Where the server cannot be told, and nothing is known
     * of a loss, it is complete.
     *
     * @return array{bool, ClusterLockException|null}
     */
    public static function endRun(LockName $name, Turn $turn, bool $complete): array
    {
        try {
            Request::enter();
            Request::calls($name, $turn->hold, -1);
            $given = Request::endRun($name, $turn->hold, $complete);
        } catch (Failure $failure) {
            return [$complete, self::keptBack($name, $failure)];
        }

        return [$complete && $given === null, self::ended($name, $given)];
    }

    private static function keptBack(LockName $name, Failure $failure): ClusterLockException
    {
        $class = $failure->kind->exception();

        return new $class(self::notGivenBack($name, $failure));
    }

    private static function ended(LockName $name, Loss|string|null $given): ?ClusterLockException
    {
        return $given === null ? null : new ClusterLockLostException($name->about(
            is_string($given)
                ? 'was unlocked, or lost and acquired again, by the callback'
                : "was lost before it was released: {$given->how}"
        ));
    }

    /** An exception of the callback wins over what became of the lock, and tells of it as well. */
    public static function tellBeside(string $function, Throwable $thrown, ClusterLockException $trouble): void
    {
        try {
            Raise::warning($function, $trouble->getMessage());
        } catch (Throwable $ofHandler) {
            Raise::chain($ofHandler, $thrown);

            throw $ofHandler;
        }
        Raise::chain($thrown, $trouble);
    }

    private static function leaveQuietly(LockName $name, Turn $turn): void
    {
        try {
            Request::enter();
            Request::unlock($name, $turn->hold);
        } catch (Failure) {
            // It comes free when its lease runs out.
        }
    }
}
