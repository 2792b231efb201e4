<?php

declare(strict_types=1);

namespace ClusterLock\Symfony;

use ClusterLock;
use ClusterLockConnectionException;
use ClusterLockException;
use ClusterLockLostException;
use Psr\Log\LoggerAwareInterface;
use Psr\Log\LoggerAwareTrait;
use Symfony\Component\Lock\BlockingSharedLockStoreInterface;
use Symfony\Component\Lock\BlockingStoreInterface;
use Symfony\Component\Lock\Exception\InvalidArgumentException;
use Symfony\Component\Lock\Exception\InvalidTtlException;
use Symfony\Component\Lock\Exception\LockAcquiringException;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Exception\LockReleasingException;
use Symfony\Component\Lock\Exception\LockStorageException;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\Store\ExpiringStoreTrait;
use ValueError;

/**
 * symfony/lock on the extension cluster_lock: waiters are woken one at a time in the order of their arrival, and
 * every lock has a fencing token.
 *
 * Locks are named after the key's resource, so they exclude those of cluster_lock() with the same name. They belong
 * to the process: nothing survives the end of the request, and a key cannot be serialised.
 */
final class ClusterLockStore implements BlockingStoreInterface, BlockingSharedLockStoreInterface, LoggerAwareInterface
{
    use ExpiringStoreTrait;
    use LoggerAwareTrait;

    /** What the extension takes for a lease, in seconds. */
    private const MIN_LEASE = 0.1;
    private const MAX_LEASE = 31_536_000.0;

    /** Until somebody calls refresh(), in seconds. */
    private readonly float $lease;

    /**
     * By object id. Kept here as well as in the keys because a lock outlives its Lock and its Key when nobody
     * releases it (LockFactory's $autoRelease = false), and because ClusterLock's own destructor warns of a lease
     * that ran out, which in Symfony is nothing unusual.
     *
     * @var array<int, Hold>
     */
    private array $holds = [];

    /**
     * @param float|null $initialTtl the lease in seconds until the first refresh(), which Lock::acquire() makes at once
     *     when it has a ttl; null: 300, or cluster_lock.ttl with $renew
     * @param float|null $timeout    longest wait of acquire(true) in seconds; null: cluster_lock.timeout
     * @param bool       $renew      false: a lock ends when its ttl is over. true: it is kept alive until it is
     *     released or the process ends, for cluster_lock.max_hold at most; a dead process blocks the others for
     *     $initialTtl only
     *
     * @throws InvalidArgumentException
     */
    public function __construct(
        ?float $initialTtl = null,
        private readonly ?float $timeout = INF,
        private readonly bool $renew = false,
    ) {
        if ($renew && ini_get('cluster_lock.ttl') === false) {
            throw new InvalidArgumentException('Locks are renewed by the extension cluster_lock, which is not loaded.');
        }
        $this->lease = $initialTtl ?? ($renew ? (float) ini_get('cluster_lock.ttl') : 300.0);
        if (!($this->lease >= self::MIN_LEASE && $this->lease <= self::MAX_LEASE)) {
            throw new InvalidTtlException(sprintf(
                '"%s()" expects a TTL from 0.1 s to a year. Got %s.',
                __METHOD__,
                var_export($this->lease, true)
            ));
        }
        if ($timeout !== null && !($timeout >= 0.0)) {
            throw new InvalidArgumentException(sprintf(
                '"%s()" expects a time-out of at least 0 s. Got %s.',
                __METHOD__,
                var_export($timeout, true)
            ));
        }
    }

    public function __destruct()
    {
        $this->forgetLost();
    }

    /**
     * The fencing token of the lock that this key holds: greater than that of every holder before it. Store it with
     * the data, and refuse what comes with a smaller one. No round trip.
     *
     * @return int|null null: the key holds no lock of a ClusterLockStore, or has lost it
     */
    public static function fence(Key $key): ?int
    {
        try {
            return self::holdOf($key)?->lock->fence();
        } catch (ClusterLockException) {
            return null;
        }
    }

    public function save(Key $key): void
    {
        $this->hold($key, LOCK_EX, 0.0);
    }

