<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\Assert;

/**
 * The processes of one test and the place where their locks live: a backend, under a prefix of its own.
 */
final class Cluster
{
    private static int $made = 0;

    /** @var array<string, string|int|float>|null */
    private ?array $settings = null;

    private ?Actor $observer = null;

    /** @param callable(): array<string, string|int|float> $makeSettings */
    private function __construct(
        private readonly string $backend,
        private $makeSettings,
        private readonly ?RedisServer $server = null,
    ) {
    }

    /**
     * Both backends of the contract suite: a data provider.
     *
     * @return array<string, array{self}>
     */
    public static function backends(): array
    {
        return ['redis' => [self::redis()], 'local' => [self::local()]];
    }

    /** On the server that all tests share, or on one of the test's own. */
    public static function redis(?RedisServer $server = null): self
    {
        $number = ++self::$made;

        return new self('redis', static fn () => [
            'cluster_lock.dsn' => ($server ?? RedisServer::shared())->dsn(),
            'cluster_lock.prefix' => "t$number:",
        ], $server);
    }

    public static function local(): self
    {
        return new self('local', static fn () => ['cluster_lock.dsn' => 'local://' . TempDir::forTest()]);
    }

    public static function at(string $dsn): self
    {
        return new self('redis', static fn () => ['cluster_lock.dsn' => $dsn]);
    }

    public function isRedis(): bool
    {
        return $this->backend === 'redis';
    }

    /**
     * @param array<string, string|int|float> $more
     *
     * @return array<string, string|int|float>
     */
    public function settings(array $more = []): array
    {
        $this->settings ??= ($this->makeSettings)() + [
            // A loaded test machine is not a broken server.
            'cluster_lock.connect_timeout' => 5,
            'cluster_lock.command_timeout' => 5,
            'cluster_lock.slow_wait' => 0,
        ];

        return $more + $this->settings;
    }

    /**
     * One more process.
     *
     * @param array<string, string|int|float> $settings
     * @param list<string>                    $extensions
     */
    public function actor(array $settings = [], array $extensions = ['posix', 'pcntl']): Actor
    {
        return new Actor($this->settings($settings), $extensions);
    }

    /**
     * @param array<string, string|int|float> $settings
     *
     * @return list<Actor>
     */
    public function actors(int $count, array $settings = []): array
    {
        return array_map(fn () => $this->actor($settings), array_fill(0, $count, 0));
    }

    /**
     * One more process that runs this code to its end.
     *
     * @param array<string, string|int|float> $settings
     * @param list<string>                    $extensions
     */
    public function process(string $code, array $settings = [], array $extensions = ['posix', 'pcntl']): PhpProcess
    {
        return PhpProcess::code($code, $this->settings($settings), $extensions);
    }

    /** A process that only looks. */
    public function observer(): Actor
    {
        return $this->observer ??= $this->actor();
    }

    /** @return array<string, mixed>|null what cluster_lock_info() says in another process */
    public function info(string $name): ?array
    {
        return $this->observer()->call('cluster_lock_info', $name);
    }

    public function waiters(string $name): int
    {
        return count($this->info($name)['waiters'] ?? []);
    }

    public function awaitWaiters(string $name, int $count, float $seconds = Until::PATIENCE): void
    {
        Until::true(
            fn () => $this->waiters($name) === $count,
            fn () => "$count should wait for \"$name\", seen at the end: " . json_encode($this->info($name)),
            $seconds
        );
    }

    public function awaitHolder(string $name, int $pid, float $seconds = Until::PATIENCE): void
    {
        Until::true(
            fn () => in_array($pid, array_column($this->info($name)['holders'] ?? [], 'pid'), true),
            fn () => "$pid should hold \"$name\", seen at the end: " . json_encode($this->info($name)),
            $seconds
        );
    }

    public function assertHeld(string $name, string $why): void
    {
        Assert::assertNotNull($this->info($name), $why . ': cluster_lock_info() says that nobody holds it');
        Assert::assertFalse($this->observer()->call('cluster_lock', $name, 0), $why . ': another process got it');
    }

    /** Free now, at the first try. */
    public function assertFree(string $name, string $why): void
    {
        Assert::assertNull(
            $holders = $this->info($name)['holders'] ?? null,
            $why . ', but it is held by ' . json_encode($holders)
        );
        Assert::assertTrue(
            $this->observer()->call('cluster_lock', $name, 0),
            $why . ', but another process could not get it'
        );
        Assert::assertTrue(
            $this->observer()->call('cluster_unlock', $name),
            $why . ', but the next holder could not unlock'
        );
    }

    /** @return list<string> the names of those that this process has to the server */
    public function connections(int $pid): array
    {
        return array_values(array_filter(
            array_column($this->server()->client()->clients(), 'name'),
            static fn (string $name) => str_ends_with($name, ":$pid")
        ));
    }

    /** It has ended; the server learns of it in its time. */
    public function awaitNoConnectionOf(int $pid): void
    {
        Until::true(fn () => $this->connections($pid) === [], fn () => "$pid should have no connection any more");
    }

    /**
     * When all is over: nothing is held, nobody waits, every key expires by itself, and those who were killed
     * have no connection left. What they left behind may take the 2.2 s in which a hand-off has to be confirmed.
     */
    public function assertClean(Actor|PhpProcess ...$killed): void
    {
        Until::true(
            fn () => $this->leftBehind($killed) === null,
            fn () => 'the dead should leave nothing behind: ' . $this->leftBehind($killed),
            4.0
        );
    }

    private function server(): RedisServer
    {
        return $this->server ?? RedisServer::shared();
    }

    /** @param array<Actor|PhpProcess> $killed */
    private function leftBehind(array $killed): ?string
    {
        $held = $this->observer()->call('cluster_lock_list');
        if ($held !== []) {
            return json_encode($held);
        }
        if (!$this->isRedis()) {
            return null;
        }
        $redis = $this->server()->client();
        foreach ($redis->do('KEYS', $this->settings()['cluster_lock.prefix'] . '*') as $key) {
            // Records of locks, and of runs that are complete, are left for a minute.
            if (!preg_match('/\}(:d)?$/D', $key) || $redis->do('PTTL', $key) === -1) {
                return "the key $key";
            }
        }
        foreach ($killed as $process) {
            foreach ($this->connections($process->pid()) as $name) {
                return "the connection $name";
            }
        }

        return null;
    }
}
