<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * A lease that ran out: whoever had it must hear of it, and must not write.
 */
final class LostLeaseTest extends TestCase
{
    private const UNRENEWED = ['cluster_lock.auto_renew' => '0'];

    /** @dataProvider backends */
    public function testUnlockSaysThatItRanOutAndForHowLong(Cluster $cluster): void
    {
        $alice = $this->withLostLock($cluster, 'job');
        $outcome = $alice->try('cluster_unlock', 'job');

        self::assertWarns($outcome, 'cluster_unlock', '"job"', '/lease.*ran out|expired/i', '/\d(\.\d+)? ?s/');
    }

    /** @dataProvider backends */
    public function testAnotherGetsItWhenTheLeaseIsOver(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, self::UNRENEWED);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 0.5);
        $outcome = $bob->try('cluster_lock', 'job', 10);

        self::assertTrue($outcome->value(), 'Bob gets what Alice no longer has');
        self::assertTook(0.3, $outcome->seconds, 'Waiting for a lease of 0.5 s');
        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/lease|holder/i');
        $cluster->assertHeld('job', "Alice's unlock must not release Bob's lock");
        self::assertTrue($bob->call('cluster_unlock', 'job'), 'Bob never lost it');
    }

    /** @dataProvider backends */
    public function testTheShortestLeaseIsATenthOfASecond(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, self::UNRENEWED);
        self::assertTrue($alice->call('cluster_lock', 'job', 0, LOCK_EX, 0.1), '0.1 s is allowed');
        self::assertTrue($bob->call('cluster_lock', 'job', 10), 'and soon over');
    }

    /** @dataProvider backends */
    public function testTheFenceOfALostLockIsNull(Cluster $cluster): void
    {
        $alice = $this->withLostLock($cluster, 'job');

        self::assertNull($alice->try('cluster_lock_fence', 'job')->value, 'What is lost is not held');
    }

    /** @dataProvider backends */
    public function testLockingAgainDoesNotBelieveALostLock(Cluster $cluster): void
    {
        $alice = $this->withLostLock($cluster, 'job');
        $bob = $cluster->actor();
        self::assertTrue($bob->call('cluster_lock', 'job', 5), 'Bob gets it');

        self::assertFalse($alice->try('cluster_lock', 'job', 0)->value, 'Bob has it: the old depth must not count');
        $bob->call('cluster_unlock', 'job');
        self::assertTrue($alice->try('cluster_lock', 'job', 0)->value, 'Now Alice gets it afresh');
        $cluster->assertHeld('job', 'Alice holds it afresh');
    }

    /** @dataProvider backends */
    public function testALostLockDoesNotWriteAFile(Cluster $cluster): void
    {
        $dir = TempDir::forTest();
        file_put_contents("$dir/file", 'old');
        $alice = $this->withLostLock($cluster, 'job');
        $outcome = $alice->try('cluster_file_put_contents', "$dir/file", 'new', 0, 'job');

        self::assertWarns($outcome, 'cluster_file_put_contents', 'job', '/lease|lost|not held/i');
        self::assertSame('old', file_get_contents("$dir/file"), 'The old file should be untouched');
        self::assertSame(['file'], array_values(array_diff(scandir($dir), ['.', '..'])), 'No temporary file may stay');
    }

    /** @dataProvider backends */
    public function testASynchronizedCallThatOutlivesItsLeaseThrows(Cluster $cluster): void
    {
        $alice = $cluster->actor(self::UNRENEWED);
        $outcome = $alice->tryRun(<<<'PHP'
            return cluster_synchronized('job', static function () {
                for ($end = hrtime(true) + 400_000_000; hrtime(true) < $end;);
                $GLOBALS['done'] = true;
            }, 0, 0.2);
            PHP);
        $thrown = $outcome->thrown('ClusterLockLostException');

        self::assertStringContainsString('job', $thrown->message, 'The message names the lock');
        self::assertTrue($alice->run('return $GLOBALS["done"];'), 'The callback ran to its end');
    }

    /** @dataProvider backends */
    public function testTheStatusCountsTheLoss(Cluster $cluster): void
    {
        $alice = $this->withLostLock($cluster, 'job');
        $alice->try('cluster_unlock', 'job');

        self::assertSame(1, $alice->call('cluster_lock_status')['counters']['lost'], 'One lock was lost');
    }

    /** A process that took the lock for 0.2 s, that long ago. */
    private function withLostLock(Cluster $cluster, string $name): Actor
    {
        $alice = $cluster->actor(self::UNRENEWED);
        self::assertTrue($alice->call('cluster_lock', $name, 0, LOCK_EX, 0.2), 'The lock is free');
        Until::true(fn () => $cluster->info($name) === null, 'a lease of 0.2 s should be over');

        return $alice;
    }
}
