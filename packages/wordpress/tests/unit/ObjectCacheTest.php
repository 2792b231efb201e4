<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use Cluster_Lock\Object_Cache;
use PHPUnit\Framework\TestCase;

final class ObjectCacheTest extends TestCase
{
    /**
     * @dataProvider configurations
     * @param array<string, mixed> $constants
     * @param array<string, mixed> $global
     * @param list<string>         $endpoints
     */
    public function testDropIns(array $constants, array $global, array $endpoints): void
    {
        self::assertSame($endpoints, Object_Cache::endpoints($constants, $global));
    }

    /** @return array<string, array{array<string, mixed>, array<string, mixed>, list<string>}> */
    public static function configurations(): array
    {
        return [
            'all defaults' => [[], [], ['localhost:6379/0']],
            'Redis Object Cache' => [
                ['HOST' => 'Redis.Example', 'PORT' => '6380', 'DATABASE' => '2'], [], ['redis.example:6380/2'],
            ],
            'Redis Object Cache, socket' => [
                ['SCHEME' => 'unix', 'PATH' => '/run/redis.sock', 'DATABASE' => 1], [], ['/run/redis.sock/1'],
            ],
            'Redis Object Cache, a path that is not used' => [
                ['SCHEME' => 'tcp', 'HOST' => 'h', 'PATH' => '/run/redis.sock'], [], ['h:6379/0'],
            ],
            'Redis Object Cache, several' => [
                ['SERVERS' => ['tcp://a:1?database=5&alias=x', 'tcp://b', 'c:7']], [], ['a:1/5', 'b:6379/0', 'c:7/0'],
            ],
            'Object Cache Pro' => [['CONFIG' => ['host' => '127.0.0.1', 'port' => 6379, 'database' => 3]], [], ['localhost:6379/3']],
            'Object Cache Pro, URL' => [['CONFIG' => ['url' => 'tls://user:se/cret@h:7/4']], [], []],
            'Object Cache Pro, URL with a password' => [['CONFIG' => ['url' => 'tls://user:secret@h:7/4']], [], ['h:7/4']],
            'Object Cache Pro, socket' => [['CONFIG' => ['host' => 'unix:///run/r.sock']], [], ['/run/r.sock/0']],
            'WP Redis' => [[], ['host' => '10.0.0.1', 'port' => 6379, 'auth' => 'x', 'database' => 1], ['10.0.0.1:6379/1']],
            'WP Redis, socket' => [[], ['host' => '/run/r.sock'], ['/run/r.sock/0']],
        ];
    }

    /**
     * @dataProvider dsns
     * @param list<string> $endpoints
     */
    public function testDsns(string $dsn, array $endpoints): void
    {
        self::assertSame($endpoints, Object_Cache::of_dsn($dsn));
    }

    /** @return list<array{string, list<string>}> */
    public static function dsns(): array
    {
        return [
            ['redis://127.0.0.1:6379', ['localhost:6379/0']],
            ['redis://localhost', ['localhost:6379/0']],
            ['rediss://user:***@Host:6380/2?ca=/x', ['host:6380/2']],
            ['redis://[::1]:7/1', ['localhost:7/1']],
            ['redis+unix:///run/redis.sock?db=3', ['/run/redis.sock/3']],
            ['redis+unix:///run/redis.sock', ['/run/redis.sock/0']],
            ['redis+quorum://a,b:1,c/2', ['a:6379/2', 'b:1/2', 'c:6379/2']],
            ['redis+cluster://:***@a:6379,b:7001', ['a:6379/0', 'b:7001/0']],
            ['redis+sentinel://s1:26379/primary/1', []],
            ['local:', []],
            ['local:///tmp', ['/tmp/0']],
            ['***', []],
        ];
    }
}
