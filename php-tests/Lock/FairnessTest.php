<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * First come, first served, over all processes; readers behind a waiting writer wait.
 */
final class FairnessTest extends TestCase
{
    /** Waits, keeps the lock for a moment, and returns its fence: the order of the holders. */
    private const TURN = <<<'PHP'
        $got = cluster_lock('job', 30, $mode);
        $fence = cluster_lock_fence('job');
        usleep(1000);
        return $got && cluster_unlock('job') ? $fence : false;
        PHP;

    /** @dataProvider backends */
    public function testWritersAreServedInTheOrderOfTheirArrival(Cluster $cluster): void
    {
        $first = $cluster->actor();
        $first->call('cluster_lock', 'job');
        $queue = $cluster->actors(8);
        foreach ($queue as $i => $actor) {
            $actor->beginRun(self::TURN, mode: LOCK_EX);
            $cluster->awaitWaiters('job', $i + 1);
        }
        self::assertSame(
            array_map(static fn (Actor $a) => $a->pid(), $queue),
            array_column($cluster->info('job')['waiters'], 'pid'),
            'cluster_lock_info() should list the waiters by arrival'
        );
        $first->call('cluster_unlock', 'job');
        $fences = array_map(static fn (Actor $a) => $a->end(), $queue);

        self::assertNotContains(false, $fences, 'All should get their turn');
        $sorted = $fences;
        sort($sorted);
        self::assertSame($sorted, $fences, 'The order of the holders should be the order of arrival');
    }

    /** @dataProvider backends */
    public function testAReaderDoesNotPassAWaitingWriter(Cluster $cluster): void
    {
        [$reader, $writer, $late] = $cluster->actors(3);
        $reader->call('cluster_lock', 'job', 0, LOCK_SH);
        $writer->begin('cluster_lock', 'job', 30, LOCK_EX);
        $cluster->awaitWaiters('job', 1);

        self::assertFalse(
            $late->call('cluster_lock', 'job', 0, LOCK_SH),
            'A writer waits, so a new reader waits behind it'
        );
        $late->begin('cluster_lock', 'job', 30, LOCK_SH);
        $cluster->awaitWaiters('job', 2);
        self::assertSame(
            [[$writer->pid(), 'exclusive'], [$late->pid(), 'shared']],
            array_map(static fn ($w) => [$w['pid'], $w['mode']], $cluster->info('job')['waiters']),
            'The queue should be writer, reader'
        );

        $reader->call('cluster_unlock', 'job');
        self::assertTrue($writer->end(), 'The writer is next');
        self::assertFalse($late->isDone(), 'The late reader waits for the writer');
        $writer->call('cluster_unlock', 'job');
        self::assertTrue($late->end(), 'The reader comes after the writer');
    }

    /** @dataProvider backends */
    public function testLeadingReadersAreLetInTogether(Cluster $cluster): void
    {
        [$holder, $readerA, $readerB, $writer, $readerC] = $cluster->actors(5);
        $holder->call('cluster_lock', 'job');
        $queue = [[$readerA, LOCK_SH], [$readerB, LOCK_SH], [$writer, LOCK_EX], [$readerC, LOCK_SH]];
        foreach ($queue as $i => [$actor, $mode]) {
            $actor->begin('cluster_lock', 'job', 30, $mode);
            $cluster->awaitWaiters('job', $i + 1);
        }
        $holder->call('cluster_unlock', 'job');

        self::assertTrue($readerA->end(), 'The first reader is let in');
        self::assertTrue($readerB->end(), 'and the second with it');
        $info = $cluster->info('job');
        self::assertSame(
            [$readerA->pid(), $readerB->pid()],
            array_column($info['holders'], 'pid'),
            'Both leading readers hold it, oldest first'
        );
        self::assertSame(
            [$writer->pid(), $readerC->pid()],
            array_column($info['waiters'], 'pid'),
            'The writer and the reader behind it wait on'
        );
        $readerA->call('cluster_unlock', 'job');
        $readerB->call('cluster_unlock', 'job');
        self::assertTrue($writer->end(), 'Then the writer');
        $writer->call('cluster_unlock', 'job');
        self::assertTrue($readerC->end(), 'Then the last reader');
    }

    /** @dataProvider backends */
    public function testAHandOffLetsInExactlyOne(Cluster $cluster): void
    {
        $holder = $cluster->actor();
        $holder->call('cluster_lock', 'job');
        $waiting = $cluster->actors(4);
        foreach ($waiting as $i => $actor) {
            $actor->begin('cluster_lock', 'job', 30);
            $cluster->awaitWaiters('job', $i + 1);
        }
        while ($next = array_shift($waiting)) {
            $holder->call('cluster_unlock', 'job');
            self::assertTrue($next->end(), 'The head of the queue gets it');
            $info = $cluster->info('job');
            self::assertSame([$next->pid()], array_column($info['holders'], 'pid'), 'It is the only holder');
            self::assertCount(count($waiting), $info['waiters'], 'All others wait on');
            foreach ($waiting as $other) {
                self::assertFalse($other->isDone(), 'Nobody else may return');
            }
            $holder = $next;
        }
    }

    /** @dataProvider backends */
    public function testNobodyIsStarved(Cluster $cluster): void
    {
        $dir = TempDir::forTest();
        $starter = $cluster->observer();
        $starter->call('cluster_lock', 'job');
        $actors = $cluster->actors(6);
        foreach ($actors as $actor) {
            $actor->beginRun(<<<'PHP'
                for ($turns = 0; !file_exists("$dir/enough"); $turns++) {
                    cluster_lock('job', 30) && cluster_unlock('job') || throw new Exception('not locked');
                    $turns < 200 || touch("$dir/enough");
                }
                return $turns;
                PHP, dir: $dir);
        }
        $cluster->awaitWaiters('job', 6);
        $starter->call('cluster_unlock', 'job');
        $turns = array_map(static fn (Actor $a) => $a->end(), $actors);

        self::assertGreaterThan(max($turns) / 4, min($turns), 'Turns should be about equal: ' . implode(', ', $turns));
    }

    /** @dataProvider backends */
    public function testAWaiterThatGivesUpMakesWay(Cluster $cluster): void
    {
        [$reader, $writer, $late] = $cluster->actors(3);
        // Whoever looks must be there within the time-out.
        $cluster->observer();
        $reader->call('cluster_lock', 'job', 0, LOCK_SH);
        $writer->begin('cluster_lock', 'job', 0.8, LOCK_EX);
        $cluster->awaitWaiters('job', 1);
        $late->begin('cluster_lock', 'job', 30, LOCK_SH);
        $cluster->awaitWaiters('job', 2);

        self::assertFalse($writer->end(), 'The reader never leaves, so the writer gives up');
        self::assertTrue($late->end(), 'Then nothing stands between the late reader and the lock');
    }
}
