<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Sentinels;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;
use RuntimeException;

/**
 * The primary is lost and a replica takes over: processes notice a delay, and nothing else.
 */
final class SentinelTest extends TestCase
{
    private const WAITERS = 20;

    public function testAHolderAndTwentyWaitersSurviveAFailOver(): void
    {
        $sentinels = Sentinels::start();
        $cluster = Cluster::at($sentinels->dsn());
        $alice = $cluster->actor(['cluster_lock.ttl' => '8', 'cluster_lock.connect_timeout' => 1]);
        $alice->call('cluster_lock', 'job');
        self::assertSame('sentinel', $alice->call('cluster_lock_status')['backend']);
        self::assertSame('master', $alice->call('cluster_lock_status')['server_role']);
        $waiters = $cluster->actors(self::WAITERS);
        foreach ($waiters as $i => $waiter) {
            $waiter->beginRun(<<<'PHP'
                $locked = cluster_lock('job', 60);
                $fence = cluster_lock_fence('job');

                return [$locked, $fence, hrtime(true) / 1e9, cluster_unlock('job')];
                PHP);
            $cluster->awaitWaiters('job', $i + 1);
        }

        $sentinels->primary->kill();
        $sentinels->awaitSwitch();
        // Each has presented itself to the new primary since. What a record says is until when its waiter lives: a second
        // and the slack after it was heard of.
        $since = microtime(true);
        Until::true(
            static function () use ($sentinels, $since): bool {
                try {
                    $records = $sentinels->replica->client()->do('HVALS', 'cluster_lock:{job}:w');
                } catch (RuntimeException) {
                    // Sentinels cut the connections of a server whose role they change.
                    return false;
                }
                $heard = array_filter($records, static fn (string $record) => (int) $record >= ($since + 1.9) * 1000);

                return count($heard) === self::WAITERS;
            },
            'All should wait at the new primary'
        );
        $fence = $alice->call('cluster_lock_fence', 'job');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'It was held throughout');

        foreach ($waiters as $i => $waiter) {
            // A warning would fail it.
            [$locked, $next, $when, $unlocked] = $waiter->end();
            self::assertTrue($locked && $unlocked, "Waiter $i gets it");
            self::assertGreaterThan($fence, $next, "Waiter $i comes in its turn");
            $fence = $next;
        }
        $cluster->assertFree('job', 'All have given it back');
    }

    public function testAReleaseDuringTheFailOverArrives(): void
    {
        $sentinels = Sentinels::start();
        $cluster = Cluster::at($sentinels->dsn());
        $alice = $cluster->actor();
        $alice->call('cluster_lock', 'job');
        $sentinels->primary->kill();

        self::assertTrue($alice->call('cluster_unlock', 'job'), 'It is given back to the new primary');
        $cluster->assertFree('job', 'It was given back');
    }

    public function testNoSentinelIsToldAtOnce(): void
    {
        $actor = Cluster::at('redis+sentinel://127.0.0.1:1,127.0.0.1:2/locks')->actor();
        $outcome = $actor->try('cluster_lock', 'job', Until::TOO_LONG);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/no sentinel/', '/127\.0\.0\.1:2/');
    }
}
