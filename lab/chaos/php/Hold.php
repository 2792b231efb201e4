<?php

declare(strict_types=1);

namespace ClusterLock\Chaos;

use ClusterLock;
use ClusterLockException;
use ClusterLockLostException;
use ClusterLockTimeoutException;

/**
 * One lock, taken in one of the ways there are, and told to the history: asked, got or not, looked at,
 * given back.
 */
final class Hold
{
    private ?int $id = null;

    private ?int $fence = null;

    private ?ClusterLock $object = null;

    /** @var resource|null */
    private $stream = null;

    /** Unlocks needed beyond the first. */
    private int $depth = 0;

    /** @param 'function'|'object'|'flock' $via */
    public function __construct(
        private readonly History $history,
        public readonly string $via,
        public readonly string $name,
        private int $mode,
        private readonly float $ttl,
        private readonly ?string $path = null,
    ) {
    }

    public function isExclusive(): bool
    {
        return $this->mode === LOCK_EX;
    }

    public function id(): ?int
    {
        return $this->id;
    }

    public function fence(): ?int
    {
        return $this->fence;
    }

    /** @return resource|null */
    public function stream()
    {
        return $this->stream;
    }

    public function take(?float $timeout): bool
    {
        $this->ask($this->via, $timeout);
        [$got, $why] = match ($this->via) {
            'function' => $this->call(fn () => cluster_lock($this->name, $timeout, $this->mode, $this->ttl)),
            'object' => $this->call(function () use ($timeout) {
                $this->object ??= new ClusterLock($this->name, $this->mode, $this->ttl);

                return $this->object->acquire($timeout);
            }),
            'flock' => $this->takeFile($this->mode, $timeout),
        };

        return $this->answered($got, $why);
    }

    /** Inside a callback of cluster_synchronized(). */
    public function synchronize(?float $timeout, callable $work): void
    {
        $this->ask('synchronized', $timeout);
        [$done, $why] = $this->call(function () use ($timeout, $work) {
            return cluster_synchronized($this->name, function () use ($work) {
                $this->answered(true, null);
                $work();
                $this->history->tell('give', ['i' => $this->id]);

                return true;
            }, $timeout, $this->ttl);
        });
        if ($this->fence === null) {
            $this->answered(false, $why);
        } else {
            $this->gave($done, $why);
        }
    }

    /** By a run of `$work`, which says whether it has succeeded, or by somebody else's. */
    public function coalesce(?float $timeout, callable $work): void
    {
        $this->ask('coalesced', $timeout);
        $ran = null;
        [$done, $why] = $this->call(function () use ($timeout, $work, &$ran) {
            return cluster_coalesced($this->name, function () use ($work, &$ran): bool {
                $this->answered(true, null);
                $ran = false;
                $ran = $work();
                $this->look();
                if ($ran) {
                    $this->history->tell('ran', ['i' => $this->id]);
                }
                $this->history->tell('give', ['i' => $this->id]);

                return $ran;
            }, $timeout, $this->ttl);
        });
        if ($ran !== null) {
            // A run that has failed says nothing of the lock, nor does one of which the server could not be told.
            $this->gave($ran && ($why === null || !$done) ? $done : null, $why);
        } elseif ($done) {
            $this->history->tell('covered', ['i' => $this->id]);
        } else {
            $this->answered(false, $why);
        }
    }

    /** As an administrator, who does not ask who holds it. */
    public function break(): void
    {
        $this->history->tell('break', ['n' => $this->name]);
        [$broke] = $this->call(fn () => cluster_lock_break($this->name));
        $this->history->tell('broke', ['n' => $this->name, 'ok' => $broke]);
    }

    /** Once more by the same request; a lost lock is acquired afresh by that. */
    public function nest(?float $timeout): void
    {
        $before = [$this->id, $this->fence];
        $this->ask('nested', $timeout, $this->id);
        [$got, $why] = $this->call(fn () => cluster_lock($this->name, $timeout, $this->mode, $this->ttl));
        $fence = cluster_lock_fence($this->name);
        if ($got && $fence !== null && $fence === $before[1]) {
            $this->history->tell('nested', ['i' => $this->id]);
            [$this->id, $this->fence] = $before;
            $this->depth++;
        } else {
            $this->answered($got, $why);
            $this->depth = 0;
        }
    }

    /** To the other mode. Not atomic: when it fails nothing is held. */
    public function convert(?float $timeout): bool
    {
        $held = $this->fence !== null;
        $this->mode = $this->isExclusive() ? LOCK_SH : LOCK_EX;
        $this->ask('convert', $timeout, $this->id);
        if ($this->via === 'flock') {
            return $this->answered(...$this->takeFile($this->mode, $timeout));
        }
        // From shared to exclusive only: the other way round nests.
        [$got, $why] = $this->call(fn () => cluster_lock($this->name, $timeout, $this->mode, $this->ttl));
        $this->answered($got, $why);
        // One that was found lost, now or before, has been acquired afresh, and needs one unlock.
        $this->depth = $held && $got && $why === null ? $this->depth + 1 : 0;

        return $got;
    }

