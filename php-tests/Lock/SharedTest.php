<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;

/**
 * Any number of readers, or one writer.
 */
final class SharedTest extends TestCase
{
    /** @dataProvider backends */
    public function testReadersShareAndKeepWritersOut(Cluster $cluster): void
    {
        [$reader, $other, $writer] = $cluster->actors(3);

        self::assertTrue($reader->call('cluster_lock', 'job', 0, LOCK_SH), 'The first reader gets it');
        self::assertTrue($other->call('cluster_lock', 'job', 0, LOCK_SH), 'A second reader shares it');
        self::assertFalse($writer->call('cluster_lock', 'job', 0, LOCK_EX), 'Readers keep a writer out');
        self::assertTrue($reader->call('cluster_unlock', 'job'), 'The first reader leaves');
        self::assertFalse($writer->call('cluster_lock', 'job', 0, LOCK_EX), 'One reader keeps a writer out');
        self::assertTrue($other->call('cluster_unlock', 'job'), 'The second reader leaves');
        self::assertTrue($writer->call('cluster_lock', 'job', 0, LOCK_EX), 'The writer gets it after all readers');
    }

    /** @dataProvider backends */
    public function testAWriterKeepsReadersOut(Cluster $cluster): void
    {
        [$writer, $reader] = $cluster->actors(2);
        $writer->call('cluster_lock', 'job');

        self::assertFalse($reader->call('cluster_lock', 'job', 0, LOCK_SH), 'A writer keeps readers out');
        $writer->call('cluster_unlock', 'job');
        self::assertTrue($reader->call('cluster_lock', 'job', 0, LOCK_SH), 'until it leaves');
    }

    /** @dataProvider backends */
    public function testAWaitingWriterGetsItFromTheLastReader(Cluster $cluster): void
    {
        [$reader, $other, $writer] = $cluster->actors(3);
        $reader->call('cluster_lock', 'job', 0, LOCK_SH);
        $other->call('cluster_lock', 'job', 0, LOCK_SH);
        $writer->begin('cluster_lock', 'job', 20);
        $cluster->awaitWaiters('job', 1);

        $reader->call('cluster_unlock', 'job');
        self::assertCount(1, $cluster->info('job')['waiters'], 'The writer waits for the other reader');
        $other->call('cluster_unlock', 'job');
        self::assertTrue($writer->end(), 'The last reader lets the writer in');
        self::assertSame('exclusive', $cluster->info('job')['mode'], 'Now it is held exclusively');
    }

    /** @dataProvider backends */
    public function testManyReadersHoldAtOnce(Cluster $cluster): void
    {
        foreach ($cluster->actors(8) as $reader) {
            self::assertTrue($reader->call('cluster_lock', 'job', 0, LOCK_SH), 'Each reader should get it at once');
        }
        $info = $cluster->info('job');

        self::assertSame('shared', $info['mode'], 'It is held shared');
        self::assertCount(8, $info['holders'], 'All readers are holders');
    }
}
