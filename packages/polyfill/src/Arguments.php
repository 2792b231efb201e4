<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use Closure;
use TypeError;
use ValueError;

/** Checks of arguments, with the errors of PHP's own functions. */
final class Arguments
{
    public static function name(string $function, int $number, string $name, string $parameter = 'name'): LockName
    {
        try {
            return new LockName($name);
        } catch (ValueError $error) {
            throw self::error($function, $number, $parameter, $error->getMessage());
        }
    }

    /** A wait in seconds; null is the setting. */
    public static function timeout(string $function, int $number, ?float $timeout): float
    {
        if ($timeout !== null && !($timeout >= 0.0)) {
            throw self::error($function, $number, 'timeout', 'must be greater than or equal to 0');
        }

        return $timeout ?? Settings::now()->timeout;
    }

    /** A lease in seconds; null stays null. */
    public static function ttl(string $function, int $number, ?float $ttl): ?float
    {
        if ($ttl !== null && !($ttl >= Value::MIN_TTL && $ttl <= Value::MAX_TTL)) {
            $range = sprintf('must be between %s and %d seconds', Value::MIN_TTL, Value::MAX_TTL);
            throw self::error($function, $number, 'ttl', $range);
        }

        return $ttl;
    }

    /** @return array{Mode, bool} and whether not to wait */
    public static function mode(string $function, int $number, int $mode, bool $mayNotWait): array
    {
        $atOnce = $mayNotWait && ($mode & LOCK_NB) !== 0;

        return match ($atOnce ? $mode & ~LOCK_NB : $mode) {
            LOCK_EX => [Mode::Exclusive, $atOnce],
            LOCK_SH => [Mode::Shared, $atOnce],
            default => throw self::error(
                $function,
                $number,
                'mode',
                'must be LOCK_EX or LOCK_SH' . ($mayNotWait ? ', optionally with LOCK_NB' : '')
            ),
        };
    }

    /** By itself, or in the scope of the code that has called the function which calls this one's caller. */
    public static function callable(
        string $function,
        int $number,
        mixed $callback,
        string $parameter = 'callback'
    ): callable
    {
        if (is_callable($callback)) {
            return $callback;
        }
        $scope = debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, 4)[3]['class'] ?? null;
        try {
            $make = static fn (): Closure => Closure::fromCallable($callback);

            return ($scope === null ? $make : Closure::bind($make, null, $scope))();
        } catch (TypeError $error) {
            $why = substr($error->getMessage(), strlen('Failed to create closure from callable: '));
            $message = "$function(): Argument #$number (\$$parameter) must be a valid callback, $why";

            throw Raise::here(new TypeError($message));
        }
    }

    public static function path(string $function, int $number, string $path, string $parameter = 'filename'): string
    {
        return !str_contains($path, "\0")
            ? $path
            : throw self::error($function, $number, $parameter, 'must not contain any null bytes');
    }

    /**
     * Paths as PHP's functions take them. To convert an object runs code of the user.
     *
     * @param array<mixed> $paths
     *
     * @return list<string>
     */
    public static function paths(string $function, int $number, array $paths, string $parameter): array
    {
        $texts = [];
        foreach ($paths as $path) {
            if (!is_string($path) && !is_object($path)) {
                $type = get_debug_type($path);
                $message = "$function(): Argument #$number (\$$parameter) must contain only paths, $type given";

                throw Raise::here(new TypeError($message));
            }
            $text = (string) $path;
            if ($text === '') {
                throw self::error($function, $number, $parameter, 'must not contain an empty path');
            }
            $texts[] = self::path($function, $number, $text, $parameter);
        }

        return $texts;
    }

    public static function error(string $function, int $number, string $parameter, string $message): ValueError
    {
        return Raise::here(new ValueError("$function(): Argument #$number (\$$parameter) $message"));
    }
}
