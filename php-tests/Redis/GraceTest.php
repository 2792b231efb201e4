<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * A server that finds itself without its memory lets nobody in for its grace period (?grace= in cluster_lock.dsn), and those
 * who hold a lock keep it.
 */
final class GraceTest extends TestCase
{
    /** Its grace period has been ended by hand: nothing is held there. */
    private static function cluster(RedisServer $server): Cluster
    {
        $cluster = Cluster::at($server->dsn() . '?grace=600');
        $server->client()->do('SET', 'cluster_lock:{}:born', '0');

        return $cluster;
    }

    /** @return array{string|null, float|null} */
    private static function stands(Cluster $cluster): array
    {
        [$server] = $cluster->observer()->call('cluster_lock_servers');

        return [$server['grace'], $server['grace_left']];
    }

    public function testAHolderKeepsItsLockAndNobodyGetsInBesideIt(): void
    {
        $server = RedisServer::own();
        $cluster = self::cluster($server);
        [$holder, $reader, $other] = $cluster->actors(3);
        $holder->call('cluster_lock', 'job');
        $holder->call('cluster_lock', 'given back before it is renewed');
        $reader->call('cluster_lock', 'read', 0, LOCK_SH);
        $fence = $holder->call('cluster_lock_fence', 'job');
        self::assertSame(['over', 0.0], self::stands($cluster), 'Before');

        $server->client()->do('FLUSHALL');

        self::assertFalse($other->call('cluster_lock', 'job', 0), 'It may be held');
        self::assertFalse($other->call('cluster_lock', 'another', 0), 'Any may be');
        [$stands, $left] = self::stands($cluster);
        self::assertSame('runs', $stands, 'During it');
        self::assertWithin(0.1, 600.0, $left, 'What is left');
        self::assertStringContainsString(
            '?grace=',
            (string) $cluster->observer()->call('cluster_lock_servers')[0]['error'],
            'It grants nothing, and says why'
        );
        // Whoever writes asks whether the lock is still held, and has its record put back.
        self::assertTrue($holder->call('cluster_unlock', 'given back before it is renewed'), 'It was ours throughout');
        self::assertTrue($reader->call('cluster_unlock', 'read'), 'So was this');
        $file = tempnam(sys_get_temp_dir(), 'grace');
        self::assertSame(1, $holder->call('cluster_file_put_contents', $file, 'x', 0, 'job'), 'A write under the lock');
        unlink($file);
        self::assertSame($fence, $cluster->info('job')['fence'], 'It is known again');
        self::assertFalse($other->call('cluster_lock', 'read', 0), 'Another reader may be there');

        $server->client()->do('SET', 'cluster_lock:{}:born', '0');
        self::assertFalse($other->call('cluster_lock', 'job', 0), 'It is still held');
        self::assertTrue($holder->call('cluster_unlock', 'job'), 'Until it is given back');
        self::assertTrue($other->call('cluster_lock', 'job', 0), 'Then it is free');
        self::assertTrue($other->call('cluster_lock', 'read', 0), 'As all others are');
        self::assertGreaterThan($fence, $other->call('cluster_lock_fence', 'job'), 'Tokens have grown');
    }

    public function testWhoTimesOutIsToldThatNobodyKnowsWhoIsInTheWay(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::at($server->dsn() . '?grace=600');
        $thrown = $cluster->actor()->tryRun('return cluster_synchronized("job", static fn () => 1, 0.1);')
            ->thrown('ClusterLockTimeoutException');

        self::assertStringContainsString('held by somebody unknown', $thrown->message, 'The message');
        self::assertTrue($cluster->observer()->call('cluster_lock_break', 'job'), 'An administrator knows better');
        self::assertTrue($cluster->observer()->call('cluster_lock', 'job', 0), 'Of this lock');
        self::assertFalse($cluster->observer()->call('cluster_lock', 'other', 0), 'And of no other');
    }

    public function testALeaseThatIsLongerIsRefused(): void
    {
        $cluster = self::cluster(RedisServer::own());
        $actor = $cluster->actor();
        $warning = $actor->try('cluster_lock', 'job', 0, LOCK_EX, 601)->warning();

        self::assertStringContainsString('a lease of 601 s is longer than the grace period of 600 s', $warning, 'Why');
        self::assertTrue($actor->call('cluster_lock', 'job', 0, LOCK_EX, 600), 'As long as it is right');
    }
}
