<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Security;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;
use RuntimeException;

/**
 * Tenants of one server, each with the README's rights on a prefix of its own.
 */
final class TenantsTest extends TestCase
{
    private RedisServer $server;

    protected function setUp(): void
    {
        parent::setUp();
        $this->server = RedisServer::own();
        $readme = (string) file_get_contents(dirname(__DIR__, 2) . '/README.md');
        self::assertSame(1, preg_match('/ACL SETUSER cluster_lock .*/', $readme, $line), 'The README gives the rights');
        foreach (['a', 'b'] as $tenant) {
            $words = str_replace(
                ['SETUSER cluster_lock', '>PASSWORD', '~cluster_lock:*'],
                ["SETUSER $tenant", ">of-$tenant", "~$tenant:*"],
                $line[0]
            );
            $this->server->client()->do(...preg_split('/\s+/', trim($words)));
        }
    }

    public function testNoNameLeadsToTheLocksOfAnother(): void
    {
        $a = $this->tenant('a');
        $b = $this->tenant('b');
        $names = ['job', 'b:{job}', '}b:{job', '}', '{', 'job}:q', 'job:q', "\0", '../b', "a\r\nDEL b:{job}\r\n",
            '*', '%7D'];
        foreach ($names as $name) {
            self::assertTrue($b->call('cluster_lock', $name, 0), 'Of b');
        }
        foreach ($names as $name) {
            self::assertTrue($a->call('cluster_lock', $name, 0), 'Of a: another lock');
        }
        self::assertCount(count($names), $a->call('cluster_lock_list'), 'a lists its own');
        foreach ($this->server->client()->do('KEYS', '*') as $key) {
            self::assertMatchesRegularExpression('/^[ab]:\{[^{}]+\}$/', $key, 'One key for each lock, in its braces');
        }
        foreach ($names as $name) {
            self::assertTrue($a->call('cluster_lock_break', $name), 'a breaks its own');
            self::assertTrue($b->call('cluster_unlock', $name), 'and nothing of b');
        }
    }

    public function testRightsEndAtThePrefix(): void
    {
        $stray = $this->tenant('a', ['cluster_lock.prefix' => 'b:']);
        $this->tenant('b')->call('cluster_lock', 'job');
        foreach (['cluster_lock', 'cluster_lock_break'] as $function) {
            $warning = $stray->try($function, 'job', ...($function === 'cluster_lock' ? [0] : []))->warning();
            self::assertMatchesRegularExpression('/NOPERM|permission|access/', $warning, 'Refused');
        }
        $client = $this->server->client();
        $client->do('AUTH', 'a', 'of-a');
        $refused = [
            ['GET', 'b:{job}'], ['DEL', 'b:{job}'], ['RPUSH', 'b:{job}:m:x', '1 1'],
            ['EVAL', 'return redis.call("GET", "b:{job}")', '0'],
            ['CONFIG', 'GET', '*'], ['CLIENT', 'LIST'], ['MONITOR'], ['SLOWLOG', 'GET'], ['KEYS', '*'], ['FLUSHALL'],
            ['SCRIPT', 'FLUSH'], ['ACL', 'LIST'], ['PUBLISH', 'x', 'y'], ['SHUTDOWN'],
        ];
        foreach ($refused as $command) {
            try {
                $client->do(...$command);
                self::fail(implode(' ', $command) . ' should be refused');
            } catch (RuntimeException $refusal) {
                $why = $refusal->getMessage();
                self::assertMatchesRegularExpression("/NOPERM|can't access|No permissions/", $why, implode(' ', $command));
            }
        }
        $client->close();
    }

    /** @param array<string, string> $settings */
    private function tenant(string $name, array $settings = []): Actor
    {
        return Cluster::at("redis://$name:of-$name@" . $this->server->address())->actor(
            $settings + ['cluster_lock.prefix' => "$name:"]
        );
    }
}
