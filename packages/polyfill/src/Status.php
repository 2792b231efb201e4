<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** What cluster_lock_status() tells: the keys of the extension, for this request. */
final class Status
{
    public const VERSION = '1.0.0-polyfill';

    /** @return array<string, mixed> */
    public static function now(): array
    {
        $settings = Settings::now();
        $store = Engine::existing()?->store->status()
            ?? ['version' => null, 'role' => null, 'open' => 0, 'created' => 0, 'discarded' => 0];

        return [
            'version' => self::VERSION,
            'backend' => $settings->backend(),
            'dsn' => $settings->dsnShown(),
            'server_version' => $store['version'],
            'server_role' => $store['role'],
            'pool' => [
                'open' => $store['open'],
                'idle' => $store['open'],
                'created' => $store['created'],
                'discarded' => $store['discarded'],
                'size' => $settings->poolSize,
            ],
            'hook' => [
                'active' => false,
                'intercept' => $settings->intercept,
                'intercept_exclude' => $settings->interceptExclude,
                'flock_mode' => $settings->flockMode,
            ],
            // What is refused is told by a warning in each request.
            'refused' => [],
            'held' => array_map(static fn (Lease $lease): array => [
                'name' => $lease->name->bytes,
                'mode' => $lease->mode->word(),
                'fence' => $lease->fence,
                'remaining' => $lease->remaining(),
            ], Request::leases()),
            'counters' => Counters::all(),
        ];
    }
}
