<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use RuntimeException;

/**
 * Three sentinels that watch over a primary and its replica, for one test.
 */
final class Sentinels
{
    private const NAME = 'locks';

    /** After so many milliseconds a primary that does not answer is taken for dead. */
    private const DOWN_AFTER = 1000;

    /** @var array<int, RedisClient> by port */
    private array $clients = [];

    private function __construct(public readonly RedisServer $primary, public readonly RedisServer $replica)
    {
    }

    public static function start(): self
    {
        $primary = RedisServer::own(['repl-diskless-sync-delay' => '0']);
        $replica = RedisServer::own(['replicaof' => "127.0.0.1 {$primary->port}"]);
        $sentinels = new self($primary, $replica);
        for ($i = 0; $i < 3; $i++) {
            $sentinels->add();
        }
        foreach ($sentinels->clients as $client) {
            Until::true(
                static function () use ($client): bool {
                    try {
                        $words = $client->do('SENTINEL', 'MASTER', self::NAME);
                    } catch (RuntimeException) {
                        return false;
                    }
                    $values = array_column(array_chunk($words, 2), 1, 0);

                    return $values['num-other-sentinels'] === '2' && $values['num-slaves'] === '1';
                },
                'The sentinels should know each other and the replica'
            );
        }

        return $sentinels;
    }

    public function dsn(): string
    {
        $hosts = array_map(static fn (int $port) => "127.0.0.1:$port", array_keys($this->clients));

        return 'redis+sentinel://' . implode(',', $hosts) . '/' . self::NAME;
    }

    /** Waits until a sentinel names the replica as the primary. */
    public function awaitSwitch(): void
    {
        Until::true(
            function (): bool {
                foreach ($this->clients as $client) {
                    [, $port] = $client->do('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', self::NAME);
                    if ((int) $port === $this->replica->port) {
                        return true;
                    }
                }

                return false;
            },
            'The replica should become the primary',
            30
        );
    }

    private function add(): void
    {
        $dir = TempDir::forTest();
        $port = RedisServer::freePort();
        file_put_contents("$dir/sentinel.conf", implode("\n", [
            "port $port",
            'bind 127.0.0.1',
            "dir $dir",
            "unixsocket $dir/sentinel.sock",
            'sentinel monitor ' . self::NAME . " 127.0.0.1 {$this->primary->port} 2",
            'sentinel down-after-milliseconds ' . self::NAME . ' ' . self::DOWN_AFTER,
            'sentinel failover-timeout ' . self::NAME . ' 2000',
        ]));
        $null = ['file', '/dev/null', 'r+'];
        $command = Php::mortal(['redis-server', "$dir/sentinel.conf", '--sentinel']);
        $process = proc_open($command, [$null, $null, $null], $pipes);
        if (!$process) {
            throw new RuntimeException('Cannot start a sentinel');
        }
        $client = $this->clients[$port] = new RedisClient("$dir/sentinel.sock");
        Cleanup::afterTest(static function () use ($client, $process): void {
            $client->close();
            posix_kill(proc_get_status($process)['pid'], SIGKILL);
            proc_close($process);
        });
    }
}
