<?php

declare(strict_types=1);

namespace ClusterLock\Chaos;

/**
 * Uses locks in all ways there are. What it chooses comes from mt_rand(): the same seed, the same choices.
 */
final class Actor
{
    /** A lock of runs of which most are broken from within. Of one that others use, breaks would explain too much. */
    private const BROKEN = 'broken runs';

    /** @var list<string> */
    private array $names;

    /** @var list<Hold> kept alive until the request ends */
    private array $left = [];

    /** @param int $hoards of a hundred actions, so many take several locks and keep them for seconds */
    public function __construct(
        private readonly History $history,
        private readonly string $room,
        private readonly int $hoards = 1,
    ) {
        $this->names = json_decode(file_get_contents("$room/names.json"), true);
    }

    /** One thing of many. */
    public function act(): void
    {
        match (true) {
            $this->chance($this->hoards) => $this->hoard(),
            $this->chance(30) => $this->lock('function'),
            $this->chance(30) => $this->lock('object'),
            $this->chance(25) => $this->lock('flock'),
            $this->chance(30) => $this->synchronized(),
            $this->chance(50) => $this->coalesced(),
            $this->chance(25) => $this->withoutRenewal(),
            $this->chance(25) => $this->two(),
            $this->chance(30) => $this->write(),
            $this->chance(50) => $this->append(),
            default => $this->read(),
        };
        $this->rest();
    }

    /** Takes some locks and leaves them to the end of the request. */
    public function leave(): void
    {
        for ($n = mt_rand(0, 2); $n > 0; $n--) {
            $hold = $this->hold(['function', 'object', 'flock'][mt_rand(0, 2)]);
            $taken = array_column($this->left, 'name');
            // Twice the same would nest, or wait for itself.
            if (!in_array($hold->name, $taken, true) && $hold->take($this->timeout())) {
                $this->left[] = $hold;
            }
        }
    }

    /** The end of a request, in one of the ways there are. */
    public function end(): void
    {
        $way = ['return', 'return', 'exit', 'exception', 'error', 'memory', 'synchronized', 'coalesced'][mt_rand(0, 7)];
        if ($way === 'coalesced' && $this->left === []) {
            $this->hold('function', LOCK_EX)->coalesce(0.5, function () {
                $this->history->tell('end', ['way' => 'exit in a run']);
                exit(0);
            });
        }
        if ($way === 'synchronized' && $this->left === []) {
            $this->hold('function')->synchronize(0.5, function () {
                $this->history->tell('end', ['way' => 'exit in a callback']);
                exit(0);
            });
        }
        $this->history->tell('end', ['way' => $way]);
        match ($way) {
            'exit' => exit(0),
            'exception' => throw new \RuntimeException('chaos: on purpose'),
            'error' => trigger_error('chaos: on purpose', E_USER_ERROR),
            'memory' => str_repeat('x', 1 << 30),
            default => null,
        };
    }

    private function lock(string $via): void
    {
        $hold = $this->hold($via);
        if (!$hold->take($this->timeout())) {
            return;
        }
        $this->work($hold);
        if ($via === 'function' && $this->chance(20)) {
            $hold->nest($this->timeout());
            $this->work($hold);
        }
        $convertible = $via === 'flock' || ($via === 'function' && !$hold->isExclusive());
        if ($convertible && $this->chance(20)) {
            if (!$hold->convert($this->timeout())) {
                return;
            }
            $this->work($hold);
        }
        $hold->give($via === 'flock' && $this->chance(30));
    }

    private function synchronized(): void
    {
        $hold = $this->hold('function', LOCK_EX);
        $hold->synchronize($this->timeout(), fn () => $this->work($hold));
    }

    /** What one does for all who want it done by then; some runs fail. */
    private function coalesced(): void
    {
        $breaks = $this->chance(25);
        // Most for the same, so that there are some to be covered.
        $name = $breaks ? self::BROKEN : ($this->chance(75) ? $this->names[0] : null);
        $hold = $this->hold('function', LOCK_EX, null, $name);
        $hold->coalesce($this->timeout(), function () use ($hold, $breaks): bool {
            $this->work($hold);
            $this->pause(0, 100);
            if ($breaks && $this->chance(70)) {
                $hold->break();
                $this->pause(0, 100);
            }

            return $this->chance(80);
        });
    }

    /** Its lease may run out while it works. */
    private function withoutRenewal(): void
    {
        ini_set('cluster_lock.auto_renew', '0');
        $hold = $this->hold(['function', 'object'][mt_rand(0, 1)], LOCK_EX, mt_rand(100, 400) / 1e3);
        if ($hold->take($this->timeout())) {
            $this->work($hold);
            $this->pause(0, 300);
            if ($this->chance(30)) {
                $hold->refresh(mt_rand(100, 300) / 1e3);
            }
            $this->work($hold);
            $hold->give();
        }
        ini_set('cluster_lock.auto_renew', '1');
    }

    /** Two names, always in the same order: nobody waits for each other. */
    private function two(): void
    {
        $first = mt_rand(0, count($this->names) - 2);
        $second = mt_rand($first + 1, count($this->names) - 1);
        $outer = $this->hold('function', LOCK_EX, null, $this->names[$first]);
        if (!$outer->take($this->timeout())) {
            return;
        }
        $inner = $this->hold('object', LOCK_EX, null, $this->names[$second]);
        if ($inner->take(mt_rand(0, 500) / 1e3)) {
            $this->work($inner);
            $inner->give();
        }
        $this->work($outer);
        $outer->give();
    }

