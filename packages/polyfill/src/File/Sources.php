<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Quiet;

/**
 * The files that another one is made from, and whether that is newer: as core/src/file/replace/fresh.rs of the extension has
 * it, but in whole seconds, since PHP knows no others. So a build within two seconds of a change is not known to be later.
 */
final class Sources
{
    private const MAX_LINKS = 40;

    /**
     * Seconds that have to lie between a change and the beginning of the build that is said to have it: a write is stamped when
     * it begins, clocks of file systems tick, and two may differ.
     */
    private const SLACK = 1;

    /** Why a file cannot be examined that may be there, as the C libraries word it. */
    private const TROUBLE = '/denied|permitted|too long|error|timed out|stale|not connected|is down|no route/i';

    private const NOT_SEEN = ['mode' => 0040000, 'ctime' => PHP_INT_MIN];

    /** @var array<string, array<string, int>|null> what was found, by path; null: nothing */
    private array $found = [];

    /** @param list<string> $paths absolute ones */
    public function __construct(private readonly array $paths)
    {
    }

    /**
     * Whether the file is there, and certainly newer than everything that its sources have been through. Not if there are none.
     *
     * @throws Failure
     */
    public function areOlderThan(Target $target): bool
    {
        if ($this->paths === []) {
            return false;
        }
        $isNetwork = Mounts::isNetwork((int) (Quiet::try(static fn () => stat($target->directory))['dev'] ?? 0));
        if ($isNetwork) {
            Refresh::path($target->path);
        }
        $made = $target->stat();
        // Later than its last change somebody else's clock has dated it; later than now, the clock has been set back.
        if ($made === null || $made['mtime'] > ($isNetwork ? $made['ctime'] : min($made['ctime'], time())) + self::SLACK) {
            return false;
        }
        $this->found = [];
        foreach ($this->paths as $path) {
            foreach ($this->changes($path) as $change) {
                if ($change['ctime'] + self::SLACK >= $made['mtime']) {
                    return false;
                }
            }
        }

        return true;
    }

    /**
     * Makes this node ask the file server about all of them, as far as PHP can: who opens them from now on reads what has
     * been there at this moment, or is newer.
     *
     * @throws Failure one cannot be examined
     */
    public function refresh(): void
    {
        $this->found = [];
        foreach ($this->paths as $path) {
            $this->changes($path);
        }
    }

    /**
     * What counts for a source: the links on the way to it, and what is at its end; where that is missing, the directory
     * that the way comes to.
     *
     * @return list<array<string, int>>
     */
    private function changes(string $source): array
    {
        $root = $this->look('/', $source) ?? self::NOT_SEEN;
        [$at, $directory, $changes, $ahead] = ['', $root, [], self::names($source)];
        while ($ahead !== []) {
            $name = array_shift($ahead);
            // What is behind has no links in it.
            $at = $name === '..' ? substr($at, 0, (int) strrpos($at, '/')) : "$at/$name";
            $found = $this->look($at === '' ? '/' : $at, $source);
            $type = ($found['mode'] ?? 0) & 0170000;
            if ($type === 0040000) {
                $directory = $found;
            } elseif ($type === 0120000) {
                $changes[] = $found;
                $to = Quiet::try(static fn () => readlink($at));
                if ($to === false) {
                    // Replaced meanwhile: it is looked at again, as if it led to itself.
                    unset($this->found[$at]);
                    $to = basename($at);
                }
                if (count($changes) > self::MAX_LINKS) {
                    throw Failure::file($source, 'cannot be reached: Too many levels of symbolic links');
                }
                [$at, $directory] = str_starts_with($to, '/')
                    ? ['', $root]
                    : [substr($at, 0, (int) strrpos($at, '/')), $directory];
                $ahead = [...self::names($to), ...$ahead];
            } elseif ($found !== null && $ahead === []) {
                return [...$changes, $found];
            } else {
                break;
            }
        }

        if ($directory === self::NOT_SEEN) {
            throw Failure::file($source, 'cannot be reached: ' . Quiet::FORBIDDEN);
        }

        return [...$changes, $directory];
    }

    /** @return array<string, int>|null */
    private function look(string $path, string $source): ?array
    {
        if (!array_key_exists($path, $this->found)) {
            $this->found[$path] = self::ask($path, $source);
        }

        return $this->found[$path];
    }

    /** @return array<string, int>|null */
    private static function ask(string $path, string $source): ?array
    {
        [$found, $why] = self::stat($path);
        if ($why === Quiet::FORBIDDEN) {
            // Of what is above the directories that open_basedir allows.
            return self::NOT_SEEN;
        }
        if ($found === null) {
            // Why, only opening it tells. What is not known to be missing may have changed.
            [, $why] = Quiet::call(static fn () => fopen($path, 'rne'));
            if (preg_match(self::TROUBLE, $why)) {
                throw Failure::file($source, "cannot be reached: $why");
            }

            return null;
        }
        if (Mounts::isNetwork($found['dev'])) {
            match ($found['mode'] & 0170000) {
                0040000 => Refresh::directory($path),
                0100000 => Refresh::file($path),
                default => null,
            };
            [$found] = self::stat($path);
        }

        return $found;
    }

    /** @return array{array<string, int>|null, string} */
    private static function stat(string $path): array
    {
        clearstatcache(true, $path);
        [$stat, $why] = Quiet::call(static fn () => lstat($path));

        return [$stat === false ? null : $stat, $why];
    }

    /** @return list<string> */
    private static function names(string $path): array
    {
        return array_values(array_filter(
            explode('/', $path),
            static fn (string $name): bool => $name !== '' && $name !== '.'
        ));
    }
}
