<?php

/**
 * What stands for all of src/ where PHP lacks a function without which nothing works ($missing): every function warns
 * and fails, none throws what it would not throw anyway.
 */

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ClusterLockException;
use Error;

// Under a condition, so that whoever preloads all files (opcache_compile_file()) does not declare these.
if ($missing !== []) {
    abstract class Refusal
    {
        public static string $missing = '';

        /** @param list<mixed> $arguments */
        public static function __callStatic(string $method, array $arguments): mixed
        {
            $why = "cluster_lock: PHP's function " . self::$missing . '() is disabled (disable_functions), and nothing '
                . 'works without it';
            $refused = match ($method) {
                'synchronized', 'construct', 'acquire', 'release', 'refresh', 'isHeld', 'remaining'
                    => throw new ClusterLockException($why),
                'lock', 'unlock', 'coalesced', 'break', 'putContents', 'build', 'flock' => false,
                'list' => [],
                'servers' => [['server' => '', 'error' => $why]],
                'status' => self::status($why),
                // info, fence, clearStatCache, configure, destruct
                default => null,
            };
            if ($method === 'destruct' || $method === 'servers' || $method === 'status' || $method === 'fence') {
                return $refused;
            }
            if (self::$missing !== 'trigger_error') {
                \trigger_error($why, E_USER_WARNING);
            }

            return $refused;
        }

        /** @return array<string, mixed> */
        private static function status(string $why): array
        {
            return [
                'version' => '',
                'backend' => 'none',
                'dsn' => '',
                'server_version' => null,
                'server_role' => null,
                'pool' => ['open' => 0, 'idle' => 0, 'created' => 0, 'discarded' => 0, 'size' => 0],
                'hook' => ['active' => false, 'intercept' => '', 'intercept_exclude' => '', 'flock_mode' => ''],
                'refused' => [$why],
                'held' => [],
                'counters' => [],
            ];
        }
    }

    final class Functions extends Refusal
    {
    }

    final class FileFunctions extends Refusal
    {
    }

    final class Objects extends Refusal
    {
    }

    final class Settings extends Refusal
    {
    }
}
