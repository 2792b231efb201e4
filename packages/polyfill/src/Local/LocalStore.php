<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Local;

use ClusterLock\Polyfill\Attempt;
use ClusterLock\Polyfill\Claim;
use ClusterLock\Polyfill\Clock;
use ClusterLock\Polyfill\Dsn;
use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Host;
use ClusterLock\Polyfill\Identity;
use ClusterLock\Polyfill\Lease;
use ClusterLock\Polyfill\LockName;
use ClusterLock\Polyfill\Loss;
use ClusterLock\Polyfill\Mode;
use ClusterLock\Polyfill\Quiet;
use ClusterLock\Polyfill\Redis\Survey;
use ClusterLock\Polyfill\Report;
use ClusterLock\Polyfill\Settings;
use ClusterLock\Polyfill\Store;
use ClusterLock\Polyfill\Text;
use ClusterLock\Polyfill\Trial;

/**
 * Locks on one host, without a server: a directory holds one small file a lock, replaced by rename under the
 * directory's kernel lock (flock(2), held for microseconds), and one named pipe a waiter, in which it sleeps.
 */
final class LocalStore implements Store
{
    /** Where there are no named pipes: how long to sleep between two looks, in seconds. */
    private const NAP = 0.02;

    private readonly Directory $directory;
    private readonly string $label;

    /** @var array<string, resource> this process' waiters, by token */
    private array $pipes = [];

    public function __construct(Dsn $dsn, private readonly Settings $settings)
    {
        $this->label = $dsn->redacted();
        $this->directory = new Directory($dsn->path, $this->label, $settings->commandTimeout);
    }

    public function attempt(Claim $claim, bool $giveUp): Attempt
    {
        $attempt = $this->step($claim->name, function (Machine $machine) use ($claim, $giveUp): Attempt {
            $attempt = $machine->attempt($claim, $giveUp);
            if (!$giveUp && $attempt->fence === null && !$attempt->isCovered) {
                $this->openPipe($claim->token);
            }

            return $attempt;
        });
        if ($giveUp || $attempt->fence !== null || $attempt->isCovered) {
            $this->closePipe($claim->token);
        }

        return $attempt;
    }

    public function awaitGrant(Claim $claim, float $seconds): void
    {
        $pipe = $this->pipes[$claim->token] ?? null;
        if ($pipe === null) {
            Clock::sleep(min(self::NAP, $seconds));

            return;
        }
        // A signal ends it, too; the caller asks again.
        Quiet::try(static function () use ($pipe, $seconds): int|false {
            $readable = [$pipe];
            $writable = $except = null;

            return stream_select($readable, $writable, $except, (int) $seconds, (int) (fmod($seconds, 1.0) * 1e6));
        });
    }

    public function grace(): ?int
    {
        return null;
    }

    public function release(LockName $name, string $token, ?Lease $lease = null): ?Loss
    {
        if (Section::isEntered()) {
            Section::postpone(fn () => $this->release($name, $token));

            return null;
        }
        $loss = $this->step($name, static fn (Machine $machine): ?Loss => $machine->release($token));
        $this->closePipe($token);

        return $loss;
    }

    public function complete(LockName $name, string $token, int $fence): ?Loss
    {
        return $this->step($name, static fn (Machine $machine): ?Loss => $machine->release($token, $fence));
    }

    public function renew(Lease $lease, float $ttl): ?Loss
    {
        return $this->step($lease->name, static fn (Machine $machine): ?Loss => $machine->renew($lease->token, $ttl));
    }

    public function info(LockName $name): ?array
    {
        return $this->directory->locked(
            fn (Moment $now): ?array => $this->read($this->file($name), $now)?->machine->report($name, Report::TOLD)
        );
    }

    public function list(string $prefix, int $limit): array
    {
        // Records are replaced whole, so nobody has to wait while all of them are read.
        $now = $this->directory->locked(static fn (Moment $now): Moment => $now);
        $reports = [];
        foreach ($this->directory->names('.lock') as $file) {
            $bytes = $this->directory->read($file);
            $record = $bytes === null ? null : Record::parse($bytes, $now);
            $name = $record?->name;
            if ($name !== null && str_starts_with($name->bytes, $prefix) && $this->file($name) === $file) {
                $reports[] = $record->machine->report($name, Report::TOLD_OF_EACH);
            }
        }
        $reports = array_filter($reports);
        usort($reports, static fn (array $a, array $b): int => strcmp($a['name'], $b['name']));

        return array_slice($reports, 0, $limit);
    }

