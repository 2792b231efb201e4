<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;

/**
 * What cluster_flock() answers, and to whom it gives the lock.
 */
final class ResultsTest extends FlockTestCase
{
    /** @dataProvider backends */
    public function testAFreeFileIsLocked(Cluster $cluster): void
    {
        $alice = Handle::open($cluster->actor(), $this->file);
        foreach ([LOCK_EX, LOCK_SH, LOCK_EX | LOCK_NB, LOCK_SH | LOCK_NB, LOCK_UN] as $operation) {
            self::assertTrue($alice->lock($operation), "Operation $operation should work");
            self::assertSame(0, $alice->wouldBlock(), 'and have nothing in its way');
        }
    }

    /** @dataProvider backends */
    public function testAHeldFileWouldBlock(Cluster $cluster): void
    {
        [$alice, $bob] = $this->two($cluster);
        $alice->lock(LOCK_EX);
        self::assertWouldBlock($bob, LOCK_EX, 'Alice has it');
        self::assertWouldBlock($bob, LOCK_SH, 'She has it alone');
        $alice->unlock();

        self::assertGets($bob, LOCK_EX, 'Alice is done');
    }

    /** @dataProvider backends */
    public function testReadersShareAndExcludeWriters(Cluster $cluster): void
    {
        [$alice, $bob] = $this->two($cluster);
        $carol = Handle::open($cluster->actor(), $this->file);
        $alice->lock(LOCK_SH);
        self::assertGets($bob, LOCK_SH, 'Readers share');
        self::assertWouldBlock($carol, LOCK_EX, 'Two are reading');
        $alice->unlock();
        self::assertWouldBlock($carol, LOCK_EX, 'One is reading');
        $bob->unlock();

        self::assertGets($carol, LOCK_EX, 'Nobody reads any more');
    }

    /** @dataProvider backends */
    public function testABlockingLockWaits(Cluster $cluster): void
    {
        [$alice, $bob] = $this->two($cluster);
        $alice->lock(LOCK_EX);
        $bob->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 1);
        self::assertFalse($bob->actor->isDone(), 'Bob should wait');
        $alice->unlock();

        self::assertTrue($bob->actor->end(), 'It is his turn');
        self::assertSame(0, $bob->wouldBlock(), 'He has it');
        self::assertWouldBlock($alice, LOCK_SH, 'Bob has it');
    }

    /** @dataProvider backends */
    public function testTheTimeOutOfABlockingLockIsASilentFalse(Cluster $cluster): void
    {
        [$alice, $bob] = $this->two($cluster);
        $alice->lock(LOCK_EX);
        $bob->actor->call('ini_set', 'cluster_lock.timeout', '0.3');
        foreach ([LOCK_EX, LOCK_SH] as $operation) {
            $outcome = $bob->try($operation);
            self::assertFalse($outcome->value(), 'Alice has it all the time');
            self::assertGreaterThanOrEqual(0.3, $outcome->seconds, 'Bob has waited');
            self::assertSame(1, $bob->wouldBlock(), 'It is held for longer than the wait');
        }
        self::assertSame([], $cluster->info($this->name)['waiters'], 'Who gave up does not wait');
        $alice->unlock();

        self::assertGets($bob, LOCK_EX, 'Nobody has it');
    }

    /** @dataProvider backends */
    public function testALockIsNotCounted(Cluster $cluster): void
    {
        [$alice, $bob] = $this->two($cluster);
        for ($i = 0; $i < 3; $i++) {
            self::assertTrue($alice->lock(LOCK_EX), 'It has the lock already');
        }
        self::assertTrue($alice->unlock(), 'One unlock for three locks');

        self::assertGets($bob, LOCK_EX, 'Alice has unlocked');
    }

    /** @dataProvider backends */
    public function testUnlockingWhatIsNotLockedIsTrueAndDoesNothing(Cluster $cluster): void
    {
        [$alice, $bob] = $this->two($cluster);
        self::assertTrue($bob->unlock(), 'As flock() says');
        $alice->lock(LOCK_EX);
        self::assertTrue($bob->unlock(), 'It is not his');

        self::assertWouldBlock($bob, LOCK_EX, 'Alice still has it');
    }

    /** @dataProvider backends */
    public function testTheListShowsWhoHoldsTheFile(Cluster $cluster): void
    {
        [$alice, $bob] = $this->two($cluster);
        $alice->lock(LOCK_EX);
        [$lock] = $cluster->observer()->call('cluster_lock_list', 'file:');
        self::assertSame([$this->name, 'exclusive'], [$lock['name'], $lock['mode']], 'The lock');
        self::assertSame([$alice->actor->pid()], array_column($lock['holders'], 'pid'), 'Alice holds it');
        $held = $alice->actor->call('cluster_lock_status')['held'];
        self::assertSame([$this->name], array_column($held, 'name'), 'It is one of the locks of the request');

        $alice->lock(LOCK_SH);
        $bob->lock(LOCK_SH);
        [$lock] = $cluster->observer()->call('cluster_lock_list', 'file:');
        self::assertSame('shared', $lock['mode'], 'They share');
        self::assertEqualsCanonicalizing(
            [$alice->actor->pid(), $bob->actor->pid()],
            array_column($lock['holders'], 'pid'),
            'Two hold it'
        );
        $alice->unlock();
        $bob->unlock();
        self::assertSame([], $cluster->observer()->call('cluster_lock_list', 'file:'), 'Nobody holds it');
    }

    /** @dataProvider backends */
    public function testItIsTheLockOfThatName(Cluster $cluster): void
    {
        [$alice, $bob] = $this->two($cluster);
        $alice->lock(LOCK_EX);
        self::assertFalse($bob->actor->call('cluster_lock', $this->name, 0), 'It is one lock by whatever function');
        $alice->unlock();
        self::assertTrue($bob->actor->call('cluster_lock', $this->name, 0), 'Alice is done');

        self::assertWouldBlock($alice, LOCK_EX, 'Bob has it by its name');
    }

    /** @dataProvider backends */
    public function testTwoFilesAreTwoLocks(Cluster $cluster): void
    {
        $alice = Handle::open($cluster->actor(), $this->file);
        $bob = Handle::open($cluster->actor(), "{$this->dir}/other");
        $alice->lock(LOCK_EX);

        self::assertGets($bob, LOCK_EX, 'Another file is another lock');
    }

    public function testItIsServedInTurn(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $this->two($cluster);
        $carol = Handle::open($cluster->actor(), $this->file);
        $alice->lock(LOCK_EX);
        $bob->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 1);
        $carol->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 2);
        $alice->unlock();
        self::assertTrue($bob->actor->end(), 'Bob came first');
        self::assertFalse($carol->actor->isDone(), 'Carol came later');
        $bob->unlock();

        self::assertTrue($carol->actor->end(), 'Then it is her turn');
    }

    /** @return array{Handle, Handle} the file, open in two processes */
    private function two(Cluster $cluster): array
    {
        return array_map(fn ($actor) => Handle::open($actor, $this->file), $cluster->actors(2));
    }
}
