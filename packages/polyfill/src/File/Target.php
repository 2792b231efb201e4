<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Host;
use ClusterLock\Polyfill\Quiet;
use ClusterLock\Polyfill\Text;

/** The file a path leads to: symbolic links followed. It need not exist. */
final class Target
{
    private const MAX_LINKS = 40;
    private const LOOP = 'cannot be reached: Too many levels of symbolic links';

    private function __construct(
        /** The real one. */
        public readonly string $path,
        public readonly string $directory,
        public readonly string $name,
    ) {
    }

    /** @throws Failure it leads nowhere, or to something that must not be replaced or followed */
    public static function resolve(string $typed): self
    {
        $path = $typed;
        for ($links = 0; $links <= self::MAX_LINKS; $links++) {
            $target = self::at($path, $typed);
            clearstatcache(true, $target->path);
            [$stat, $why] = Quiet::call(static fn () => lstat($target->path));
            if ($why === Quiet::FORBIDDEN) {
                throw Failure::file($typed, "cannot be reached: $why");
            }
            if ($stat === false || ($stat['mode'] & 0170000) !== 0120000) {
                $what = $stat === false ? null : self::notReplaceable($stat['mode']);

                return $what === null ? $target : throw Failure::file($typed, $what);
            }
            if (!self::mayFollow($stat, (array) Quiet::try(static fn () => stat($target->directory)))) {
                throw Failure::file($typed, 'is a symbolic link that another user has put into a directory that '
                    . 'everybody may write to, so it is not followed');
            }
            $leadsTo = Quiet::try(static fn () => readlink($target->path));
            if ($leadsTo === false) {
                throw Failure::file($typed, 'cannot be reached: the symbolic link cannot be read');
            }
            $path = str_starts_with($leadsTo, '/') ? $leadsTo : "{$target->directory}/$leadsTo";
        }

        throw Failure::file($typed, self::LOOP);
    }

    /** The status of the existing file; null: there is none. */
    public function stat(): ?array
    {
        clearstatcache(true, $this->path);
        $stat = Quiet::try(fn () => lstat($this->path));
        $what = $stat === false ? null : self::notReplaceable($stat['mode']);
        if ($what !== null) {
            throw Failure::file($this->path, $what);
        }

        return $stat === false ? null : $stat;
    }

    public function failed(string $step, string $reason): Failure
    {
        return Failure::file($this->path, $reason === '' ? $step : "$step: $reason");
    }

    private static function at(string $path, string $typed): self
    {
        $slash = strrpos($path, '/');
        [$parent, $name] = [substr($path, 0, $slash + 1), substr($path, $slash + 1)];
        if (in_array($name, ['', '.', '..'], true)) {
            throw Failure::file($typed, 'is a directory');
        }
        clearstatcache(true, $parent);
        $directory = Quiet::try(static fn () => realpath($parent));
        if ($directory === false) {
            // Why not, opening it tells.
            [, $why] = Quiet::call(static fn () => opendir($parent));
            $shown = Text::path($parent);
            throw Failure::file($typed, "its directory $shown cannot be reached: $why");
        }
        if (!is_dir($directory)) {
            throw Failure::file($typed, 'its directory ' . Text::path($parent) . ' cannot be reached: Not a directory');
        }

        return new self(rtrim($directory, '/') . "/$name", $directory, $name);
    }

    /**
     * What fs.protected_symlinks says, also where the kernel has it switched off.
     *
     * @param array<string, int> $link
     * @param array<string, int> $directory
     */
    private static function mayFollow(array $link, array $directory): bool
    {
        $shared = 01002; // sticky, and writable for everybody

        return (($directory['mode'] ?? 0) & $shared) !== $shared
            || $link['uid'] === Host::user()
            || $link['uid'] === ($directory['uid'] ?? null);
    }

    /** Only regular files are replaced: a device turned into a file would be a disaster. */
    private static function notReplaceable(int $mode): ?string
    {
        $what = match ($mode & 0170000) {
            0100000 => null,
            0040000 => 'is a directory',
            0120000 => 'has become a symbolic link meanwhile',
            0010000 => 'is a FIFO',
            0140000 => 'is a socket',
            0020000, 0060000 => 'is a device',
            default => 'is a special file',
        };
        $isSpecial = !in_array($mode & 0170000, [0100000, 0040000, 0120000], true);

        return $isSpecial ? "$what: only a regular file can be replaced" : $what;
    }
}