    /** Several names, in the same order, and for so long that their leases must be renewed. */
    private function hoard(): void
    {
        $held = [];
        foreach ((array) array_rand($this->names, mt_rand(2, count($this->names))) as $number) {
            $hold = $this->hold(['function', 'object'][mt_rand(0, 1)], LOCK_EX, null, $this->names[$number]);
            if ($hold->take(mt_rand(0, 1000) / 1e3)) {
                $held[] = $hold;
            }
        }
        for ($end = hrtime(true) + mt_rand(500, 4000) * 1e6; hrtime(true) < $end;) {
            $this->pause(20, 60);
            foreach ($held as $hold) {
                $hold->look();
            }
        }
        foreach (array_reverse($held) as $hold) {
            $this->work($hold);
            $hold->give();
        }
    }

    private function work(Hold $hold): void
    {
        for ($steps = mt_rand(1, 3); $steps > 0; $steps--) {
            $this->pause(0, 12);
            $hold->look();
            if ($hold->isExclusive() && $this->chance(60)) {
                $this->register($hold);
            }
            if ($hold->isExclusive() && $hold->via === 'function' && $this->chance(25)) {
                $this->guardedWrite($hold);
            }
            if ($hold->via === 'object' && $this->chance(15)) {
                $hold->refresh(mt_rand(200, 2000) / 1e3);
            }
        }
        $hold->look();
    }

    /**
     * A fenced write: the kernel orders the appends, and a record counts only when no record before it
     * has a greater fence.
     */
    private function register(Hold $hold): void
    {
        if ($hold->fence() === null) {
            return;
        }
        $this->history->tell('act', ['i' => $hold->id()]);
        $line = "{$hold->fence()} {$this->history->who} {$hold->id()}\n";
        file_put_contents("$this->room/registers/" . md5($hold->name), $line, FILE_APPEND);
        $this->history->tell('acted', ['i' => $hold->id()]);
    }

    /** Refused when the lock is lost. */
    private function guardedWrite(Hold $hold): void
    {
        if ($hold->fence() === null) {
            return;
        }
        $this->put("$this->room/files/guarded-" . md5($hold->name), 0, $hold->name, $hold);
    }

    private function write(): void
    {
        $this->put("$this->room/files/plain-" . mt_rand(0, 1), LOCK_EX);
    }

    private function append(): void
    {
        $file = "$this->room/files/appended-" . mt_rand(0, 1);
        $this->setTimeout();
        $id = $this->history->nextHold();
        $this->history->tell('append', ['i' => $id, 'f' => basename($file), 'n' => "file:$file"]);
        $line = "{$this->history->who} $id\n";
        $done = @cluster_file_put_contents($file, $line, FILE_APPEND);
        $this->history->tell('appended', ['i' => $id, 'ok' => $done === strlen($line), 'why' => $this->why($done)]);
        ini_restore('cluster_lock.timeout');
    }

    private function put(string $file, int $flags, ?string $lock = null, ?Hold $hold = null): void
    {
        ini_set('cluster_lock.durable_writes', $this->chance(20) ? '1' : '0');
        $this->setTimeout();
        $id = $this->history->nextHold();
        $this->history->tell('write', [
            'i' => $id,
            'f' => basename($file),
            'fence' => $hold?->fence(),
            'hold' => $hold?->id(),
        ] + ($lock === null ? ['n' => "file:$file"] : []));
        $body = str_repeat(md5("{$this->history->who} $id"), mt_rand(1, 2000));
        $data = json_encode(['i' => $id, 'fence' => $hold?->fence(), 'body' => $body, 'sum' => md5($body)]);
        error_clear_last();
        $done = @cluster_file_put_contents($file, $data, $flags, $lock);
        $this->history->tell('wrote', ['i' => $id, 'ok' => $done === strlen($data), 'why' => $this->why($done)]);
        ini_restore('cluster_lock.timeout');
        ini_restore('cluster_lock.durable_writes');
    }

    /** Without a lock: whoever reads sees a whole file, whatever happens to those who write. */
    private function read(): void
    {
        $files = glob("$this->room/files/{guarded,plain}-*", GLOB_BRACE);
        if ($files === []) {
            return;
        }
        $file = $files[mt_rand(0, count($files) - 1)];
        $data = json_decode((string) file_get_contents($file), true);
        $whole = is_array($data) && md5($data['body']) === $data['sum'];
        $this->history->tell('read', ['f' => basename($file), 'ok' => $whole]);
    }

    private function hold(string $via, ?int $mode = null, ?float $ttl = null, ?string $name = null): Hold
    {
        $mode ??= $this->chance(70) ? LOCK_EX : LOCK_SH;
        $ttl ??= [0.3, 1.0, 2.0, 2.0, 3.0][mt_rand(0, 4)];
        $path = null;
        if ($via === 'flock') {
            $path = "$this->room/files/locked-" . mt_rand(0, 1);
            $name = "file:$path";
        }

        return new Hold(
            $this->history,
            $via,
            $name ?? $this->names[mt_rand(0, count($this->names) - 1)],
            $mode,
            $ttl,
            $path,
        );
    }

    private function timeout(): float
    {
        return match (mt_rand(0, 5)) {
            0 => 0.0,
            1 => mt_rand(10, 200) / 1e3,
            2, 3 => mt_rand(1, 3) + 0.0,
            default => 15.0,
        };
    }

    private function setTimeout(): void
    {
        ini_set('cluster_lock.timeout', (string) max(0.01, $this->timeout()));
    }

    private function why(int|false $done): ?string
    {
        return $done === false ? error_get_last()['message'] ?? 'no warning' : null;
    }

    private function rest(): void
    {
        $this->pause(5, 60);
    }

    private function pause(int $least, int $most): void
    {
        usleep(mt_rand($least * 1000, $most * 1000));
    }

    private function chance(int $percent): bool
    {
        return mt_rand(1, 100) <= $percent;
    }
}
