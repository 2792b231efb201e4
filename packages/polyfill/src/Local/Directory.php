<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Local;

use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Host;
use ClusterLock\Polyfill\Quiet;
use ClusterLock\Polyfill\Text;
use FilesystemIterator;
use UnexpectedValueException;

/**
 * The directory of a host's locks. It must belong to the user of this process, and nobody else may be able to write
 * to it: the default one is in /tmp, where everybody may make another when it is gone.
 */
final class Directory
{
    /** How long an idle lock remembers its last fencing token, in seconds. */
    private const RETAIN = 60;

    /** For how long it is looked through at most, in ns, since all others wait meanwhile. */
    private const GLANCE = 20_000_000;

    private readonly string $path;
    private readonly int $user;

    /**
     * @param string $path     '' for the default one, which no setting of PHP's moves: the extension and the command
     *                         line have settings of their own
     * @param float  $patience how long to wait for those who are at work in it, in seconds
     *
     * @throws Failure
     */
    public function __construct(string $path, private readonly string $label, private readonly float $patience)
    {
        $this->user = Host::user() ?? throw Failure::config(
            "$label: PHP cannot tell which user it runs as, whose locks these are: it needs posix_geteuid() or "
            . 'stream_socket_pair(), which disable_functions takes away, or to see /proc, which open_basedir hides'
        );
        $this->path = $path !== '' ? rtrim($path, '/') : "/tmp/cluster_lock-{$this->user}";
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
        if (Section::isEntered()) {
            throw $this->failed('lock', 'lock', 'this call comes out of another one that is at work there');
        }
        $file = $this->open() ?? $this->open() ?? throw $this->failed('open', 'lock', 'it has been removed');

        return Section::run(
            $file,
            $this->patience,
            $step,
            fn (string $why): Failure => $this->failed('lock', 'lock', $why)
        );
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

    /** The old content or the new one, never a part of either. Inside the section only. */
    public function write(string $name, string $bytes): void
    {
        [$new, $path] = ["{$this->path}/new", "{$this->path}/$name"];
        [$done, $why] = Quiet::call(
            static fn (): bool => file_put_contents($new, $bytes) === strlen($bytes) && rename($new, $path)
        );
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
        $names = [];
        try {
            foreach (new FilesystemIterator($this->path, FilesystemIterator::KEY_AS_FILENAME) as $name => $file) {
                if (str_ends_with($name, $suffix)) {
                    $names[] = $name;
                }
            }
        } catch (UnexpectedValueException) {
            // There is none, or no more than these.
        }

        return $names;
    }

    /**
     * Once a minute, because whoever looks lets all others wait, and nothing becomes old earlier; else none. When there
     * are many, some of them. Inside the section only.
     *
     * @return iterable<string> of those that nobody has written to for a while
     */
    public function oldNames(string $suffix): iterable
    {
        clearstatcache();
        if ($this->isYoung('swept')) {
            return;
        }
        Quiet::try(fn () => touch("{$this->path}/swept"));
        $names = $this->names($suffix);
        shuffle($names);
        $began = hrtime(true);
        foreach ($names as $name) {
            if (!$this->isYoung($name)) {
                yield $name;
            }
            if (hrtime(true) - $began > self::GLANCE) {
                return;
            }
        }
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
        clearstatcache();
        $stat = Quiet::try(fn () => lstat($this->path));
        if ($stat === false) {
            [$made, $why] = Quiet::call(fn (): bool => mkdir($this->path, 0700, true));
            clearstatcache();
            $stat = Quiet::try(fn () => lstat($this->path));
            if ($stat === false) {
                throw $this->failed('create', '', $made ? 'it has been removed' : $why . $this->hint($why));
            }
        }
        $isDirectory = ($stat['mode'] & 0170000) === 0040000;
        if (!$isDirectory || $stat['uid'] !== $this->user || ($stat['mode'] & 0022) !== 0) {
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

    private function hint(string $why): string
    {
        return $why === Quiet::FORBIDDEN
            ? ': name a directory that this PHP may use (cluster_lock.dsn = local:///dir), the same for all'
            : '';
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
