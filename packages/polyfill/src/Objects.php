<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ClusterLock;
use ClusterLockException;
use ClusterLockLostException;
use Error;

/** What the methods of ClusterLock do. */
final class Objects
{
    public static function construct(ClusterLock $object, string $name, int $mode, ?float $ttl): void
    {
        $function = 'ClusterLock::__construct';
        Request::enter();
        if (isset(Request::objects()[$object])) {
            throw Raise::here(new Error('Cannot call ClusterLock::__construct() twice'));
        }
        $lockName = Arguments::name($function, 1, $name);
        [$mode] = Arguments::mode($function, 2, $mode, false);
        Request::objects()[$object] = new ObjectState($lockName, $mode, Arguments::ttl($function, 3, $ttl));
    }

    public static function acquire(ClusterLock $object, ?float $timeout): bool
    {
        $state = self::state($object);
        $timeout = Arguments::timeout('ClusterLock::acquire', 1, $timeout);
        $loss = $state->lease?->loss();
        if ($state->lease !== null && $loss === null) {
            return true;
        }
        if ($loss !== null) {
            Request::letGo($state->lease);
            $state->lease = null;

            throw Raise::ofFailure($state->name, Failure::lost($loss));
        }
        $wish = new Wish($state->mode, $timeout, $state->ttl ?? Settings::now()->ttl);
        try {
            $refusal = static fn (): ?Turn => Request::refusal($state->name, $wish, $object);
            $turn = $refusal() ?? Request::ask($state->name, $wish, null, $refusal);
        } catch (Failure $failure) {
            throw Raise::ofFailure($state->name, $failure);
        }
        $state->lease = $turn->lease;

        return $turn->isHeld();
    }

    public static function release(ClusterLock $object): void
    {
        $state = self::state($object);
        $message = self::giveBack($state, $class);
        if ($message !== null) {
            throw Raise::here(new $class($message));
        }
    }

    public static function refresh(ClusterLock $object, ?float $ttl): void
    {
        $state = self::state($object);
        $ttl = Arguments::ttl('ClusterLock::refresh', 1, $ttl) ?? $state->ttl ?? Settings::now()->ttl;
        try {
            ($state->lease ?? throw self::notHeld($state))->refresh($ttl);
        } catch (Failure $failure) {
            throw Raise::ofFailure($state->name, $failure);
        }
    }

    public static function isHeld(ClusterLock $object): bool
    {
        return self::state($object)->lease?->isHeld() ?? false;
    }

    public static function remaining(ClusterLock $object): float
    {
        return self::state($object)->lease?->remaining() ?? 0.0;
    }

    public static function fence(ClusterLock $object): int
    {
        $state = self::state($object);

        return $state->lease?->isHeld() ? $state->lease->fence : throw self::notHeld($state);
    }

    public static function destruct(ClusterLock $object): void
    {
        // One that was never constructed (its constructor threw) is destroyed without a word.
        if (!isset(Request::objects()[$object])) {
            return;
        }
        Request::enter();
        $state = Request::objects()[$object];
        if (self::isDestroyedByPhp()) {
            Request::outlives($state);

            return;
        }
        if ($state->lease !== null) {
            $message = self::giveBack($state, $class);
            if ($message !== null) {
                Raise::warning('ClusterLock::__destruct', $message);
            }
        }
    }

    /** The object is gone; a destructor of other garbage may have acquired with it after its own. */
    public static function free(ObjectState $state): void
    {
        if ($state->lease !== null && !Guard::isTheEnd()) {
            [$lease, $state->lease] = [$state->lease, null];
            Request::letGo($lease);
        }
    }

    /** At the end of the request, with all objects, and not because nobody has it any more. */
    private static function isDestroyedByPhp(): bool
    {
        // This method, its caller, and the destructor, which no code has called.
        $trace = debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, 4);

        return count($trace) === 3 && !isset($trace[2]['file']) && Guard::isTheEnd();
    }

    private static function state(ClusterLock $object): ObjectState
    {
        Request::enter();

        return Request::objects()[$object]
            ?? throw Raise::here(new Error('The ClusterLock object has not been initialized by its constructor'));
    }

    /**
     * What went wrong, in words, and the class that says so; null: nothing.
     *
     * @param class-string<ClusterLockException>|null $class
     */
    private static function giveBack(ObjectState $state, ?string &$class): ?string
    {
        $class = ClusterLockException::class;
        [$lease, $state->lease] = [$state->lease, null];
        if ($lease === null) {
            return $state->name->about('is not held by this object');
        }
        try {
            $loss = $lease->release();
        } catch (Failure $failure) {
            $class = $failure->kind->exception();

            return Functions::notGivenBack($state->name, $failure);
        }
        $class = ClusterLockLostException::class;

        return $loss === null ? null : $state->name->about("was lost before it was released: {$loss->how}");
    }

    private static function notHeld(ObjectState $state): ClusterLockException
    {
        return Raise::here(new ClusterLockException($state->name->about('is not held by this object')));
    }
}
