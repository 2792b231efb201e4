<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * How long cluster_lock() waits.
 */
final class TimeoutTest extends TestCase
{
    /** @dataProvider backends */
    public function testZeroIsOneTry(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.timeout' => Until::TOO_LONG]);
        $alice->call('cluster_lock', 'job');
        $outcome = $bob->try('cluster_lock', 'job', 0);

        self::assertFalse($outcome->value(), 'Alice has it');
        self::assertSame([], $cluster->info('job')['waiters'], 'One try leaves nobody in the queue');
    }

    /** @dataProvider backends */
    public function testAFiniteTimeOutIsKept(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $outcome = $bob->try('cluster_lock', 'job', 0.4);

        self::assertFalse($outcome->value(), 'Alice has it all the time');
        self::assertTook(0.4, $outcome->seconds, 'A time-out of 0.4 s');
        self::assertSame([], $cluster->info('job')['waiters'], 'Who gave up is not in the queue');
    }

    /** @dataProvider backends */
    public function testATimeOutLongerThanASliceIsKept(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $outcome = $bob->try('cluster_lock', 'job', 1.5);

        self::assertFalse($outcome->value(), 'Alice has it all the time');
        self::assertTook(1.5, $outcome->seconds, 'A time-out of 1.5 s');
    }

    /** @dataProvider backends */
    public function testInfinityWaitsUntilItIsFree(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $bob->begin('cluster_lock', 'job', INF);
        $cluster->awaitWaiters('job', 1);
        self::assertFalse($bob->isDone(), 'Bob should wait');
        $alice->call('cluster_unlock', 'job');

        self::assertTrue($bob->end(), 'Bob gets it when Alice is done');
    }

    /** @dataProvider backends */
    public function testAHugeTimeOutDoesNotOverflow(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $bob->begin('cluster_lock', 'job', 1e300);
        $cluster->awaitWaiters('job', 1);
        $alice->call('cluster_unlock', 'job');

        self::assertTrue($bob->end(), 'A finite but huge time-out waits as well');
    }

    /** @dataProvider backends */
    public function testNonBlockingIsOneTry(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        self::assertTrue(
            $alice->call('cluster_lock', 'job', 5, LOCK_EX | LOCK_NB),
            'A free lock is given with LOCK_NB, too'
        );
        foreach ([LOCK_EX | LOCK_NB, LOCK_SH | LOCK_NB] as $mode) {
            $outcome = $bob->try('cluster_lock', 'job', Until::TOO_LONG, $mode);
            self::assertFalse($outcome->value(), 'Alice has it');
        }
    }

    /** @dataProvider backends */
    public function testNullIsTheSetting(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $bob = $cluster->actor(['cluster_lock.timeout' => '0.3']);
        $alice->call('cluster_lock', 'job');

        $outcome = $bob->try('cluster_lock', 'job', null);
        self::assertFalse($outcome->value(), 'Alice has it');
        self::assertTook(0.3, $outcome->seconds, 'cluster_lock.timeout of 0.3 s');

        $bob->call('ini_set', 'cluster_lock.timeout', Until::TOO_LONG);
        $bob->call('ini_set', 'cluster_lock.timeout', '0');
        $outcome = $bob->try('cluster_lock', 'job');
        self::assertFalse($outcome->value(), 'Alice still has it');
    }

    /** @dataProvider backends */
    public function testAGrantThatMeetsTheTimeOutIsKeptNotLeaked(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        // Bob's time-out is swept over the moment at which Alice unlocks.
        for ($i = 0; $i < 60; $i++) {
            $alice->call('cluster_lock', 'job', 0);
            $bob->begin('cluster_lock', 'job', 0.0005 * $i);
            $alice->beginRun('usleep(8000); return cluster_unlock("job");');
            self::assertTrue($alice->end(), 'Alice holds it until she unlocks');
            if ($bob->end()) {
                self::assertTrue($bob->call('cluster_unlock', 'job'), 'Bob was told that he holds it');
            }
            self::assertTrue($alice->call('cluster_lock', 'job', 0), 'Who timed out holds nothing (round ' . $i . ')');
            self::assertTrue($alice->call('cluster_unlock', 'job'), 'Alice holds it alone');
        }
    }

    /** @dataProvider backends */
    public function testASlowWaitIsLoggedWithTheHolder(Cluster $cluster): void
    {
        $log = TempDir::forTest() . '/php.log';
        $alice = $cluster->actor(['cluster_lock.node' => 'node-a']);
        $bob = $cluster->actor(['cluster_lock.slow_wait' => '0.2', 'log_errors' => 1, 'error_log' => $log]);
        $alice->call('cluster_lock', 'slow job');

        self::assertFalse($bob->call('cluster_lock', 'slow job', 0.01), 'Alice has it');
        self::assertFileDoesNotExist($log, 'A short wait is not worth a line');
        self::assertFalse($bob->call('cluster_lock', 'slow job', 0.4), 'Alice has it');
        Until::true(fn () => is_file($log), 'a slow wait should be logged');
        $lines = file($log, FILE_IGNORE_NEW_LINES);
        self::assertCount(1, $lines, 'One line for one slow wait');
        self::assertStringContainsString('slow job', $lines[0], 'The line names the lock');
        self::assertStringContainsString('node-a', $lines[0], "The line names the holder's node");
        self::assertStringContainsString((string) $alice->pid(), $lines[0], "The line names the holder's process");
    }

    /** @dataProvider backends */
    public function testSlowWaitCanBeTurnedOff(Cluster $cluster): void
    {
        $log = TempDir::forTest() . '/php.log';
        $alice = $cluster->actor();
        $bob = $cluster->actor(['cluster_lock.slow_wait' => '0', 'log_errors' => 1, 'error_log' => $log]);
        $alice->call('cluster_lock', 'job');

        self::assertFalse($bob->call('cluster_lock', 'job', 0.3), 'Alice has it');
        self::assertFileDoesNotExist($log, 'slow_wait = 0 logs nothing');
    }
}
