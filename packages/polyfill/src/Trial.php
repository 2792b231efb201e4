<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/**
 * Whether locks can be had, now, and waited for. A reader takes a lock of a name that is nobody's, and somebody waits for it
 * to whom it is handed over, by the steps and the commands that all locks need: a server may grant a free lock, and forbid
 * what a wait needs, or to be told its scripts when it has lost them.
 */
final class Trial
{
    /** In seconds: after so long it is free, if it cannot be given back. Longer than the few answers take for which it is held. */
    private const LEASE = 10.0;

    /** No store waits for much longer at once. */
    private const LONGEST = 1.0;

    /**
     * Why not. Null: they can.
     *
     * @param float $limit no wait is longer: seconds
     */
    public static function of(Store $store, float $limit): ?string
    {
        $name = self::name();
        $reader = self::claim($name, Mode::Shared);
        $waiter = self::claim($name, Mode::Exclusive);
        try {
            $why = self::handOver($store, $reader, $waiter, min(self::LONGEST, $limit));
            if ($why === null) {
                $store->takeTexts($name);
            }
        } catch (Failure $failure) {
            $why = $failure->cause($store->server());
        }
        if ($why !== null) {
            self::giveUp($store, $reader, $waiter);
        }
        $store->forget($name);

        return $why;
    }

    private static function handOver(Store $store, Claim $reader, Claim $waiter, float $limit): ?string
    {
        $began = Clock::now();
        $attempt = $store->attempt($reader, true);
        if ($attempt->fence === null && $store->grace() !== null) {
            $why = 'it may have lost its memory, and lets nobody in for %.1f s more (?grace= in cluster_lock.dsn)';

            return sprintf($why, $attempt->blockedFor);
        }
        // So far away it is, at most.
        $waiter->slack = max(Store::SLACK, (int) ((Clock::now() - $began) * 2000));
        $attempt = $store->attempt($waiter, false);
        $waiter->place = $attempt->place;
        // As a reader asks whose answer was lost: with somebody behind it that takes one command more.
        $store->attempt($reader, true);
        $lost = $store->release($reader->name, $reader->token);
        while ($lost === null && $attempt->fence === null) {
            $began = Clock::now();
            $store->awaitGrant($waiter, $limit);
            $isLate = Clock::now() - $began >= $limit;
            $attempt = $store->attempt($waiter, false);
            if ($isLate) {
                $why = 'no answer within %.3f s (cluster_lock.command_timeout) to one who waits (BLPOP)';
                throw Failure::connection($store->server(), sprintf($why, $limit));
            }
        }
        $lost ??= $store->release($waiter->name, $waiter->token);

        return $lost?->how;
    }

    private static function giveUp(Store $store, Claim ...$claims): void
    {
        foreach ($claims as $claim) {
            try {
                $store->release($claim->name, $claim->token);
            } catch (Failure $failure) {
                if ($failure->kind === Kind::Connection) {
                    return;
                }
            }
        }
    }

    private static function claim(LockName $name, Mode $mode): Claim
    {
        return new Claim($name, Claim::newToken(), $mode, self::LEASE, '{}');
    }

    public static function name(): LockName
    {
        return new LockName('cluster_lock:trial:' . Claim::newToken());
    }
}
