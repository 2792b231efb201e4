<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use Cluster_Lock\Server_Checks;
use PHPUnit\Framework\TestCase;

final class ServerChecksTest extends TestCase
{
    private const GOOD = [
        'server' => '10.0.0.5:6379', 'error' => null, 'round_trip' => 0.0004, 'version' => '7.0.15', 'role' => 'master',
        'maxmemory' => 0, 'maxmemory_policy' => 'noeviction', 'evicted_keys' => 0, 'sampled_keys' => 100,
        'foreign_keys' => 0,
    ];
    private const DOWN = [
        'server' => '10.0.0.6:6379', 'error' => 'Connection refused', 'round_trip' => null, 'version' => null,
        'role' => null, 'maxmemory' => null, 'maxmemory_policy' => null, 'evicted_keys' => null, 'sampled_keys' => null,
        'foreign_keys' => null,
    ];
    private const REFUSING = ['error' => "ERR unknown command 'EVALSHA'"] + self::GOOD;

    /**
     * @dataProvider servers
     * @param list<array<string, mixed>> $servers
     */
    public function testReachable(string $backend, array $servers, string $status, string $says): void
    {
        $verdict = Server_Checks::reachable(self::status_of($backend), $servers);
        self::assertSame($status, $verdict->status, $verdict->label);
        self::assertStringContainsString($says, $verdict->label . $verdict->description());
    }

    /** @return array<string, array{string, list<array<string, mixed>>, string, string}> */
    public static function servers(): array
    {
        return [
            'one' => ['redis', [self::GOOD], 'good', 'answers within 0.4 ms'],
            'far away' => ['redis', [['round_trip' => 0.05] + self::GOOD], 'recommended', '50 ms'],
            'the slowest counts' => ['quorum', [self::GOOD, ['round_trip' => 0.05] + self::GOOD], 'recommended', '50 ms'],
            'down' => ['redis', [self::DOWN], 'critical', '10.0.0.6:6379: Connection refused'],
            'no scripts' => ['redis', [self::REFUSING], 'critical', 'Locks do not work'],
            'and why' => ['redis', [self::REFUSING], 'critical', 'unknown command &#039;EVALSHA&#039;'],
            'a replica in a quorum' => ['quorum', [self::GOOD, self::REFUSING, self::GOOD], 'recommended', 'majority'],
            'a directory of another user' => ['local', [['server' => 'local:'] + self::DOWN], 'critical', 'Locks do not work'],
            'what was done' => ['redis', [self::GOOD], 'good', 'was taken there'],
            'nothing found' => ['sentinel', [], 'critical', 'cannot be reached'],
            'a minority is down' => ['quorum', [self::GOOD, self::DOWN, self::GOOD], 'recommended', 'majority'],
            'half is down' => ['quorum', [self::GOOD, self::DOWN], 'critical', 'cannot be reached'],
            'a part of a cluster is down' => ['cluster', [self::GOOD, self::DOWN, self::GOOD], 'critical', 'refused'],
            'one machine' => ['local', [], 'good', 'local:'],
            'bad DSN' => ['none', [], 'critical', 'cluster_lock.dsn'],
            'an older extension' => [
                'redis', [['server' => 'redis://h', 'error' => null, 'round_trip' => 0.001, 'version' => null, 'role' => null]],
                'good', 'redis://h: 1 ms',
            ],
        ];
    }

    /**
     * @dataProvider policies
     * @param list<array<string, mixed>>|null $servers
     */
    public function testEviction(string $backend, ?array $servers, string $status, string $says): void
    {
        $verdict = Server_Checks::eviction(self::status_of($backend), $servers);
        self::assertSame($status, $verdict->status, $verdict->label);
        self::assertStringContainsString($says, $verdict->label . $verdict->description());
    }

    /** @return array<string, array{string, list<array<string, mixed>>|null, string, string}> */
    public static function policies(): array
    {
        $lru = ['maxmemory_policy' => 'allkeys-lru', 'maxmemory' => 1000, 'evicted_keys' => 12345] + self::GOOD;

        return [
            'noeviction' => ['redis', [self::GOOD], 'good', 'noeviction'],
            'evicts' => ['redis', [$lru], 'critical', 'allkeys-lru, and noeviction is right'],
            'has evicted' => ['redis', [['maxmemory_policy' => 'noeviction'] + $lru], 'recommended', '12,345 keys'],
            'one of several evicts' => ['quorum', [self::GOOD, $lru], 'critical', 'allkeys-lru'],
            'would evict, if it had a limit' => ['redis', [['maxmemory' => 0] + $lru], 'recommended', 'maxmemory 0'],
            'limit not told' => ['redis', [['maxmemory' => null] + $lru], 'critical', 'allkeys-lru'],
            'not permitted' => ['redis', [['maxmemory_policy' => null] + self::GOOD], 'recommended', '+info'],
            'one is down' => ['quorum', [self::GOOD, self::DOWN], 'recommended', 'did not answer: Connection refused'],
            'an older extension' => ['redis', null, 'recommended', 'a newer one can'],
            'one machine' => ['local', [], 'good', 'kernel'],
        ];
    }

