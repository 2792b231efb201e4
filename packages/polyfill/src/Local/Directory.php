<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Local;

use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Host;
use ClusterLock\Polyfill\Quiet;
use ClusterLock\Polyfill\Text;

/**
 * The directory of a host's locks. It must belong to the user of this process, and nobody else may be able to write
 * to it: the default one is in /tmp, where everybody may make another when it is gone.
 */
final class Directory
{
    /** How long an idle lock remembers its last fencing token, in seconds. */
    private const RETAIN = 60;

    /** How often flock() is called before its failure is believed. */
    private const TRIES = 1000;

    private readonly string $path;

    /** @param string $path '' for the default one */
    public function __construct(string $path, private readonly string $label)
    {
        $this->path = $path !== '' ? rtrim($path, '/') : sys_get_temp_dir() . '/cluster_lock-' . Host::user();
    }

    /**
     * Runs a step while nobody else does.
     *
     * @template T
     *
     * @param callable(Moment): T $step
     *
     * @return T
     *
     * @throws Failure
     */
    public function locked(callable $step): mixed
    {
        $file = $this->open() ?? $this->open() ?? throw $this->failed('open', 'lock', 'it has been removed');
        try {
            // A signal ends flock(), too.
            for ($tries = 1; !flock($file, LOCK_EX); $tries++) {
                if ($tries === self::TRIES) {
                    throw $this->failed('lock', 'lock', 'flock() failed');
                }
            }

            return $step(Moment::now());
        } finally {
            fclose($file);
        }
    }

    /** Null: there is no such file. */
    public function read(string $name): ?string
    {
        $path = "{$this->path}/$name";
        [$bytes, $why] = Quiet::call(static fn (): string|false => file_get_contents($path));

        return match (true) {
            $bytes !== false => $bytes,
            !file_exists($path) => null,
            default => throw $this->failed('read', $name, $why),
        };
    }

    /** The old content or the new one, never a part of either. */
    public function write(string $name, string $bytes): void
    {
        [$done, $why] = Quiet::call(fn (): bool => self::privately(
            fn (): bool => file_put_contents("{$this->path}/new", $bytes) === strlen($bytes)
        ) && rename("{$this->path}/new", "{$this->path}/$name"));
        if (!$done) {
            throw $this->failed('write', $name, $why);
        }
    }

    public function remove(string $name): void
    {
        Quiet::try(fn () => unlink("{$this->path}/$name"));
    }

    /** @return list<string> */
    public function names(string $suffix): array
    {
        $names = Quiet::try(fn () => scandir($this->path, SCANDIR_SORT_NONE)) ?: [];

        return array_values(array_filter($names, static fn (string $name): bool => str_ends_with($name, $suffix)));
    }

    /**
     * Once a minute, because whoever looks lets all others wait, and nothing becomes old earlier; else none.
     *
     * @return list<string> of those that nobody has written to for a while
     */
    public function oldNames(string $suffix): array
    {
        clearstatcache();
        if ($this->isYoung('swept')) {
            return [];
        }
        Quiet::try(fn () => self::privately(fn () => touch("{$this->path}/swept")));

        return array_values(array_filter($this->names($suffix), fn (string $name): bool => !$this->isYoung($name)));
    }

    /** @return resource|null a new named pipe, open; null: this PHP cannot make one */
    public function pipe(string $name)
    {
        if (!function_exists('posix_mkfifo')) {
            return null;
        }
        // For both directions, so that it has a reader before it has a writer.
        $path = "{$this->path}/$name";

        return Quiet::try(static fn () => posix_mkfifo($path, 0600) ? fopen($path, 'r+n') : null) ?: null;
    }

    /** Writes a line into a pipe, if it is there. */
    public function tell(string $name, string $line): void
    {
        $pipe = Quiet::try(fn () => fopen("{$this->path}/$name", 'r+n'));
        if ($pipe !== false) {
            Quiet::try(static fn () => fwrite($pipe, $line));
            fclose($pipe);
        }
    }

    public function failed(string $what, string $name, string $why): Failure
    {
        $path = Text::path($name === '' ? $this->path : "{$this->path}/$name");

        return Failure::connection($this->label, "cannot $what $path: $why");
    }

    /** @return resource|null the file that stands for the directory's lock; null: it was removed this instant */
    private function open()
    {
        clearstatcache(true, $this->path);
        $stat = Quiet::try(fn () => lstat($this->path));
        if ($stat === false) {
            [$made, $why] = Quiet::call(fn (): bool => mkdir($this->path, 0700, true));
            clearstatcache(true, $this->path);
            $stat = Quiet::try(fn () => lstat($this->path));
            if ($stat === false) {
                throw $this->failed('create', '', $made ? 'it has been removed' : $why);
            }
        }
        $isDirectory = ($stat['mode'] & 0170000) === 0040000;
        if (!$isDirectory || $stat['uid'] !== Host::user() || ($stat['mode'] & 0022) !== 0) {
            throw Failure::config(
                "{$this->label}: " . Text::path($this->path) . ' must be a directory that belongs to the user of this '
                . 'process and that nobody else can write to'
            );
        }
        [$file, $why] = Quiet::call(fn () => self::privately(fn () => fopen("{$this->path}/lock", 'c+e')));
        if ($file === false && is_dir($this->path)) {
            throw $this->failed('open', 'lock', $why);
        }

        return $file === false ? null : $file;
    }

    private function isYoung(string $name): bool
    {
        return time() - (int) Quiet::try(fn () => filemtime("{$this->path}/$name")) <= self::RETAIN;
    }

    /** What is made is the user's own. */
    private static function privately(callable $make): mixed
    {
        $mask = umask(0077);
        try {
            return $make();
        } finally {
            umask($mask);
        }
    }
}
