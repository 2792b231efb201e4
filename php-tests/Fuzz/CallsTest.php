<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Fuzz;

use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * Every function and method, with values of every type, in random order: no crash, no panic, no exception
 * that is not documented, no secret told, nothing left behind.
 *
 * FUZZ_SECONDS=600 goes on for that long, FUZZ_SEED=N begins with that seed.
 */
final class CallsTest extends TestCase
{
    private const SECRET = 'qX7kSecretW3z';
    private const CALLS = 600;
    private const SETTINGS = ['dsn', 'prefix', 'timeout', 'ttl', 'auto_renew', 'max_hold', 'connect_timeout',
        'command_timeout', 'pool_size', 'retry_after', 'node', 'path_map', 'intercept', 'intercept_exclude',
        'flock_mode', 'slow_wait', 'report_call', 'durable_writes', 'confirmed_unlocks', 'mount_point_writes', 'dsn'];

    /** What a process without more seeds does: enough for every function many times. */
    private const PROCESSES = 6;

    public function testNoCallDoesWhatItMustNot(): void
    {
        $server = RedisServer::own([], self::SECRET);
        $seed = (int) (getenv('FUZZ_SEED') ?: 1);
        $deadline = Until::now() + (float) (getenv('FUZZ_SECONDS') ?: 0);
        $first = $seed;
        do {
            $this->process($server, $seed++);
        } while ($seed < $first + self::PROCESSES || Until::now() < $deadline);
        if (getenv('FUZZ_SECONDS')) {
            $processes = $seed - $first;
            fwrite(STDERR, sprintf("php: %d calls in %d processes\n", self::CALLS * $processes, $processes));
        }
    }

    private function process(RedisServer $server, int $seed): void
    {
        $dir = TempDir::forTest();
        $fixtures = dirname(__DIR__) . '/fixtures/fuzz';
        $settings = [
            'cluster_lock.dsn' => 'redis+unix://:' . self::SECRET . '@' . $server->socket(),
            'cluster_lock.timeout' => '0.01',
            'cluster_lock.ttl' => '1',
            'memory_limit' => '48M',
            'max_execution_time' => '0',
        ];
        if ($seed % 2 === 1) {
            $settings['cluster_lock.intercept'] = $dir;
            $settings['cluster_lock.flock_mode'] = $seed % 4 === 1 ? 'gate' : 'replace';
        }
        mt_srand($seed);
        $odd = $seed % 3 === 0 ? self::oddSettings() : [];
        $rival = PhpProcess::file("$fixtures/rival.php", $settings, ["$dir/over", (string) $seed, "$dir.signals"]);
        $process = PhpProcess::file("$fixtures/calls.php", $odd + $settings, [$dir, (string) $seed, (string) self::CALLS]);
        Until::true(fn () => !$process->isRunning(), fn () => "$seed hangs: " . file_get_contents("$dir/trace"), 20);
        $process->wait();
        touch("$dir/over");
        self::assertSame(0, $rival->wait(), $rival->transcript());
        // Their pipes go; there may be thousands of them before the test ends.
        $rival->kill();
        $process->kill();
        @unlink("$dir.signals");

        $where = json_encode($odd) . "seed $seed, call " . trim((string) @file_get_contents("$dir/trace"));
        $said = $process->output() . $process->errors();
        self::assertNull($process->endedBy(), "$where: a crash\n" . substr($process->transcript(), -3000));
        self::assertDoesNotMatchRegularExpression('/^finding: /m', $process->output(), $where);
        self::assertDoesNotMatchRegularExpression("/panicked at|thread '|heap corrupted/", $said, $where);
        self::assertStringNotContainsString(self::SECRET, $said, $where);
        self::assertSame([], $this->leftBehind($server), "$where\n" . substr($process->transcript(), -3000));
        self::assertSame([], [...glob("$dir/*.tmp"), ...glob("$dir/.*.tmp")], $where);
        // Without memory, and by an exception that a destructor throws, PHP ends the program before its end.
        $its = '/Fatal error: (Allowed memory size|Uncaught ClusterLock.Tests.Fuzz.Trouble)/';
        if (preg_match($its, $process->errors()) === 0) {
            self::assertStringEndsWith("\nthe end\n", $process->output(), "$where\n" . substr($process->transcript(), -3000));
            self::assertStringNotContainsString('Fatal error', $said, $where);
        }
    }

    /** @return array<string, string> two settings and what should not stand there */
    private static function oddSettings(): array
    {
        $values = ['', '0', '-1', '1e999', '-1e999', 'NAN', 'INF', 'abc', '9999999999999999999', '/', '/a=/b:/c=/',
            'a=b', '@network', '[', '***', ':', '{}', "\xff", '0x10', '1.5', ' 3', '3 s', str_repeat('n', 3000)];
        $dsns = ['redis://u:' . self::SECRET . '@127.0.0.1:1/x',
            'redis://u:' . self::SECRET . '@127.0.0.1:1', 'nope://' . self::SECRET . '@h', 'u:' . self::SECRET . '@h',
            'redis+quorum://u:' . self::SECRET . '@127.0.0.1:1', 'redis+sentinel://u:/' . self::SECRET . '@h/m',
            'rediss://:' . self::SECRET . '@127.0.0.1:1/?ca=/none', 'local:relative', 'local:', ''];
        $settings = [];
        foreach ((array) array_rand(self::SETTINGS, 2) as $i) {
            $of = self::SETTINGS[$i] === 'dsn' ? $dsns : $values;
            $settings['cluster_lock.' . self::SETTINGS[$i]] = $of[mt_rand(0, count($of) - 1)];
        }

        return $settings;
    }

    /** @return list<string> keys of locks that are held, or waited for */
    private function leftBehind(RedisServer $server): array
    {
        $redis = $server->client();
        // One that has run out since it was listed is gone. A waiter's mailbox goes by itself soon: it stays where its lock
        // was broken between the hand-over and the waiter's next question. So does what says which run was the last.
        $held = static fn (string $key): bool => match (true) {
            str_contains($key, '}:m:'), str_ends_with($key, '}:d') => $redis->do('PTTL', $key) === -1,
            default => !str_ends_with($key, '}') || !str_starts_with($redis->do('GET', $key) ?? 'F', 'F'),
        };

        return array_values(array_filter($redis->do('KEYS', '*'), $held));
    }
}
