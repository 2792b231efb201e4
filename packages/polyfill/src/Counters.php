<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** What this request has done so far: cluster_lock_status(). */
final class Counters
{
    /** @var array<string, int|float> */
    private static array $counts = [
        'acquired' => 0,
        'contended' => 0,
        'timed_out' => 0,
        'lost' => 0,
        'errors' => 0,
        'wait_total' => 0.0,
        'wait_max' => 0.0,
        'renewals' => 0,
        'runs' => 0,
        'runs_failed' => 0,
        'covered' => 0,
        'writes' => 0,
        'flocks' => 0,
        'intercepted' => 0,
    ];

    public static function add(string $counter): void
    {
        self::$counts[$counter]++;
    }

    public static function waited(float $seconds): void
    {
        self::$counts['contended']++;
        self::$counts['wait_total'] += $seconds;
        self::$counts['wait_max'] = max(self::$counts['wait_max'], $seconds);
    }

    /** @return array<string, int|float> */
    public static function all(): array
    {
        return self::$counts;
    }
}
