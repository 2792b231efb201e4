<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ValueError;

/** What the values of settings mean. Each says by a ValueError what is allowed instead. */
final class Value
{
    /** The shortest lease, in seconds. */
    public const MIN_TTL = 0.1;

    /** The longest lease, in seconds: a year. */
    public const MAX_TTL = 31_536_000.0;

    /** A wait in seconds; INF is no limit. */
    public static function limit(string $text): float
    {
        $number = self::number($text);

        return $number !== null && $number >= 0.0
            ? $number
            : throw new ValueError('a number of seconds, 0 or more, or INF is allowed');
    }

    public static function seconds(string $text, float $least, float $most): float
    {
        $number = self::number($text);

        return $number !== null && $number >= $least && $number <= $most
            ? $number
            : throw new ValueError("a number of seconds from $least to $most is allowed");
    }

    public static function switch(string $text): bool
    {
        return match (strtolower($text)) {
            '1', 'on', 'yes', 'true' => true,
            '', '0', 'off', 'no', 'false' => false,
            default => throw new ValueError('1 or 0, on or off, yes or no, true or false are allowed'),
        };
    }

    public static function connections(string $text): int
    {
        return preg_match('/^\d{1,4}$/D', $text) && $text >= 1 && $text <= 1024
            ? (int) $text
            : throw new ValueError('a whole number from 1 to 1024 is allowed');
    }

    public static function oneOf(string $text, string ...$allowed): string
    {
        $words = implode(' or ', array_filter($allowed, static fn (string $word): bool => $word !== ''));

        return in_array($text, $allowed, true) ? $text : throw new ValueError("$words is allowed");
    }

    /** Braces would move the hash tag, globs would make SCAN match other people's keys. */
    public static function prefix(string $text): string
    {
        if (strlen($text) > 128) {
            throw new ValueError('at most 128 bytes are allowed');
        }

        return preg_match('/^[!-~]*$/D', $text) && strpbrk($text, '{}*?[]\\^') === false
            ? $text
            : throw new ValueError('printable ASCII without blanks and without { } [ ] * ? \\ ^ is allowed');
    }

    public static function node(string $text): string
    {
        if ($text === '') {
            return (string) gethostname();
        }

        return strlen($text) <= 255 && !preg_match('/[\x00-\x1f\x7f]/', $text)
            ? $text
            : throw new ValueError('at most 255 bytes without control characters are allowed');
    }

    public static function nothing(string $text): string
    {
        return $text === ''
            ? ''
            : throw new ValueError('only the extension cluster_lock can intercept flock(); empty is allowed');
    }

    private static function number(string $text): ?float
    {
        $isNumber = preg_match('/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/Di', $text) === 1;

        return match (true) {
            $isNumber => (float) $text,
            preg_match('/^\+?inf(inity)?$/Di', $text) === 1 => INF,
            default => null,
        };
    }
}
