<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Inspect;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * cluster_lock_servers(): what the servers say of themselves.
 */
final class ServersTest extends TestCase
{
    /** @return array<string, mixed> what the one server says */
    private static function probed(Cluster $cluster): array
    {
        $servers = $cluster->actor()->call('cluster_lock_servers');
        self::assertCount(1, $servers, 'One server');

        return $servers[0];
    }

    public function testAServerTellsWhatSafetyDependsOn(): void
    {
        $server = RedisServer::own(['maxmemory' => '64mb', 'maxmemory-policy' => 'allkeys-lru', 'appendonly' => 'yes']);
        $told = self::probed(Cluster::redis($server));
        $info = $server->client()->info('server');

        self::assertSame(
            [
                'server', 'error', 'round_trip', 'clock_ahead', 'version', 'role', 'maxmemory', 'maxmemory_policy',
                'used_memory', 'evicted_keys', 'append_only', 'replicas', 'sampled_keys', 'foreign_keys',
                'grace', 'grace_left',
            ],
            array_keys($told),
            'The keys of the stub'
        );
        self::assertSame("redis://{$server->address()}", $told['server'], 'server');
        self::assertNull($told['error'], 'error');
        self::assertGreaterThan(0.0, $told['round_trip'], 'round_trip');
        self::assertWithin(-60.0, 60.0, $told['clock_ahead'], 'One clock, give or take half a round trip');
        self::assertSame($info['valkey_version'] ?? $info['redis_version'], $told['version'], 'version');
        self::assertSame('master', $told['role'], 'role');
        self::assertSame([64 << 20, 'allkeys-lru'], [$told['maxmemory'], $told['maxmemory_policy']], 'Its limits');
        self::assertGreaterThan(100_000, $told['used_memory'], 'used_memory');
        self::assertSame([0, true, 0], [$told['evicted_keys'], $told['append_only'], $told['replicas']], 'The rest');
        self::assertSame([0, 0], [$told['sampled_keys'], $told['foreign_keys']], 'It is empty');
        self::assertSame(0, $server->client()->do('DBSIZE'), 'Nothing is left of the lock that was taken');
    }

    public function testKeysOfOthersInTheDatabaseAreCounted(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $cluster->observer()->call('cluster_lock', 'job');
        $ours = self::probed($cluster);
        self::assertGreaterThanOrEqual(1, $ours['sampled_keys'], "The lock's own keys");
        self::assertSame(0, $ours['foreign_keys'], 'are not foreign');

        $server->client()->do('SET', 'wp:options:alloptions', 'x');
        $server->client()->do('SET', 'cluster_lock', 'not our prefix');
        self::assertSame(2, self::probed($cluster)['foreign_keys'], 'Two are');
    }

    public function testWithoutTheRightToInfoTheRestIsTold(): void
    {
        $server = RedisServer::own();
        $server->client()->do('SET', 'other', 'x');
        $readme = (string) file_get_contents(dirname(__DIR__, 2) . '/README.md');
        self::assertSame(1, preg_match('/ACL SETUSER cluster_lock (on .*)/', $readme, $line), 'The README gives the rights');
        $rights = explode(' ', str_replace('>PASSWORD', '>pw', $line[1]));
        $server->client()->do('ACL', 'SETUSER', 'cluster_lock', ...$rights);
        $cluster = Cluster::at("redis://cluster_lock:pw@{$server->address()}");

        $told = self::probed($cluster);
        self::assertSame([null, null, 1], [$told['error'], $told['maxmemory_policy'], $told['foreign_keys']], 'No INFO');
        self::assertSame('master', $told['role'], 'The role is known from the greeting');

        $server->client()->do('ACL', 'SETUSER', 'cluster_lock', '+info');
        self::assertSame('noeviction', self::probed($cluster)['maxmemory_policy'], 'With +info');
    }

    public function testAServerThatIsDownIsSaidWithoutAWarning(): void
    {
        $port = RedisServer::freePort();
        $outcome = Cluster::at("redis://someone:s3cret@127.0.0.1:$port")->actor()->try('cluster_lock_servers');

        self::assertSame([], $outcome->warnings, 'It is no failure of this call');
        $told = $outcome->value[0];
        self::assertSame("redis://someone:***@127.0.0.1:$port", $told['server'], 'server');
        self::assertStringContainsString('refused', $told['error'], 'error');
        self::assertNull($told['round_trip'], 'Nobody answered');
        self::assertStringNotContainsString('s3cret', json_encode($outcome->value, JSON_THROW_ON_ERROR), 'A secret');
    }

