<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;

/** Processes with the extension and processes with the polyfill, which share their locks. */
final class Sides
{
    /**
     * Data provider: where the locks are, and which client library the polyfill uses.
     *
     * @return array<string, array{Cluster, string}>
     */
    public static function all(): array
    {
        $servers = array_map(static fn (string $client): array => [Cluster::redis(), $client], self::clients());

        return $servers + ['local' => [Cluster::local(), 'phpredis']];
    }

    /** @return array<string, string> those client libraries that are there */
    public static function clients(): array
    {
        $hasPredis = stream_resolve_include_path('Predis/autoload.php') !== false;

        return ['phpredis' => 'phpredis'] + ($hasPredis ? ['predis' => 'predis'] : []);
    }

    /** @param array<string, string|int|float> $settings */
    public static function extension(Cluster $cluster, array $settings = []): Actor
    {
        return self::with('', static fn (): Actor => $cluster->actor($settings));
    }

    /** @param array<string, string|int|float> $settings */
    public static function polyfill(Cluster $cluster, string $client, array $settings = []): Actor
    {
        return self::with($client, static fn (): Actor => $cluster->actor($settings));
    }

    /** @param array<string, string|int|float> $settings */
    public static function process(string $client, string $code, array $settings = []): PhpProcess
    {
        return self::with($client, static fn (): PhpProcess => PhpProcess::code($code, $settings));
    }

    /**
     * Starts something with the polyfill on this client library; '' is the extension.
     *
     * @template T
     *
     * @param callable(): T $start
     *
     * @return T
     */
    public static function with(string $client, callable $start): mixed
    {
        $before = (string) getenv('CLUSTER_LOCK_POLYFILL');
        putenv("CLUSTER_LOCK_POLYFILL=$client");
        try {
            return $start();
        } finally {
            putenv("CLUSTER_LOCK_POLYFILL=$before");
        }
    }
}