    public function saveRead(Key $key): void
    {
        $this->hold($key, LOCK_SH, 0.0);
    }

    /** Sleeps until the lock is handed over; nothing is polled. */
    public function waitAndSave(Key $key): void
    {
        $this->hold($key, LOCK_EX, $this->timeout);
    }

    /** Sleeps until the lock is handed over; nothing is polled. */
    public function waitAndSaveRead(Key $key): void
    {
        $this->hold($key, LOCK_SH, $this->timeout);
    }

    public function putOffExpiration(Key $key, float $ttl): void
    {
        $hold = self::holdOf($key) ?? throw new LockConflictedException(
            sprintf('The "%s" lock is not held by this key.', $key)
        );
        if ($this->renew) {
            // What renewal does not reach has to be a lease. The last renewal is good for some time beyond the limit.
            $lease = $ttl <= $hold->renewedFor() + $this->lease / 2 ? $this->lease : $ttl;
        } else {
            $lease = $ttl;
            $key->reduceLifetime($ttl);
        }
        try {
            if (!$hold->isJustLeasedFor($lease)) {
                $this->setLease($key, $hold, $lease);
            }
        } finally {
            $hold->isFresh = false;
            self::limitLifetime($key, $hold);
        }
        $this->checkNotExpired($key);
    }

    public function delete(Key $key): void
    {
        $hold = self::holdOf($key);
        if ($hold === null) {
            return;
        }
        if (!$hold->lock->isHeld()) {
            $this->letGo($key, $hold);

            return;
        }
        try {
            $this->forget($key, $hold);
            $hold->lock->release();
        } catch (ClusterLockLostException $e) {
            $this->tellLost($hold, $e);
        } catch (ClusterLockException $e) {
            throw new LockReleasingException($e->getMessage(), 0, $e);
        }
    }

    /** Asks the server: the lock may have been broken, or its data lost. */
    public function exists(Key $key): bool
    {
        $hold = self::holdOf($key);
        if ($hold === null) {
            return false;
        }
        $fence = self::fence($key);
        if ($fence !== null && self::isKnownToTheServer($hold->lock->name, $fence)) {
            return true;
        }
        $this->letGo($key, $hold);
        $key->reduceLifetime(0.0);

        return false;
    }

    private static function holdOf(Key $key): ?Hold
    {
        return $key->hasState(self::class) ? $key->getState(self::class) : null;
    }

    private function hold(Key $key, int $mode, ?float $timeout): void
    {
        $this->forgetLost();
        $hold = self::holdOf($key);
        if ($hold?->mode === $mode) {
            try {
                $this->setLease($key, $hold, $this->lease);
                $hold->isFresh = true;
                self::limitLifetime($key, $hold);
                $this->checkNotExpired($key);

                return;
            } catch (LockConflictedException) {
                $hold = null; // Lost meanwhile: acquired afresh.
            }
        }
        $acquired = $hold === null
            ? $this->acquire($key, $mode, $timeout)
            : $this->convert($key, $hold, $mode, $timeout);
        if (!$acquired) {
            throw new LockConflictedException(sprintf('The "%s" lock is held by somebody else.', $key));
        }
        $this->checkNotExpired($key);
    }

    /**
     * A promotion or demotion. A ClusterLock has one mode, so what is held is given back first, like flock(2) does;
     * and taken again when the other mode cannot be had, if nobody came first.
     */
    private function convert(Key $key, Hold $hold, int $mode, ?float $timeout): bool
    {
        $this->letGo($key, $hold);
        $acquired = false;
        try {
            return $acquired = $this->acquire($key, $mode, $timeout);
        } finally {
            if (!$acquired && !$this->acquire($key, $hold->mode, 0.0)) {
                $this->logger?->notice(
                    'The "{resource}" lock was given back for a promotion or demotion, and somebody else came first.',
                    ['resource' => $key]
                );
            }
        }
    }

