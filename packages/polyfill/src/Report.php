<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** Who holds a lock and who waits, as cluster_lock_info() tells. */
final class Report
{
    /**
     * @param list<array{identity: Identity, since: int, fence: int, left: int}> $holders since in µs, left in ms
     * @param list<array{identity: Identity, since: int, mode: Mode}>            $waiters
     *
     * @return array<string, mixed>|null null: nobody holds it
     */
    public static function of(LockName $name, Mode $mode, int $fence, array $holders, array $waiters): ?array
    {
        if ($holders === []) {
            return null;
        }
        usort($holders, static fn (array $a, array $b): int => $a['fence'] <=> $b['fence']);

        return [
            'name' => $name->bytes,
            'mode' => $mode->word(),
            'fence' => $fence,
            'ttl' => max(array_column($holders, 'left')) / 1000,
            'since' => $holders[0]['since'] / 1e6,
            'holders' => array_map(static fn (array $holder): array => [
                'node' => $holder['identity']->node,
                'pid' => $holder['identity']->pid,
                'sapi' => $holder['identity']->sapi,
                'script' => $holder['identity']->script,
                'request_uri' => $holder['identity']->requestUri,
                'since' => $holder['since'] / 1e6,
                'fence' => $holder['fence'],
            ], $holders),
            'waiters' => array_map(static fn (array $waiter): array => [
                'node' => $waiter['identity']->node,
                'pid' => $waiter['identity']->pid,
                'since' => $waiter['since'] / 1e6,
                'mode' => $waiter['mode']->word(),
            ], $waiters),
        ];
    }
}
