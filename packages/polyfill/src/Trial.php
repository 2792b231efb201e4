<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** Whether locks can be had, now: a free one, of a name that is nobody's, is taken and given back. */
final class Trial
{
    /** In seconds: after so long it is free, if it cannot be given back. */
    private const LEASE = 1.0;

    /** Why not. Null: they can. */
    public static function of(Store $store): ?string
    {
        [$name, $token] = [self::name(), Claim::newToken()];
        try {
            $attempt = $store->attempt(new Claim($name, $token, Mode::Exclusive, self::LEASE, '{}'), true);
            if ($attempt->fence === null && $store->grace() !== null) {
                $why = 'it may have lost its memory, and lets nobody in for %.1f s more (?grace= in cluster_lock.dsn)';

                return sprintf($why, $attempt->blockedFor);
            }

            return $store->release($name, $token)?->how;
        } catch (Failure $failure) {
            return $failure->cause($store->server());
        } finally {
            $store->forget($name);
        }
    }

    public static function name(): LockName
    {
        return new LockName('cluster_lock:trial:' . Claim::newToken());
    }
}