    private function acquire(Key $key, int $mode, ?float $timeout): bool
    {
        try {
            $lock = new ClusterLock((string) $key, $mode, $this->lease);
            if (!$this->acquireRenewedOrNot($lock, $timeout)) {
                return false;
            }
        } catch (ValueError $e) {
            throw new InvalidArgumentException($e->getMessage(), 0, $e);
        } catch (ClusterLockConnectionException $e) {
            throw new LockStorageException($e->getMessage(), 0, $e);
        } catch (ClusterLockException $e) {
            throw new LockAcquiringException($e->getMessage(), 0, $e);
        }
        $hold = new Hold($lock, $mode, $this->lease, $this->renew ? self::maxHold() : 0.0);
        $this->holds[spl_object_id($hold)] = $hold;
        $key->setState(self::class, $hold);
        $key->markUnserializable();
        self::limitLifetime($key, $hold);

        return true;
    }

    /** Whether a lease is renewed is decided when it is acquired, by what php.ini says at that moment. */
    private function acquireRenewedOrNot(ClusterLock $lock, ?float $timeout): bool
    {
        $setting = ini_get('cluster_lock.auto_renew');
        if ($setting === false || filter_var($setting, FILTER_VALIDATE_BOOLEAN) === $this->renew) {
            return $lock->acquire($timeout);
        }
        // A function that is disabled does not exist.
        if (!function_exists('ini_set') || ini_set('cluster_lock.auto_renew', $this->renew ? '1' : '0') === false) {
            throw new LockAcquiringException(sprintf(
                'cluster_lock.auto_renew is %s and cannot be changed (php_admin_value, or ini_set() is disabled), so a '
                . 'ClusterLockStore with $renew = %s cannot work.',
                $setting ?: '0',
                var_export($this->renew, true)
            ));
        }
        try {
            return $lock->acquire($timeout);
        } finally {
            ini_set('cluster_lock.auto_renew', $setting);
        }
    }

    private static function maxHold(): float
    {
        $seconds = ini_get('cluster_lock.max_hold');

        return is_numeric($seconds) && $seconds > 0 ? (float) $seconds : INF;
    }

    /** Sets the lease from now on. One round trip. */
    private function setLease(Key $key, Hold $hold, float $lease): void
    {
        try {
            $hold->lock->refresh(max(self::MIN_LEASE, min($lease, self::MAX_LEASE)));
            $hold->lease = $lease;
        } catch (ClusterLockException $e) {
            if ($hold->lock->isHeld()) {
                throw new LockStorageException($e->getMessage(), 0, $e);
            }
            $this->letGo($key, $hold);
            throw new LockConflictedException($e->getMessage(), 0, $e);
        }
    }

    private static function limitLifetime(Key $key, Hold $hold): void
    {
        $remaining = $hold->remaining();
        if ($remaining < INF) {
            $key->reduceLifetime($remaining);
        }
    }

    /** When the server cannot be asked, or has more readers than it tells of, the lease is what counts. */
    private static function isKnownToTheServer(string $name, int $fence): bool
    {
        $failed = false;
        set_error_handler(static function () use (&$failed): bool {
            return $failed = true;
        });
        try {
            $lock = cluster_lock_info($name);
        } finally {
            restore_error_handler();
        }

        $isTold = in_array($fence, array_column($lock['holders'] ?? [], 'fence'), true);

        return $failed || $isTold || ($lock['more_holders'] ?? 0) > 0;
    }

    private function forget(?Key $key, Hold $hold): void
    {
        unset($this->holds[spl_object_id($hold)]);
        if ($key !== null) {
            $key->removeState(self::class);
        }
    }

    /** Gives back what may be lost already; if it cannot be given back, its lease runs out. */
    private function letGo(?Key $key, Hold $hold): void
    {
        $this->forget($key, $hold);
        try {
            $hold->lock->release();
        } catch (ClusterLockLostException $e) {
            $this->tellLost($hold, $e);
        } catch (ClusterLockException) {
        }
    }

    /** Those whose keys are gone and whose leases have run out. */
    private function forgetLost(): void
    {
        foreach ($this->holds as $hold) {
            if (!$hold->lock->isHeld()) {
                $this->letGo(null, $hold);
            }
        }
    }

    private function tellLost(Hold $hold, ClusterLockLostException $e): void
    {
        $this->logger?->notice(
            'The "{resource}" lock was lost before it was released.',
            ['resource' => $hold->lock->name, 'exception' => $e]
        );
    }
}
