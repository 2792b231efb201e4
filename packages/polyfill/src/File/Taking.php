<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Clock;
use ClusterLock\Polyfill\Counters;
use ClusterLock\Polyfill\Engine;
use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Lease;
use ClusterLock\Polyfill\LockName;
use ClusterLock\Polyfill\Loss;
use ClusterLock\Polyfill\Mode;
use ClusterLock\Polyfill\Request;
use ClusterLock\Polyfill\Settings;
use ClusterLock\Polyfill\Turn;
use ClusterLock\Polyfill\Wish;
use Throwable;

/** A lock on an open file that is being taken: the cluster's, and with flock_mode "gate" then the kernel's. */
final class Taking
{
    /** Between two tries for a kernel lock that somebody without cluster_lock holds: at first, at most. */
    private const POLL = [0.001, 0.025];

    /** What is to be told although it works. */
    public ?string $warning = null;

    private readonly float $started;
    private LockName $name;
    private readonly Wish $wish;
    private readonly bool $gate;
    private ?string $blocker = null;
    private int $ahead = 0;
    private ?Lease $lease = null;
    private bool $kernel = false;

    /** @param resource $stream */
    public function __construct(private $stream, private readonly OpenFile $file, Mode $mode, bool $atOnce)
    {
        $settings = Settings::now();
        $this->started = Clock::now();
        $this->name = LockName::ofFile($file->path, $settings->pathMap->resolved());
        $this->wish = new Wish($mode, $atOnce ? 0.0 : $settings->timeout, $settings->ttl);
        $this->gate = $settings->flockMode === 'gate';
    }

    /**
     * False: somebody else has it.
     *
     * @throws Failure
     */
    public function take(): bool
    {
        if (!$this->gate && Mounts::isNetwork($this->file->device)) {
            throw Failure::other(
                'with flock_mode "replace" this node would have to forget what it has cached of the file, which only '
                . 'the extension cluster_lock can make it do: use "gate"'
            );
        }
        $old = FileLocks::of($this->stream);
        if ($old !== null && $old->lease?->loss() === null && $old->mode === $this->wish->mode) {
            return true;
        }
        try {
            $isTaken = $this->takeClusterLock($old) && (!$this->gate || $this->takeKernelLock());
            // A signal's handler may have closed it meanwhile.
            if (!$isTaken || !is_resource($this->stream)) {
                $this->letGo();

                return false;
            }
        } catch (Throwable $thrown) {
            $this->letGo();

            throw $thrown;
        } finally {
            $this->logSlow();
        }
        $lock = new FileLock($this->name, $this->wish->mode, $this->lease, $this->kernel, $this->file);
        FileLocks::put($this->stream, $lock);
        ClosingWatch::attach($this->stream);
        Counters::add('flocks');
        $this->forgetReadAhead();
        clearstatcache();

        return true;
    }

    public function about(string $what): string
    {
        return $this->name->about($what);
    }

    /** As with flock(2), a lock in another mode is given back before the new one is asked for. */
    private function takeClusterLock(?FileLock $old): bool
    {
        FileLocks::take($this->stream);
        $loss = $old?->lease?->loss();
        $refused = $deadlock = null;
        try {
            $refused = $this->refusal();
        } catch (Failure $deadlock) {
            // It would wait for itself: nothing has changed then.
            if ($old !== null && $loss === null) {
                FileLocks::put($this->stream, $old);

                throw $deadlock;
            }
        }
        $convert = $old === null ? null : $this->takeOver($old, $loss);
        if ($this->kernel) {
            return $this->takeInPassing($old, $convert, $refused !== null || $deadlock !== null);
        }
        // The file may have been renamed since: the others know it by its new name.
        if ($convert !== null && ($refused !== null || $convert->name->bytes !== $this->name->bytes)) {
            Request::letGo($convert);
            $convert = null;
        }

        return $deadlock === null ? $this->ask($refused, $this->wish, $convert) : throw $deadlock;
    }

    /**
     * The kernel's lock is, or at once becomes, what is wanted. It is not given up, so the cluster lock is not waited for:
     * who has that (under the file's new name, or since ours was lost) waits for the kernel's.
     */
    private function takeInPassing(FileLock $old, ?Lease $convert, bool $isRefused): bool
    {
        if ($convert !== null) {
            $this->name = $old->name;
        }
        $refused = $isRefused && $convert === null ? new Turn(null) : null;
        $this->ask($refused, new Wish($this->wish->mode, 0.0, $this->wish->ttl), $convert);
        [$this->blocker, $this->ahead] = [null, 0];

        return true;
    }

