<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\Until;
use RuntimeException;

/**
 * The server answers, and refuses: the warning carries its words.
 */
final class RefusalTest extends TestCase
{
    public function testOutOfMemoryIsTold(): void
    {
        $server = RedisServer::own(['maxmemory-policy' => 'noeviction']);
        $actor = Cluster::redis($server)->actor();
        $actor->call('cluster_lock', 'held');
        $server->client()->do('CONFIG', 'SET', 'maxmemory', '1mb');
        $outcome = $actor->try('cluster_lock', 'job', 0);

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/',
            '/OOM|maxmemory/'
        );
        $server->client()->do('CONFIG', 'SET', 'maxmemory', '0');
        self::assertTrue($actor->call('cluster_lock', 'job', 0), 'With memory it works again');
        self::assertTrue($actor->call('cluster_unlock', 'held'), 'What was held is still held');
    }

    public function testAServerThatRunsNoScriptsIsTold(): void
    {
        foreach (['EVALSHA', 'EVAL'] as $command) {
            $server = RedisServer::own(['rename-command' => [$command, '']]);
            $values = ['cluster_lock' => false, 'cluster_lock_info' => null, 'cluster_lock_break' => false];
            foreach ($values as $function => $value) {
                $outcome = Cluster::redis($server)->actor()->try($function, 'job');
                self::assertSame($value, $outcome->value, "What $function() says");
                self::assertCount(1, $outcome->warnings, 'There is one warning');
                self::assertMatchesRegularExpression(
                    "/^$function\(\): Lock \"job\": .*{$server->port}: .*unknown command .$command.*rename-command/",
                    $outcome->messages(),
                    'It names lock, server and cause'
                );
            }
        }
    }

    public function testALockCanBeGivenBackWhenTheServerIsFull(): void
    {
        $server = RedisServer::own(['maxmemory-policy' => 'noeviction']);
        $cluster = Cluster::redis($server);
        $actor = $cluster->actor(['cluster_lock.ttl' => '1']);
        $actor->call('cluster_lock', 'job');
        $actor->call('cluster_lock', 'object');
        $server->client()->do('CONFIG', 'SET', 'maxmemory', '1mb');
        self::assertFalse($cluster->actor()->try('cluster_lock', 'other', 1.2)->value, 'The server is full');

        self::assertTrue($actor->call('cluster_unlock', 'job'), 'Renewing and releasing need no memory');
        self::assertNull($actor->call('cluster_lock_info', 'job'), 'It was released');
    }

    public function testAReplicaIsTold(): void
    {
        $server = RedisServer::own();
        $actor = Cluster::redis($server)->actor();
        $actor->call('cluster_lock', 'held', 0, LOCK_EX, 60);
        $server->client()->do('REPLICAOF', '127.0.0.1', '1');
        $outcome = $actor->try('cluster_lock', 'job', 0);

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/',
            '/READONLY|replica/i'
        );
        $server->client()->do('REPLICAOF', 'NO', 'ONE');
        Until::true(
            static fn () => $actor->try('cluster_lock', 'job', 0)->value,
            'a promoted server should be used again'
        );
        self::assertTrue($actor->call('cluster_unlock', 'held'), 'What was held is still held');
    }

    public function testAFailedSaveIsTold(): void
    {
        $dir = TempDir::forTest();
        $server = RedisServer::own(['dir' => $dir]);
        mkdir("$dir/dump.rdb");
        $redis = $server->client();
        $redis->do('SET', 'a', 'b');
        $redis->do('BGSAVE');
        Until::true(
            static fn () => $redis->info('persistence')['rdb_last_bgsave_status'] === 'err',
            'saving into a directory should fail'
        );
        $redis->do('CONFIG', 'SET', 'save', '3600 1');
        $outcome = Cluster::redis($server)->actor()->try('cluster_lock', 'job', 0);

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/',
            '/MISCONF|disk|RDB/'
        );
    }

    public function testABusyServerIsTold(): void
    {
        $server = RedisServer::own(['busy-reply-threshold' => '50']);
        $actor = Cluster::redis($server)->actor();
        $actor->call('cluster_lock', 'held', 0, LOCK_EX, 60);
        $busy = proc_open(
            ['redis-cli', '-s', $server->socket(), 'EVAL', 'while true do end', '0'],
            [['file', '/dev/null', 'r'], ['file', '/dev/null', 'w'], ['file', '/dev/null', 'w']],
            $pipes
        );
        Until::true(static function () use ($server): bool {
            try {
                return !$server->client()->do('PING');
            } catch (RuntimeException $e) {
                return str_starts_with($e->getMessage(), 'BUSY');
            }
        }, 'the server should be busy');
        $outcome = $actor->try('cluster_lock', 'job', 0);
        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/',
            '/BUSY|busy/'
        );
        $server->client()->do('SCRIPT', 'KILL');
        proc_close($busy);

        self::assertTrue($actor->call('cluster_lock', 'job', 0), 'When it is no longer busy it works again');
        self::assertTrue($actor->call('cluster_unlock', 'held'), 'What was held is still held');
    }

    public function testALoadingServerIsTold(): void
    {
        $dir = TempDir::forTest();
        $server = RedisServer::own(['dir' => $dir, 'loading-process-events-interval-bytes' => '1024']);
        $redis = $server->client();
        $redis->do('EVAL', "for i = 1, 2000 do redis.call('SET', 'key' .. i, string.rep('x', 1000)) end", 0);
        $redis->do('CONFIG', 'SET', 'rdbcompression', 'no');
        $redis->do('SAVE');
        $redis->do('CONFIG', 'SET', 'key-load-delay', '1000');
        $server->kill();
        $server->beginStart(['key-load-delay' => '1000']);
        $actor = Cluster::redis($server)->actor(['cluster_lock.retry_after' => '0']);
        $said = '';
        Until::true(static function () use ($actor, &$said): bool {
            $outcome = $actor->try('cluster_lock', 'job', 0);
            $said .= $outcome->value === false ? $outcome->messages() . "\n" : '';

            return $outcome->value === true;
        }, 'the server should have loaded in the end');

        self::assertMatchesRegularExpression('/LOADING|loading/', $said, 'While it loads, that is told');
    }

    public function testAKeyOfAnotherTypeIsTold(): void
    {
        $server = RedisServer::own();
        $actor = Cluster::redis($server)->actor(['cluster_lock.prefix' => 'p:']);
        $actor->call('cluster_lock', 'job');
        [$key] = $server->client()->do('KEYS', '*');
        $actor->call('cluster_unlock', 'job');
        $server->client()->do('DEL', $key);
        $server->client()->do('LPUSH', $key, 'somebody else wrote here');

        self::assertWarns($actor->try('cluster_lock', 'job', 0), 'cluster_lock', '"job"', '/WRONGTYPE|wrong kind/');
    }
}
