<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Clock;
use ClusterLock\Polyfill\Counters;
use ClusterLock\Polyfill\Engine;
use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Lease;
use ClusterLock\Polyfill\LockName;
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
    private readonly LockName $name;
    private readonly Wish $wish;
    private readonly bool $gate;
    private ?string $blocker = null;
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
            if (!$this->takeClusterLock($old) || ($this->gate && !$this->takeKernelLock())) {
                $this->letGo();

                return false;
            }
        } catch (Throwable $thrown) {
            $this->letGo();

            throw $thrown;
        } finally {
            $this->logSlow();
        }
        $filter = ClosingFilter::attach($this->stream);
        $lock = new FileLock($this->name, $this->wish->mode, $this->lease, $this->kernel, $this->file, $filter);
        FileLocks::put($this->stream, $lock);
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
        $convert = null;
        try {
            $refused = $this->refusal();
        } catch (Failure $failure) {
            // It would wait for itself: nothing has changed then.
            if ($old !== null) {
                FileLocks::put($this->stream, $old);
            }

            throw $failure;
        }
        if ($old !== null) {
            $this->takeOver($old);
            // The file may have been renamed since: the others know it by its new name.
            $isConverted = $refused === null && $old->lease?->isHeld() && $old->name->bytes === $this->name->bytes;
            $convert = $isConverted ? $old->lease : null;
            if ($convert === null) {
                Request::letGo($old->lease);
            }
        }
        try {
            $turn = $refused ?? Engine::for($convert)->acquire(
                $this->name,
                $this->wish,
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

    private function takeOver(FileLock $old): void
    {
        $loss = $old->lease?->loss();
        if ($loss !== null) {
            $this->warning = "it was held and is lost: {$loss->how}";
        }
        $trouble = $old->flush($this->stream);
        $old->detach();
        $this->kernel = $old->kernel;
        if ($this->kernel && ($trouble !== null || $this->wish->mode === Mode::Exclusive)) {
            // Another who has the cluster lock meanwhile must not wait for it.
            flock($this->stream, LOCK_UN);
            $this->kernel = false;
        }
        if ($trouble !== null) {
            Request::letGo($old->lease);

            throw Failure::other($trouble);
        }
    }

    /** A kernel's own wait cannot be given a time-out, and on NFS it polls at up to 30 s. */
    private function takeKernelLock(): bool
    {
        $operation = ($this->wish->mode === Mode::Exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB;
        for ($pause = self::POLL[0]; true; $pause = min(self::POLL[1], $pause * 2)) {
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
            Request::logSlow($this->name, $waited, $this->blocker, $this->file->path);
        }
    }
}
