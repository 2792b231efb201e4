<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Text;

/** What a server says of itself, for health checks: cluster_lock_servers(). What it may not tell is null. */
final class Survey
{
    public const NOTHING = [
        'server' => '',
        'error' => null,
        'round_trip' => null,
        'clock_ahead' => null,
        'version' => null,
        'role' => null,
        'maxmemory' => null,
        'maxmemory_policy' => null,
        'used_memory' => null,
        'evicted_keys' => null,
        'append_only' => null,
        'replicas' => null,
        'sampled_keys' => null,
        'foreign_keys' => null,
        'grace' => null,
        'grace_left' => null,
    ];

    /** The shortest of so many round trips is told. */
    private const PINGS = 3;

    /** The key in which a server keeps when its grace period is over: no lock has an empty name. */
    public static function born(string $prefix): string
    {
        return $prefix . '{}:born';
    }

    /**
     * @param int|null $grace seconds
     *
     * @return array<string, mixed>
     */
    public static function of(Link $link, string $prefix, float $patience, ?int $grace): array
    {
        $report = ['server' => $link->server] + self::NOTHING;
        $ask = static fn (string ...$words): mixed => $link->call($words, $patience);
        try {
            $report = self::pinged($ask) + $report;
            $report = self::told(self::permitted(static fn () => $ask('INFO'))) + $report;
            $keys = self::permitted(static fn () => $ask('SCAN', '0', 'COUNT', '1000'))[1] ?? null;
            if (is_array($keys)) {
                $foreign = array_filter($keys, static fn (string $key): bool => !str_starts_with($key, $prefix));
                $report = ['sampled_keys' => count($keys), 'foreign_keys' => count($foreign)] + $report;
            }
            if ($grace !== null) {
                $born = self::permitted(static fn () => [$ask('GET', self::born($prefix))]);
                $report = self::stands($born[0] ?? null, $grace, $report['clock_ahead']) + $report;
            }
        } catch (Fault $fault) {
            $report['error'] = $fault->explained();
        } catch (Failure $failure) {
            $report['error'] = $failure->cause($link->server);
        }
        $report['version'] ??= $link->version;
        $report['role'] ??= $link->role;

        return array_replace(self::NOTHING, $report);
    }

    /** @return array{grace: string, grace_left: float|null} how it stands with the grace period */
    private static function stands(mixed $born, int $grace, float $ahead): array
    {
        if (!is_numeric($born)) {
            return ['grace' => 'not begun', 'grace_left' => null];
        }
        $left = max(0.0, min($grace, $born / 1000 - microtime(true) - $ahead));

        return ['grace' => $left > 0.0 ? 'runs' : 'over', 'grace_left' => $left];
    }

    /**
     * @param callable(string...): mixed $ask
     *
     * @return array<string, float>
     */
    private static function pinged(callable $ask): array
    {
        $best = ['round_trip' => INF];
        for ($i = 0; $i < self::PINGS; $i++) {
            [$here, $began] = [microtime(true), hrtime(true)];
            // TIME, because who may lock may ask for it.
            [$seconds, $micros] = $ask('TIME');
            $took = (hrtime(true) - $began) / 1e9;
            if ($took < $best['round_trip']) {
                $there = (int) $seconds + (int) $micros / 1e6;
                $best = ['round_trip' => $took, 'clock_ahead' => $there - $here - $took / 2];
            }
        }

        return $best;
    }

    /** @return array<string, mixed> */
    private static function told(mixed $info): array
    {
        preg_match_all('/^(\w+):(.*?)\r?$/m', is_string($info) ? $info : '', $lines);
        $fields = array_combine($lines[1], $lines[2]);
        $number = static fn (string $field): ?int => is_numeric($fields[$field] ?? null) ? (int) $fields[$field] : null;
        $text = static fn (?string $value): ?string => $value === null ? null : Text::said($value);
        $appendOnly = $number('aof_enabled');

        return array_filter([
            'version' => $text($fields['valkey_version'] ?? $fields['redis_version'] ?? null),
            'role' => $text($fields['role'] ?? null),
            'maxmemory' => $number('maxmemory'),
            'maxmemory_policy' => $text($fields['maxmemory_policy'] ?? null),
            'used_memory' => $number('used_memory'),
            'evicted_keys' => $number('evicted_keys'),
            'append_only' => $appendOnly === null ? null : $appendOnly === 1,
            'replicas' => $number('connected_slaves'),
        ], static fn (mixed $value): bool => $value !== null);
    }

    /** What is not permitted stays unknown. */
    private static function permitted(callable $ask): mixed
    {
        try {
            return $ask();
        } catch (Fault $fault) {
            return $fault->isBroken() ? throw $fault : null;
        }
    }
}
