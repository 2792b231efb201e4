<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ValueError;

/** Local path prefixes and the names that all nodes share for them (path_map). */
final class PathMap
{
    /** @param list<array{string, string}> $entries */
    private function __construct(private array $entries)
    {
        // The longest local prefix wins, wherever it stands in the setting.
        usort($this->entries, static fn (array $a, array $b): int => strlen($b[0]) <=> strlen($a[0]));
    }

    /** @throws ValueError naming the entry that is not /local=/shared with absolute paths */
    public static function parse(string $text): self
    {
        $entries = [];
        foreach (array_filter(array_map('trim', explode(':', $text)), static fn ($e) => $e !== '') as $entry) {
            [$local, $shared] = explode('=', $entry, 2) + [1 => ''];
            if (!str_starts_with($local, '/') || !str_starts_with($shared, '/')) {
                $form = 'is not of the form /local/prefix=/shared/name (both absolute)';
                throw new ValueError('"' . Text::said($entry) . "\" $form");
            }
            $entries[] = [self::trimmed($local), self::trimmed($shared)];
        }

        return new self($entries);
    }

    /** The same, and also for the places that symbolic links in the local prefixes lead to now. */
    public function resolved(): self
    {
        $entries = $this->entries;
        foreach ($this->entries as [$local, $shared]) {
            $real = Quiet::try(static fn () => realpath($local));
            if ($real !== false && $real !== $local) {
                $entries[] = [$real, $shared];
            }
        }

        return new self($entries);
    }

    /** The shared name of a local path; the path itself where no prefix matches. */
    public function apply(string $path): string
    {
        foreach ($this->entries as [$local, $shared]) {
            $rest = $local === '/' ? ltrim($path, '/') : substr($path, strlen($local) + 1);
            if ($path === $local) {
                return $shared;
            }
            if ($local === '/' || str_starts_with($path, "$local/")) {
                return rtrim($shared, '/') . '/' . $rest;
            }
        }

        return $path;
    }

    private static function trimmed(string $path): string
    {
        return rtrim($path, '/') === '' ? '/' : rtrim($path, '/');
    }
}
