<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** Who holds a lock and who waits, as cluster_lock_info() tells. */
final class Report
{
    /** So many holders, and so many waiters, of one lock are told of at most, where one lock is asked about. */
    public const TOLD = 1000;

    /** The same where all locks are. */
    public const TOLD_OF_EACH = 100;

    /**
     * @param list<array{identity: Identity, since: int, fence: int, left: int}> $holders since in µs, left in ms
     * @param list<array{identity: Identity, since: int, mode: Mode}>            $waiters
     * @param int $moreHolders how many are not told of
     *
     * @return array<string, mixed>|null null: nobody holds it
     */
    public static function of(
        LockName $name,
        Mode $mode,
        int $fence,
        array $holders,
        array $waiters,
        int $moreHolders,
        int $moreWaiters
    ): ?array {
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
                'run' => $holder['identity']->run,
            ] + $holder['identity']->call->table(), $holders),
            'waiters' => array_map(static fn (array $waiter): array => [
                'node' => $waiter['identity']->node,
                'pid' => $waiter['identity']->pid,
                'since' => $waiter['since'] / 1e6,
                'mode' => $waiter['mode']->word(),
                'run' => $waiter['identity']->run,
            ] + $waiter['identity']->call->table(), $waiters),
            'more_holders' => $moreHolders,
            'more_waiters' => $moreWaiters,
        ];
    }
}