    /** What this process believes, before it asks anybody. */
    public function look(): float
    {
        $at = hrtime(true);
        $left = 0.0;
        if ($this->object !== null) {
            $left = $this->object->isHeld() ? $this->object->remaining() : 0.0;
        } else {
            foreach (cluster_lock_status()['held'] as $held) {
                if ($held['name'] === $this->name && $held['fence'] === $this->fence) {
                    $left = $held['remaining'];
                }
            }
        }
        $this->history->tell('look', ['i' => $this->id, 'at' => $at, 'left' => (int) ($left * 1e9)]);

        return $left;
    }

    public function refresh(float $ttl): void
    {
        if ($this->object === null) {
            return;
        }
        $this->history->tell('refresh', ['i' => $this->id, 'ttl' => $ttl]);
        [$done, $why] = $this->call(function () use ($ttl) {
            $this->object->refresh($ttl);

            return true;
        });
        $this->history->tell('refreshed', ['i' => $this->id, 'ok' => $done, 'why' => $why]);
    }

    /** The end of a request, or of a stream, gives a lock back as well. */
    public function give(bool $byClosing = false): void
    {
        for (; $this->depth > 0; $this->depth--) {
            @cluster_unlock($this->name);
        }
        $this->history->tell('give', ['i' => $this->id]);
        [$done, $why] = match ($this->via) {
            'function' => $this->call(fn () => cluster_unlock($this->name)),
            'object' => $this->call(function () {
                $this->object->release();

                return true;
            }),
            'flock' => $byClosing ? [null, null] : $this->call(fn () => cluster_flock($this->stream, LOCK_UN)),
        };
        if ($this->stream !== null) {
            fclose($this->stream);
            $this->stream = null;
        }
        $this->gave($done, $why);
    }

    /** @return array{bool, ?string} */
    private function takeFile(int $mode, ?float $timeout): array
    {
        $this->stream ??= fopen($this->path, 'c+');
        $now = $timeout === 0.0 ? LOCK_NB : 0;
        $before = ini_set('cluster_lock.timeout', (string) $timeout);
        $settings = ini_set('cluster_lock.ttl', (string) $this->ttl);
        try {
            return $this->call(fn () => cluster_flock($this->stream, $mode | $now));
        } finally {
            ini_set('cluster_lock.timeout', $before);
            ini_set('cluster_lock.ttl', $settings);
        }
    }

    private function ask(string $via, ?float $timeout, ?int $from = null): void
    {
        $this->id = $this->history->nextHold();
        $this->fence = null;
        $this->history->tell('ask', [
            'i' => $this->id,
            'n' => $this->name,
            'm' => $this->isExclusive() ? 'X' : 'S',
            'via' => $via,
            'timeout' => $timeout ?? (float) ini_get('cluster_lock.timeout'),
            'ttl' => $this->ttl,
        ] + ($from === null ? [] : ['from' => $from]));
    }

    private function answered(bool $got, ?string $why): bool
    {
        if (!$got) {
            $this->history->tell('no', ['i' => $this->id, 'why' => $why]);

            return false;
        }
        $at = hrtime(true);
        $this->fence = $this->object !== null ? $this->objectFence() : $this->fenceByStatus();
        $this->history->tell('got', ['i' => $this->id, 'at' => $at, 'fence' => $this->fence, 'why' => $why]);
        $this->look();

        return true;
    }

    private function gave(?bool $done, ?string $why): void
    {
        $this->history->tell('gave', ['i' => $this->id, 'ok' => $done, 'why' => $why]);
    }

    /** null: it is lost already. */
    private function objectFence(): ?int
    {
        try {
            return $this->object->fence();
        } catch (ClusterLockException) {
            return null;
        }
    }

    private function fenceByStatus(): ?int
    {
        if ($this->path === null) {
            return cluster_lock_fence($this->name);
        }
        $held = array_filter(cluster_lock_status()['held'], fn (array $held) => $held['name'] === $this->name);

        return $held === [] ? null : end($held)['fence'];
    }

    /** @return array{bool, ?string} what it returned, and what it warned of or threw */
    private function call(callable $function): array
    {
        $warning = null;
        // Not error_get_last(): that may be a signal handler's, which comes in between.
        set_error_handler(static function (int $level, string $message) use (&$warning): bool {
            $warning = $message;

            return true;
        });
        try {
            $result = $function();

            return [$result === true, $warning];
        } catch (ClusterLockTimeoutException) {
            return [false, null];
        } catch (ClusterLockException $e) {
            $lost = $e instanceof ClusterLockLostException ? 'lost: ' : '';

            return [false, $lost . $e->getMessage()];
        } finally {
            restore_error_handler();
        }
    }
}
