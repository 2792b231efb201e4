<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Identity;
use ClusterLock\Polyfill\LockName;
use ClusterLock\Polyfill\Mode;
use ClusterLock\Polyfill\Report;
use ClusterLock\Polyfill\Store;

/**
 * What inspect.lua returns, read: the records are laid out in common.lua. On a server of a quorum an identity comes behind
 * the number of an attempt.
 */
final class Record
{
    private const STATE = '/^([XS]). \S{32} (\d+) (\d+) (\d+) (\d+)[ !]\S{32} (?:\d+ )?(.*)$/sD';

    /**
     * @return array<string, mixed>|null null: nobody holds it
     *
     * @throws Fault what stands there is no lock's
     */
    public static function report(LockName $name, mixed $reply): ?array
    {
        if (!is_array($reply) || count($reply) !== 7) {
            throw self::notALock();
        }
        [$now, $state, $expiries, $records, $moreReaders, $waiting, $moreWaiting] = $reply;
        if ($state === '' || preg_match('/^F[*+Oo-][ !]\S{32} \d+/', $state)) {
            return null;
        }
        if (!preg_match(self::STATE, $state, $field)) {
            throw self::notALock();
        }
        [, $mode, $fence, $since, $start, $lease, $identity] = $field;
        $begun = intdiv((int) $start, 1000);
        // Later than now when the server's clock was set back: by so much common.lua will shorten what is left.
        $seen = max($now, $begun);
        $moreHolders = 0;
        if ($mode === 'X') {
            $left = $begun + (int) $lease - $seen;
            $holders = $left <= 0 ? [] : [[
                'identity' => Identity::decode($identity),
                'since' => (int) $since,
                'fence' => (int) $fence,
                'left' => $left,
            ]];
        } else {
            $holders = self::readers($seen, $expiries, $records);
            // Those who are not told of ran out before those who are.
            $moreHolders = $expiries === [] || min(array_map('intval', $expiries)) > $seen ? $moreReaders : 0;
        }

        return Report::of(
            $name,
            Mode::from($mode),
            (int) $fence,
            $holders,
            self::waiters($now, $waiting),
            $moreHolders,
            $moreWaiting
        );
    }

    /**
     * @param list<string>      $expiries
     * @param list<string|null> $records
     *
     * @return list<array{identity: Identity, since: int, fence: int, left: int}>
     */
    private static function readers(int $now, array $expiries, array $records): array
    {
        $holders = [];
        foreach ($expiries as $i => $expiry) {
            $left = (int) $expiry - $now;
            if ($left > 0 && preg_match('/^(\d+) (\d+) (?:\d+ )?(.*)$/sD', (string) ($records[$i] ?? ''), $field)) {
                $holders[] = [
                    'identity' => Identity::decode($field[3]),
                    'since' => (int) $field[2],
                    'fence' => (int) $field[1],
                    'left' => $left,
                ];
            }
        }

        return $holders;
    }

    /**
     * @param list<string|null> $records
     *
     * @return list<array{identity: Identity, since: int, mode: Mode}>
     */
    private static function waiters(int $now, array $records): array
    {
        $waiters = [];
        foreach ($records as $record) {
            // The first is until when it lives; when that is too far ahead, it is by another clock. Without a 0 before it, of
            // version 0.1: when it was heard of.
            $isKnown = preg_match('/^(\d+) ([XSOxso]) (\d+) (?:\d+ )?(.*)$/sD', (string) $record, $field) === 1;
            $left = $isKnown ? (int) $field[1] + ($field[1][0] === '0' ? 0 : 1800) - $now : -1;
            if ($left >= 0 && $left <= Store::FAR + Store::SLACK_MOST) {
                $waiters[] = [
                    'identity' => Identity::decode($field[4]),
                    // A place is the moment of arrival.
                    'since' => (int) $field[3],
                    'mode' => strtoupper($field[2]) === 'S' ? Mode::Shared : Mode::Exclusive,
                ];
            }
        }

        return $waiters;
    }

    private static function notALock(): Fault
    {
        return Fault::refused('NOTALOCK the record of this lock cannot be read');
    }
}