    public function testAServerThatAnswersAndGrantsNoLockIsSaid(): void
    {
        $server = RedisServer::own(['rename-command' => ['EVALSHA', '']]);
        $told = self::probed(Cluster::redis($server));
        self::assertMatchesRegularExpression('/EVALSHA.*rename-command/', $told['error'], 'error');
        self::assertSame('master', $told['role'], 'It answers all the same');
        self::assertNotNull($told['round_trip'], 'which tells it from one that is down');

        $replica = RedisServer::own();
        $replica->client()->do('REPLICAOF', '127.0.0.1', '1');
        self::assertStringContainsString('READONLY', self::probed(Cluster::redis($replica))['error'], 'A replica');
    }

    public function testAServerOnWhichNobodyCanWaitIsSaid(): void
    {
        $server = RedisServer::own(['rename-command' => ['BLPOP', '']]);
        $cluster = Cluster::redis($server);
        self::assertTrue($cluster->actor()->call('cluster_lock', 'free'), 'What is free can be had');
        self::assertMatchesRegularExpression("/'BLPOP'.*rename-command/", self::probed($cluster)['error'], 'error');
    }

    public function testAServerThatForbidsWhatLocksNeedIsSaid(): void
    {
        $readme = (string) file_get_contents(dirname(__DIR__, 2) . '/README.md');
        self::assertSame(1, preg_match('/ACL SETUSER cluster_lock on (.*)/', $readme, $line), 'The README gives the rights');
        preg_match_all('/\+(\w+)/', $line[1], $rights);
        $server = RedisServer::own();
        $server->client()->do('ACL', 'SETUSER', 'locks', 'on', '>pw', '~cluster_lock*', '+@all');
        $actor = Cluster::at("redis://locks:pw@{$server->address()}")->actor();
        // The first two are for connections, which are there; and a list is no lock.
        foreach (array_diff($rights[1], ['hello', 'select', 'scan']) as $right) {
            self::assertNull($actor->call('cluster_lock_servers')[0]['error'], "Before -$right; it has the scripts");
            $server->client()->do('ACL', 'SETUSER', 'locks', "-$right");
            $error = (string) $actor->call('cluster_lock_servers')[0]['error'];
            self::assertStringContainsString("the ACL line in cluster_lock's README", $error, "-$right");
            $server->client()->do('ACL', 'SETUSER', 'locks', "+$right");
        }
    }

    public function testTheServerOfAQuorumOnWhichNobodyCanWaitIsNamed(): void
    {
        $servers = [RedisServer::own(), RedisServer::own(), RedisServer::own()];
        $addresses = array_map(static fn (RedisServer $server): string => $server->address(), $servers);
        $servers[1]->client()->do('ACL', 'SETUSER', 'default', '-blpop');
        $told = Cluster::at('redis+quorum://' . implode(',', $addresses))->actor()->call('cluster_lock_servers');

        self::assertSame("redis://$addresses[1]", $told[1]['server'], 'server');
        self::assertStringContainsString('blpop', (string) $told[1]['error'], 'error');
        self::assertSame([null, null], [$told[0]['error'], $told[2]['error']], 'The others are well');
    }

    public function testEveryServerOfAQuorumIsAsked(): void
    {
        [$one, $two] = [RedisServer::own(), RedisServer::own()];
        $down = '127.0.0.1:' . RedisServer::freePort();
        $cluster = Cluster::at("redis+quorum://{$one->address()},{$two->address()},$down");
        $servers = $cluster->actor()->call('cluster_lock_servers');

        self::assertSame(
            ["redis://{$one->address()}", "redis://{$two->address()}", "redis://$down"],
            array_column($servers, 'server'),
            "In the DSN's order"
        );
        self::assertSame([true, true, false], array_map(static fn ($told) => $told['error'] === null, $servers), 'One is down');
    }

    public function testALocalBackendHasNoServerAndABadDsnIsSaid(): void
    {
        self::assertSame([], Cluster::local()->actor()->call('cluster_lock_servers'), 'local:');
        $dir = TempDir::forTest();
        chmod($dir, 0777);
        $others = Cluster::at("local://$dir")->actor()->call('cluster_lock_servers');
        self::assertSame(["local://$dir"], array_column($others, 'server'), 'A directory for all');
        self::assertStringContainsString('must be a directory', $others[0]['error'], 'which grants none');

        $bad = Cluster::at('redis+sentinel://127.0.0.1')->actor()->call('cluster_lock_servers');
        self::assertStringContainsString('cluster_lock.dsn', $bad[0]['error'], 'A DSN that is wrong');
    }
}
