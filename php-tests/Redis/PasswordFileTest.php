<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * ?password_file=: a password that changes while PHP runs; and servers that are greeted without HELLO.
 */
final class PasswordFileTest extends TestCase
{
    public function testAPasswordThatChangesIsReadAnew(): void
    {
        $server = RedisServer::own();
        $allow = static fn (string $password) => $server->client()->do(
            'ACL',
            'SETUSER',
            'site',
            'on',
            'resetpass',
            ">$password",
            '~*',
            '&*',
            '+@all'
        );
        $file = TempDir::forTest() . '/token';
        $allow('first');
        file_put_contents($file, "first\n");
        $actor = Cluster::at("redis://site@{$server->address()}?password_file=$file")->actor();
        self::assertTrue($actor->call('cluster_lock', 'job', 0), 'The file has the password');
        $allow('second');
        file_put_contents($file, "second\n");
        $server->client()->do('CLIENT', 'KILL', 'USER', 'site');

        self::assertTrue($actor->call('cluster_unlock', 'job'), 'and the new one after it has changed');
        self::assertTrue($actor->call('cluster_lock', 'job', 0), 'also for the next lock');
    }

    public function testAFileThatCannotBeUsedIsTold(): void
    {
        $server = RedisServer::own();
        $directory = TempDir::forTest();
        file_put_contents("$directory/empty", "\n");
        foreach (["$directory/none" => '/No such file/i', $directory => '/not a regular file/', "$directory/empty" => '/empty/'] as $file => $why) {
            $actor = Cluster::at("redis://{$server->address()}?password_file=$file")->actor();
            $outcome = $actor->try('cluster_lock', 'job', 0);

            self::assertWarns($outcome, 'cluster_lock', '"job"', '/' . preg_quote($file, '/') . '/', $why);
        }
    }

    public function testWhatStandsInTheFileIsNotShown(): void
    {
        $server = RedisServer::own([], 'another');
        $file = TempDir::forTest() . '/token';
        file_put_contents($file, 'hunter2-s3cret');
        $outcome = Cluster::at("redis://{$server->address()}?password_file=$file")->actor()->try('cluster_lock', 'job', 0);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/WRONGPASS/', '/user and password/');
        self::assertStringNotContainsString('hunter2', var_export($outcome, true));
    }

    public function testAServerWithoutHelloServesLocks(): void
    {
        $server = RedisServer::own(['rename-command' => ['HELLO', '']], 'first');
        foreach (["redis://:first@{$server->address()}/3", "redis://default:first@{$server->address()}"] as $dsn) {
            $actor = Cluster::at($dsn)->actor();
            self::assertTrue($actor->call('cluster_lock', 'job', 0), 'AUTH and SELECT do as well');
            self::assertTrue($actor->call('cluster_unlock', 'job'), 'throughout');
        }
    }

    public function testAServerThatHasBecomeAReplicaIsLeftForTheOneThatHasItsAddress(): void
    {
        $old = RedisServer::own();
        $new = RedisServer::own();
        // The address of both, as it were: the old one listens there, and then the new one.
        $address = TempDir::forTest() . '/redis.sock';
        symlink($old->socket(), $address);
        $actor = Cluster::at("redis+unix://$address")->actor();
        self::assertTrue($actor->call('cluster_lock', 'job', 0), 'A lock on the one');
        self::assertTrue($actor->call('cluster_unlock', 'job'), 'given back');
        symlink($new->socket(), "$address.new");
        rename("$address.new", $address);
        $old->client()->do('REPLICAOF', '127.0.0.1', (string) $new->port);

        self::assertTrue($actor->call('cluster_lock', 'job', 0), 'The next one on the other');
        self::assertSame(1, $new->client()->do('EXISTS', 'cluster_lock:{job}'), 'which has it');
    }
}
