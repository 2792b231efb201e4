<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * More waiters have been killed than one step takes out of the queue.
 */
final class DeadWaitersTest extends TestCase
{
    private const JOIN = <<<'LUA'
        for i = 1, 700 do
            local token = string.format('%032d', i)
            redis.call('ZADD', KEYS[1] .. ':q', i, token)
            redis.call('HSET', KEYS[1] .. ':w', token, '1 X ' .. i .. ' {}')
        end
        redis.call('PEXPIRE', KEYS[1] .. ':q', 60000)
        redis.call('PEXPIRE', KEYS[1] .. ':w', 60000)
        redis.call('SETRANGE', KEYS[1], 1, '+')
        return 700
        LUA;

    public function testWhoGivesItBackIsToldThatItWasItsOwnAndTheNextGetsIt(): void
    {
        $server = RedisServer::own();
        [$alice, $bob] = Cluster::redis($server)->actors(2);
        $alice->call('cluster_lock', 'job');
        self::assertEquals(700, $server->client()->do('EVAL', self::JOIN, '1', 'cluster_lock:{job}'));

        self::assertTrue($alice->call('cluster_unlock', 'job'));
        self::assertTrue($bob->call('cluster_lock', 'job', 0), 'without a wait');
    }

    public function testThatAnAdministratorBrokeItIsToldAllTheSame(): void
    {
        $server = RedisServer::own();
        [$alice, $bob] = Cluster::redis($server)->actors(2, ['cluster_lock.auto_renew' => '0']);
        $alice->call('cluster_lock', 'job');
        $bob->call('cluster_lock_break', 'job');
        self::assertEquals(700, $server->client()->do('EVAL', self::JOIN, '1', 'cluster_lock:{job}'));

        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/broken by an administrator/');
        self::assertTrue($bob->call('cluster_lock', 'job', 0));
    }
}