    /**
     * @dataProvider databases
     * @param list<array<string, mixed>>|null $servers
     * @param list<string>                    $caches
     */
    public function testDatabase(string $backend, ?array $servers, array $caches, string $status, string $says): void
    {
        $verdict = Server_Checks::database(self::status_of($backend), $servers, $caches);
        self::assertSame($status, $verdict->status, $verdict->label);
        self::assertStringContainsString($says, $verdict->label . $verdict->description());
    }

    /** @return array<string, array{string, list<array<string, mixed>>|null, list<string>, string, string}> */
    public static function databases(): array
    {
        $foreign = ['foreign_keys' => 7] + self::GOOD;

        return [
            'its own' => ['redis', [self::GOOD], [], 'good', 'No other keys'],
            'cache in another database' => ['redis', [self::GOOD], ['10.0.0.5:6379/1'], 'good', 'of their own'],
            'cache in the same' => ['redis', [self::GOOD], ['10.0.0.5:6379/0'], 'critical', 'Both are in 10.0.0.5:6379/0'],
            'cache in the same, extension too old' => ['redis', null, ['10.0.0.5:6379/0'], 'critical', 'Both'],
            'other keys' => ['redis', [$foreign], [], 'recommended', '10.0.0.5:6379: 7 of 100 keys'],
            'down' => ['redis', [self::DOWN], [], 'recommended', 'unknown'],
            'extension too old' => ['redis', null, [], 'recommended', 'unknown'],
            'one machine' => ['local', [], ['localhost:6379/0'], 'good', 'kernel'],
        ];
    }

    /**
     * The rules of cluster-lock status and doctor.
     *
     * @dataProvider cases
     * @param list<array<string, mixed>>                    $servers
     * @param list<array{string, string, string|null}>      $findings
     * @param array<string, string>                         $health
     */
    public function testTheCommandJudgesInTheSameWay(string $dsn, array $servers, array $findings, array $health): void
    {
        $backend = preg_match('/^\w+\+(cluster|quorum)|^(local)/', $dsn, $found) ? end($found) : 'redis';
        $verdicts = [
            'server' => Server_Checks::reachable(self::status_of($backend), $servers),
            'eviction' => Server_Checks::eviction(self::status_of($backend), $servers),
            'database' => Server_Checks::database(self::status_of($backend), $servers, []),
        ];
        $said = '';
        foreach ($verdicts as $test => $verdict) {
            self::assertSame($health[$test] ?? 'good', $verdict->status, "$test: $verdict->label");
            $said .= html_entity_decode($verdict->description(), ENT_QUOTES);
        }
        foreach ($findings as [$id, , $says]) {
            self::assertStringContainsString((string) $says, $said, $id);
        }
    }

    /** @return iterable<string, array{string, list<array<string, mixed>>, list<array{string, string, string|null}>, array<string, string>}> */
    public static function cases(): iterable
    {
        for ($root = __DIR__; ! is_file("$root/Cargo.lock"); $root = dirname($root)) {
            self::assertNotSame('/', $root);
        }
        $table = json_decode((string) file_get_contents("$root/cli/tests/servers.json"), true, 512, JSON_THROW_ON_ERROR);
        foreach ($table['cases'] as $case) {
            $servers = array_map(
                static fn (array|string $server): array => is_string($server) ? $table[$server] : $server + $table['good'],
                $case['servers']
            );
            yield $case['name'] => [$case['dsn'], $servers, $case['findings'], $case['health']];
        }
    }

    public function testWhatServersSayIsEscaped(): void
    {
        $evil = ['server' => '<script>', 'error' => '<img src=x>'] + self::DOWN;
        $result = Server_Checks::reachable(self::status_of('redis'), [$evil])->result('cluster_lock_server');
        self::assertStringNotContainsString('<script>', $result['description']);
        self::assertStringContainsString('&lt;img src=x&gt;', $result['description']);
    }

    public function testTheResultIsWhatWordPressExpects(): void
    {
        $result = Server_Checks::reachable(self::status_of('redis'), [self::GOOD])->result('cluster_lock_server', '<p>x</p>');
        self::assertSame(['test', 'status', 'label', 'badge', 'description', 'actions'], array_keys($result));
        self::assertSame(['label', 'color'], array_keys($result['badge']));
    }

    /** @return array<string, mixed> */
    private static function status_of(string $backend): array
    {
        return ['backend' => $backend, 'dsn' => 'redis://user:***@10.0.0.5:6379/0'];
    }
}