    private function ask(?Turn $refused, Wish $wish, ?Lease $convert): bool
    {
        try {
            $turn = $refused ?? Engine::for($convert)->acquire(
                $this->name,
                $wish,
                $convert,
                fn (): ?Turn => $this->refusal()
            );
        } catch (Failure $failure) {
            if (!$this->gate) {
                throw $failure;
            }
            $this->warning = "{$failure->getMessage()}; falling back on the kernel's lock alone";

            return true;
        }
        $this->blocker = $turn->blocker?->inTheWay();
        $this->ahead = $turn->ahead;
        $this->lease = $turn->lease;

        return $turn->isHeld();
    }

    /** By another handle of this request. */
    private function refusal(): ?Turn
    {
        if (FileLocks::hasKernelOnly($this->name, $this->wish->mode)) {
            return $this->wish->timeout === 0.0 ? new Turn(null) : throw Failure::deadlock();
        }

        return Request::refusal($this->name, $this->wish, $this);
    }

    /**
     * What goes on is the kernel's lock, unless another who has the cluster lock meanwhile would wait for it in vain.
     *
     * @return Lease|null which is to be converted
     */
    private function takeOver(FileLock $old, ?Loss $loss): ?Lease
    {
        $trouble = $old->flush($this->stream);
        $this->kernel = $old->kernel && $trouble === null
            && ($this->wish->mode === Mode::Shared || $old->mode === Mode::Exclusive);
        if ($old->kernel && !$this->kernel) {
            flock($this->stream, LOCK_UN);
        }
        if ($loss !== null) {
            $this->warning = "it was held and is lost: {$loss->how}";
        }
        if ($loss !== null || $trouble !== null) {
            // The server may still count it as ours, and would let us wait for ourselves.
            Request::letGo($old->lease);
        }

        return match (true) {
            $trouble !== null => throw Failure::other($trouble),
            $loss !== null => null,
            default => $old->lease,
        };
    }

    private function takeKernelLock(): bool
    {
        $lease = $this->lease;
        if ($lease === null) {
            return $this->pollKernelLock();
        }
        // Should a signal's handler end the request in this wait, its end gives the cluster lock back.
        Request::waiting($lease->token, static fn () => $lease->release());
        try {
            return $this->pollKernelLock();
        } finally {
            Request::waiting($lease->token, null);
        }
    }

    /** A kernel's own wait cannot be given a time-out, and on NFS it polls at up to 30 s. */
    private function pollKernelLock(): bool
    {
        $operation = ($this->wish->mode === Mode::Exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB;
        for ($pause = self::POLL[0]; is_resource($this->stream); $pause = min(self::POLL[1], $pause * 2)) {
            $this->kernel = flock($this->stream, $operation, $wouldBlock);
            if ($this->kernel) {
                return true;
            }
            if (!$wouldBlock) {
                throw Failure::other(
                    "the kernel's flock() failed (NFS gives no exclusive lock on a file that is open for reading only, "
                    . 'and no shared one on a file that is open for writing only)'
                );
            }
            // Under another name: a hard link, or before it was renamed.
            if ($this->wish->timeout > 0.0 && FileLocks::kernelIsOurs($this->file, $this->wish->mode)) {
                throw Failure::deadlock();
            }
            $this->blocker ??= "held by the kernel's flock() of a process without cluster_lock";
            $left = $this->started + $this->wish->timeout - Clock::now();
            if ($left <= 0.0) {
                return false;
            }
            Clock::sleep(min($left, $pause));
            Request::keepAlive();
            $this->lease?->keepAlive();
        }

        return false;
    }

    /** What was already taken. */
    private function letGo(): void
    {
        if ($this->kernel && is_resource($this->stream)) {
            flock($this->stream, LOCK_UN);
        }
        Request::letGo($this->lease);
        [$this->kernel, $this->lease] = [false, null];
    }

    /** What was read ahead is older than the lock. The position stays. */
    private function forgetReadAhead(): void
    {
        $meta = stream_get_meta_data($this->stream);
        $position = ftell($this->stream);
        if ($meta['seekable'] && $meta['unread_bytes'] > 0 && $position !== false) {
            fseek($this->stream, 0, SEEK_END);
            fseek($this->stream, $position);
        }
    }

    private function logSlow(): void
    {
        $waited = Clock::now() - $this->started;
        if ($this->blocker !== null && $waited > Settings::now()->slowWait) {
            Request::logSlow($this->name, $waited, $this->blocker, $this->file->path, $this->ahead);
        }
    }
}
