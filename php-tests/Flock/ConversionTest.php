<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;

/**
 * From shared to exclusive and back by the same handle, in both flock modes.
 */
final class ConversionTest extends FlockTestCase
{
    /** @dataProvider modes */
    public function testExclusiveToSharedLetsReadersIn(string $mode): void
    {
        [$cluster, $alice, $bob] = $this->two($mode);
        $alice->lock(LOCK_EX);
        $bob->begin(LOCK_SH);
        $cluster->awaitWaiters($this->name, 1);
        self::assertTrue($alice->lock(LOCK_SH), 'Alice lets others read');

        self::assertTrue($bob->actor->end(), 'Bob reads, too');
        self::assertWouldBlock($alice, LOCK_EX, 'Bob reads');
    }

    /** @dataProvider modes */
    public function testSharedToExclusiveWaitsForTheOtherReaders(string $mode): void
    {
        [$cluster, $alice, $bob] = $this->two($mode);
        $alice->lock(LOCK_SH);
        $bob->lock(LOCK_SH);
        $alice->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 1);
        self::assertFalse($alice->actor->isDone(), 'Bob reads');
        $bob->unlock();

        self::assertTrue($alice->actor->end(), 'Bob has read');
        self::assertWouldBlock($bob, LOCK_SH, 'Alice has it alone');
        $alice->unlock();
        self::assertGets($bob, LOCK_EX, 'Nothing stays of the shared lock');
    }

    /** @dataProvider modes */
    public function testAConversionThatWouldBlockHoldsNothingAnyMore(string $mode): void
    {
        [, $alice, $bob] = $this->two($mode);
        $alice->lock(LOCK_SH);
        $bob->lock(LOCK_SH);
        self::assertWouldBlock($alice, LOCK_EX, 'Bob reads');

        self::assertGets($bob, LOCK_EX, 'As with flock(2), Alice has given up what she had');
        self::assertTrue($alice->unlock(), 'Alice unlocks nothing');
        self::assertWouldBlock($alice, LOCK_SH, 'Bob has it');
    }

    /** @dataProvider modes */
    public function testAConversionThatTimesOutHoldsNothingAnyMore(string $mode): void
    {
        [, $alice, $bob] = $this->two($mode);
        $alice->actor->call('ini_set', 'cluster_lock.timeout', '0.2');
        $alice->lock(LOCK_SH);
        $bob->lock(LOCK_SH);
        self::assertFalse($alice->lock(LOCK_EX), 'Bob reads all the time');

        self::assertGets($bob, LOCK_EX, 'As with flock(2), Alice has given up what she had');
    }

    /** @dataProvider modes */
    public function testTwoThatConvertGetTheirTurns(string $mode): void
    {
        [$cluster, $alice, $bob] = $this->two($mode);
        $alice->lock(LOCK_SH);
        $bob->lock(LOCK_SH);
        $alice->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 1);
        $bob->begin(LOCK_EX);

        // As with flock(2), Bob gives up what he has before he waits.
        self::assertTrue($alice->actor->end(), 'Alice waited first');
        self::assertFalse($bob->actor->isDone(), 'Alice has it');
        $alice->unlock();
        self::assertTrue($bob->actor->end(), 'Then it is his turn');
    }

    /** @return array{Cluster, Handle, Handle} the file, open in two processes */
    private function two(string $mode): array
    {
        $cluster = Cluster::redis();
        $actors = $cluster->actors(2, ['cluster_lock.flock_mode' => $mode, 'cluster_lock.timeout' => '10']);

        return [$cluster, ...array_map(fn ($actor) => Handle::open($actor, $this->file), $actors)];
    }
}
