<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * Asking for LOCK_EX while holding LOCK_SH converts; like flock(2), not atomically.
 */
final class ConversionTest extends TestCase
{
    /** @dataProvider backends */
    public function testTheOnlyReaderBecomesTheWriter(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $before = $alice->call('cluster_lock_fence', 'job');

        self::assertTrue($alice->call('cluster_lock', 'job', 0, LOCK_EX), 'Nobody else reads, so it converts');
        self::assertSame('exclusive', $cluster->info('job')['mode'], 'It should now be exclusive');
        self::assertFalse($bob->call('cluster_lock', 'job', 0, LOCK_SH), 'Readers are now kept out');
        self::assertGreaterThanOrEqual($before, $alice->call('cluster_lock_fence', 'job'), 'Fences never go back');
    }

    /** @dataProvider backends */
    public function testAConvertedLockNeedsAsManyUnlocks(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX);

        self::assertTrue($alice->call('cluster_unlock', 'job'), 'The first unlock should be true');
        $cluster->assertHeld('job', 'It was locked twice and unlocked once');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'The second unlock should be true');
        $cluster->assertFree('job', 'It was unlocked as often as locked');
    }

    /** @dataProvider backends */
    public function testItWaitsForTheOtherReaders(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $bob->call('cluster_lock', 'job', 0, LOCK_SH);
        $alice->begin('cluster_lock', 'job', Until::TOO_LONG, LOCK_EX);
        $cluster->awaitWaiters('job', 1);

        self::assertTrue($bob->call('cluster_unlock', 'job'), 'Bob reads on undisturbed until he unlocks');
        self::assertTrue($alice->end(), 'Alice becomes the writer');
        self::assertSame('exclusive', $cluster->info('job')['mode'], 'It should now be exclusive');
    }

    /** @dataProvider backends */
    public function testWhatIsHeldAfterATimeOutIsWhatOthersSee(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $bob->call('cluster_lock', 'job', 0, LOCK_SH);

        self::assertFalse($alice->call('cluster_lock', 'job', 0, LOCK_EX), 'Bob reads');
        $believes = $alice->call('cluster_lock_fence', 'job') !== null;
        $holders = array_column($cluster->info('job')['holders'], 'pid');
        self::assertSame(in_array($alice->pid(), $holders, true), $believes, 'Alice and the server should agree');
        self::assertContains($bob->pid(), $holders, 'Bob still reads');
        self::assertSame([], $cluster->info('job')['waiters'], 'Nobody waits any more');
        self::assertTrue($bob->call('cluster_unlock', 'job'), 'Bob was never disturbed');
    }

    /** @dataProvider backends */
    public function testTwoConvertersDoNotDeadlock(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $bob->call('cluster_lock', 'job', 0, LOCK_SH);
        $convert = <<<'PHP'
            $got = cluster_lock('job', 20, LOCK_EX);
            $fence = cluster_lock_fence('job');
            while (cluster_lock_fence('job') !== null) {
                cluster_unlock('job');
            }
            return [$got, $fence];
            PHP;
        $alice->beginRun($convert);
        $bob->beginRun($convert);
        [$aliceGot, $aliceFence] = $alice->end();
        [$bobGot, $bobFence] = $bob->end();

        self::assertTrue($aliceGot && $bobGot, 'Each gives up its shared lock first, so both get their turn');
        self::assertNotSame($aliceFence, $bobFence, 'They get it one after the other');
        $cluster->assertFree('job', 'Both have left');
    }

    /** @dataProvider backends */
    public function testAConversionThatCouldOnlyDeadlockFailsAtOnce(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $outcome = $alice->run(<<<'PHP'
            $GLOBALS['object'] = new ClusterLock('job', LOCK_SH);
            return $GLOBALS['object']->acquire(0) && cluster_lock('job', 0, LOCK_SH);
            PHP);
        self::assertTrue($outcome, 'An object and the request share it');
        $outcome = $alice->try('cluster_lock', 'job', 20, LOCK_EX);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/deadlock/i');
    }
}
