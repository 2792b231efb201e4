<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * Ways to write where the server is.
 */
final class DsnTest extends TestCase
{
    public function testAUnixSocket(): void
    {
        $server = RedisServer::own();
        [$alice, $bob] = Cluster::at('redis+unix://' . $server->socket())->actors(2);
        self::assertTrue($alice->call('cluster_lock', 'job', 0), 'lock over a unix socket');
        self::assertFalse($bob->call('cluster_lock', 'job', 0), 'It excludes');
        $tcp = Cluster::at($server->dsn())->actor();

        self::assertFalse($tcp->call('cluster_lock', 'job', 0), 'It is the same server as over TCP');
    }

    public function testAUnixSocketThatIsNotThereIsTold(): void
    {
        $outcome = Cluster::at('redis+unix:///nowhere/redis.sock')->actor()->try('cluster_lock', 'job', 0);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '~/nowhere/redis\.sock~', '/no such file/i');
    }

    public function testADatabaseNumber(): void
    {
        $server = RedisServer::own();
        $default = Cluster::at($server->dsn())->actor();
        $third = Cluster::at($server->dsn() . '/3')->actor();
        $unix = Cluster::at('redis+unix://' . $server->socket() . '?db=3')->actor();
        self::assertTrue($default->call('cluster_lock', 'job', 0), 'Database 0');
        self::assertTrue($third->call('cluster_lock', 'job', 0), 'Database 3 is another world');
        self::assertFalse(
            $unix->call('cluster_lock', 'job', 0),
            'Database 3 over a unix socket is the same as over TCP'
        );

        self::assertSame(1, $server->client()->do('DBSIZE'), 'One key in database 0');
        $server->client()->do('SELECT', 3);
        self::assertSame(1, $server->client()->do('DBSIZE'), 'One key in database 3');
    }

    public function testADatabaseThatIsNotThereIsTold(): void
    {
        $server = RedisServer::own();
        $outcome = Cluster::at($server->dsn() . '/99')->actor()->try('cluster_lock', 'job', 0);

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/',
            '/DB|database|range/i'
        );
    }

    public function testAHostName(): void
    {
        $server = RedisServer::own();
        $actor = Cluster::at("redis://localhost:{$server->port}")->actor();

        self::assertTrue(
            $actor->call('cluster_lock', 'job', 0),
            'A name is resolved; if ::1 refuses, 127.0.0.1 is tried'
        );
    }

    public function testAnIpv6Address(): void
    {
        if (!@stream_socket_server('tcp://[::1]:0')) {
            self::markTestSkipped('There is no IPv6 here.');
        }
        $server = RedisServer::own(['bind' => '::1']);
        $actor = Cluster::at("redis://[::1]:{$server->port}")->actor();

        self::assertTrue($actor->call('cluster_lock', 'job', 0), 'An IPv6 address stands in brackets');
    }

    public function testAHostNameThatIsUnknownIsTold(): void
    {
        $outcome = Cluster::at('redis://no-such-host.invalid:6379')->actor()->try('cluster_lock', 'job', 0);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/no-such-host\.invalid/');
    }

    public function testLocalWithoutADirectory(): void
    {
        $cluster = Cluster::at('local:');
        [$alice, $bob] = $cluster->actors(2);
        // The directory is this host's default, so the name has to be our own.
        $name = 'php-tests ' . getmypid();
        self::assertTrue($alice->call('cluster_lock', $name, 0), 'lock without any server');
        self::assertFalse($bob->call('cluster_lock', $name, 0), 'All processes of this host and user share it');
        self::assertTrue($alice->call('cluster_unlock', $name), 'unlock');
        self::assertTrue($bob->call('cluster_lock', $name, 0), 'Now it is free');
    }
}
