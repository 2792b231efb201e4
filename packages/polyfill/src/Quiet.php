<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/**
 * Calls whose warnings become part of our own messages, and reach no error handler of others. What somebody else's code
 * warns of that runs meanwhile (a signal's handler, a destructor) is not ours: it is handled as ever.
 */
final class Quiet
{
    public const FORBIDDEN = 'open_basedir restriction in effect';

    /** What this package says itself is for others: another of its functions, which was called meanwhile. */
    private const TRIGGERED = E_USER_ERROR | E_USER_WARNING | E_USER_NOTICE | E_USER_DEPRECATED;

    /**
     * @template T
     *
     * @param callable(): T $work
     * @param string|null   $library the directory of a library that it calls, whose warnings are meant, too
     *
     * @return array{T, string} what it returns, and what it warned of: "" when of nothing
     */
    public static function call(callable $work, ?string $library = null): array
    {
        $warning = '';
        $outer = set_error_handler(
            static function (int $level, string $message, string $file, int $line) use (&$warning, &$outer, $library) {
                if (!self::isOurs($file, $library) || (($level & self::TRIGGERED) !== 0 && self::isOurs($file, null))) {
                    return is_callable($outer) ? $outer($level, $message, $file, $line) : false;
                }
                // The first one says why; the others follow from it.
                $warning = $warning === '' ? $message : $warning;

                return true;
            }
        );
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

    /** Whether it is code of this package, or of that library. */
    public static function isOurs(string $file, ?string $library): bool
    {
        return str_starts_with($file, __DIR__ . '/') || ($library !== null && str_starts_with($file, "$library/"));
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
