<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\Until;

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

    /** @return array<string, array{int}> */
    public static function operations(): array
    {
        return ['shared' => [LOCK_SH], 'exclusive again' => [LOCK_EX]];
    }

    /**
     * The file is known by its new name, under which Bob has the cluster lock and waits for the kernel's.
     *
     * @dataProvider modes
     */
    public function testARenamedFileIsLockedOnAtOnce(string $mode): void
    {
        if ($mode === 'replace') {
            self::markTestSkipped('There is no kernel\'s lock: under two names they do not exclude each other');
        }
        $cluster = Cluster::redis();
        [$a, $b] = $cluster->actors(2, ['cluster_lock.flock_mode' => $mode, 'cluster_lock.timeout' => '20']);
        $alice = Handle::open($a, $this->file);
        $alice->lock(LOCK_EX);
        rename($this->file, "{$this->file}.new");
        $bob = Handle::open($b, "{$this->file}.new");
        $bob->begin(LOCK_EX);
        $cluster->awaitHolder("{$this->name}.new", $b->pid());
        foreach ([LOCK_SH, LOCK_SH, LOCK_SH | LOCK_NB] as $operation) {
            self::assertTrue($alice->lock($operation), 'Alice has it, and goes on having it');
            self::assertFalse($b->isDone(), 'Bob waits for Alice');
        }
        self::assertTrue($alice->unlock(), 'It was hers all the time');

        self::assertTrue($b->end(), 'Now it is the turn of Bob');
        self::assertWouldBlock($alice, LOCK_SH, 'Bob has it');
        $bob->unlock();
        self::assertFreeFor($alice, 'No lock stays');
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'No lock stays');
    }

    /** @dataProvider operations */
    public function testALockThatWasLostIsHadAgainAtOnceWhereTheKernelKeptIt(int $operation): void
    {
        $cluster = Cluster::redis();
        $a = $cluster->actor(['cluster_lock.auto_renew' => '0', 'cluster_lock.ttl' => '0.1']);
        $b = $cluster->actor(['cluster_lock.timeout' => '20']);
        [$alice, $bob] = [Handle::open($a, $this->file), Handle::open($b, $this->file)];
        $alice->lock(LOCK_EX);
        $bob->begin(LOCK_EX);
        $cluster->awaitHolder($this->name, $b->pid());
        $outcome = $alice->try($operation);

        self::assertTrue($outcome->value, 'The kernel\'s lock has kept Bob out');
        self::assertStringContainsString("Lock \"{$this->name}\": it was held and is lost", $outcome->messages());
        self::assertFalse($b->isDone(), 'Bob waits for Alice');
        self::assertTrue($alice->unlock(), 'The kernel\'s lock was hers');
        self::assertTrue($b->end(), 'Now it is the turn of Bob');
    }

    public function testALockFromBeforeTheServerCameBackIsConvertedAtOnce(): void
    {
        $server = RedisServer::down();
        $cluster = Cluster::redis($server);
        [$a, $b] = $cluster->actors(2, ['cluster_lock.timeout' => '20', 'cluster_lock.retry_after' => '0.1']);
        [$alice, $bob] = [Handle::open($a, $this->file), Handle::open($b, $this->file)];
        self::assertTrue($alice->try(LOCK_EX)->value, 'By the kernel\'s lock alone');
        $server->start();
        $bob->begin(LOCK_EX);
        $cluster->awaitHolder($this->name, $b->pid());
        Until::true(fn () => is_array($a->try('cluster_lock_info', $this->name)->value), 'Alice should reach it, too');

        self::assertTrue($alice->lock(LOCK_SH), 'It becomes a shared one');
        self::assertFalse($b->isDone(), 'Bob waits for Alice');
        self::assertTrue($alice->unlock(), 'The kernel\'s lock was hers');
        self::assertTrue($b->end(), 'Now it is the turn of Bob');
    }

    /** @return array{Cluster, Handle, Handle} the file, open in two processes */
    private function two(string $mode): array
    {
        $cluster = Cluster::redis();
        $actors = $cluster->actors(2, ['cluster_lock.flock_mode' => $mode, 'cluster_lock.timeout' => '10']);

        return [$cluster, ...array_map(fn ($actor) => Handle::open($actor, $this->file), $actors)];
    }
}