    public function break(LockName $name, ?int $meant): bool
    {
        if ($meant !== null) {
            return $this->step($name, static fn (Machine $machine): bool => $machine->break($meant));
        }
        $unreadable = $this->directory->locked(function (Moment $now) use ($name): bool {
            $bytes = $this->directory->read($this->file($name));
            $unreadable = $bytes !== null && Record::parse($bytes, $now) === null;
            if ($unreadable) {
                $this->directory->remove($this->file($name));
            }

            return $unreadable;
        });

        return $unreadable || $this->step($name, static fn (Machine $machine): bool => $machine->break(null));
    }

    public function forget(LockName $name): void
    {
        try {
            $this->directory->locked(fn () => $this->directory->remove($this->file($name)));
        } catch (Failure) {
            // Nothing can be had there, either.
        }
    }

    public function takeTexts(LockName $name): void
    {
        // There are none.
    }

    public function servers(): array
    {
        $error = Trial::of($this, $this->settings->commandTimeout);

        return $error === null ? [] : [array_replace(Survey::NOTHING, ['server' => $this->label, 'error' => $error])];
    }

    public function server(): string
    {
        return $this->label;
    }

    public function status(): array
    {
        return ['version' => null, 'role' => null, 'open' => 0, 'created' => 0, 'discarded' => 0];
    }

    /**
     * One step on a lock: read, change, write.
     *
     * @template T
     *
     * @param callable(Machine): T $step
     *
     * @return T
     */
    private function step(LockName $name, callable $step): mixed
    {
        return $this->directory->locked(function (Moment $now) use ($name, $step): mixed {
            $file = $this->file($name);
            $found = $this->read($file, $now);
            $record = $found ?? Record::fresh($name, $now);
            $machine = $record->machine;
            $result = $step($machine);
            if ($found !== null || !$machine->isIdle()) {
                if ($found === null) {
                    $this->sweep($now);
                }
                $this->directory->write($file, (string) $record);
            }
            foreach ($machine->called as $token) {
                $this->directory->tell($this->pipe($token), "0 0\n");
            }
            foreach ($machine->granted as $token => $fence) {
                // One that is dead does not read it; its grant will run out.
                $this->directory->tell($this->pipe((string) $token), $fence . ' ' . Machine::GRANT . "\n");
            }
            foreach ($machine->covered as $token) {
                $this->directory->tell($this->pipe($token), $machine->run() . " 0\n");
            }
            foreach ($machine->forgotten as $token) {
                $this->directory->remove($this->pipe($token));
            }

            return $result;
        });
    }

    private function read(string $file, Moment $now): ?Record
    {
        $bytes = $this->directory->read($file);
        if ($bytes === null) {
            return null;
        }

        return Record::parse($bytes, $now) ?? throw $this->directory->failed(
            'understand',
            $file,
            'it is not what is written there; cluster_lock_break() clears it'
        );
    }

    /** Removes what idle locks left, when a new lock appears. */
    private function sweep(Moment $now): void
    {
        foreach ($this->directory->oldNames('.lock') as $file) {
            $bytes = $this->directory->read($file);
            if ($bytes !== null && Record::parse($bytes, $now)?->machine->isIdle()) {
                $this->directory->remove($file);
            }
        }
    }

    /** By a digest, because a lock's name may be longer than a file's. */
    private function file(LockName $name): string
    {
        return sha1($this->settings->prefix . "\0" . $name->bytes) . '.lock';
    }

    private function pipe(string $token): string
    {
        return "$token.wait";
    }

    /** Makes the pipe in which a claim will sleep, or empties it: an old grant must not be believed later. */
    private function openPipe(string $token): void
    {
        if (isset($this->pipes[$token])) {
            stream_set_blocking($this->pipes[$token], false);
            fread($this->pipes[$token], 8192);
        } else {
            $pipe = $this->directory->pipe($this->pipe($token));
            if ($pipe !== null) {
                $this->pipes[$token] = $pipe;
            }
        }
    }

    private function closePipe(string $token): void
    {
        if (isset($this->pipes[$token])) {
            fclose($this->pipes[$token]);
            unset($this->pipes[$token]);
            $this->directory->remove($this->pipe($token));
        }
    }
}
