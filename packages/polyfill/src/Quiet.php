<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** Calls whose warnings become part of our own messages, and reach no error handler of others. */
final class Quiet
{
    public const FORBIDDEN = 'open_basedir restriction in effect';

    /**
     * @template T
     *
     * @param callable(): T $work
     *
     * @return array{T, string} what it returns, and what it warned of: "" when of nothing
     */
    public static function call(callable $work): array
    {
        $warning = '';
        set_error_handler(static function (int $level, string $message) use (&$warning): bool {
            // The first one says why; the others follow from it.
            $warning = $warning === '' ? $message : $warning;

            return true;
        });
        try {
            return [$work(), self::reason($warning)];
        } finally {
            restore_error_handler();
        }
    }

    /**
     * Of a call whose failure is no news.
     *
     * @template T
     *
     * @param callable(): T $work
     *
     * @return T
     */
    public static function try(callable $work): mixed
    {
        return self::call($work)[0];
    }

    /** `fopen(/x): Failed to open stream: Permission denied` says behind its last colon what went wrong. */
    private static function reason(string &$warning): string
    {
        if (str_contains($warning, self::FORBIDDEN)) {
            return self::FORBIDDEN;
        }
        $colon = strrpos($warning, ': ');

        return Text::said($colon === false ? $warning : substr($warning, $colon + 2));
    }
}
