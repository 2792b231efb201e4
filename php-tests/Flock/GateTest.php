<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\KernelLocks;
use ClusterLock\Tests\Support\Plain;
use ClusterLock\Tests\Support\SystemCalls;
use ClusterLock\Tests\Support\Until;

/**
 * In the mode "gate", a PHP without the extension is excluded as well; in the mode "replace" it is not.
 */
final class GateTest extends FlockTestCase
{
    public function testItIsTheDefault(): void
    {
        $actor = Cluster::redis()->actor();

        self::assertSame('gate', $actor->call('ini_get', 'cluster_lock.flock_mode'), 'The safe mode');
    }

    public function testAPlainProcessIsKeptOut(): void
    {
        $mine = Handle::open(Cluster::redis()->actor(), $this->file);
        $plain = $this->plain();
        $mine->lock(LOCK_EX);
        self::assertWouldBlock($plain, LOCK_EX, 'The gate is closed');
        self::assertWouldBlock($plain, LOCK_SH, 'The gate is closed');
        $mine->lock(LOCK_SH);
        self::assertWouldBlock($plain, LOCK_EX, 'There is a reader');
        self::assertGets($plain, LOCK_SH, 'Readers share');
        $plain->unlock();
        $mine->unlock();

        self::assertGets($plain, LOCK_EX, 'The gate is open');
    }

    public function testAPlainProcessWaits(): void
    {
        foreach (['cluster_flock($h, LOCK_UN);', 'fclose($h);'] as $end) {
            $mine = Handle::open(Cluster::redis()->actor(), $this->file);
            $plain = $this->plain();
            $mine->lock(LOCK_EX);
            $plain->begin(LOCK_EX);
            KernelLocks::awaitWaiter($plain->actor->pid());
            $mine->run($end);

            self::assertTrue($plain->actor->end(), 'It is its turn');
            $plain->close();
        }
    }

    public function testAPlainProcessWaitsUntilARequestEnds(): void
    {
        $cluster = Cluster::redis();
        $plain = $this->plain('r');
        $process = $cluster->process(
            '$h = fopen(' . var_export($this->file, true) . ', "w"); cluster_flock($h, LOCK_EX);'
            . 'stream_filter_append($h, "convert.base64-encode", STREAM_FILTER_WRITE); fwrite($h, "abcd"); say("written"); hear();'
        );
        $process->expect('written');
        $plain->beginRun('return flock($h, LOCK_SH) ? stream_get_contents($h) : false;');
        KernelLocks::awaitWaiter($plain->actor->pid());
        $process->tell('end');

        self::assertSame('YWJjZA==', $plain->actor->end(), 'Flushed first, then released');
    }

    public function testAPlainHolderIsNotDisturbed(): void
    {
        $cluster = Cluster::redis();
        $mine = Handle::open($cluster->actor(), $this->file);
        $plain = $this->plain();
        $plain->lock(LOCK_EX);
        self::assertWouldBlock($mine, LOCK_EX, 'A process without the extension has it');
        self::assertWouldBlock($mine, LOCK_SH, 'A process without the extension has it');
        self::assertNull($cluster->info($this->name), 'Who did not get it holds no half of it');
        $plain->lock(LOCK_SH);
        self::assertWouldBlock($mine, LOCK_EX, 'It reads');
        self::assertGets($mine, LOCK_SH, 'Readers share');
        $mine->unlock();
        $plain->unlock();

        self::assertGets($mine, LOCK_EX, 'Nobody has it');
    }

    public function testAPlainHolderIsAwaited(): void
    {
        $cluster = Cluster::redis();
        $mine = Handle::open($cluster->actor(), $this->file);
        $plain = $this->plain();
        $plain->lock(LOCK_EX);
        $mine->begin(LOCK_EX);
        $cluster->awaitHolder($this->name, $mine->actor->pid());
        self::assertFalse($mine->actor->isDone(), 'One half of the lock is not enough');
        $plain->unlock();

        self::assertTrue($mine->actor->end(), 'Now it has both');
        self::assertSame(0, $mine->wouldBlock(), 'It has it');
    }

    public function testAPlainHolderIsAwaitedNoLongerThanTheTimeOut(): void
    {
        $cluster = Cluster::redis();
        $mine = Handle::open($cluster->actor(['cluster_lock.timeout' => '0.3']), $this->file);
        $plain = $this->plain();
        $plain->lock(LOCK_EX);
        $outcome = $mine->try(LOCK_EX);

        self::assertFalse($outcome->value(), 'It was not to be had');
        self::assertGreaterThanOrEqual(0.3, $outcome->seconds, 'It has waited');
        self::assertNull($cluster->info($this->name), 'It holds nothing');
        $plain->unlock();
        self::assertGets($mine, LOCK_EX, 'Nobody has it');
    }

    public function testTheLeaseIsKeptWhileAPlainHolderIsAwaited(): void
    {
        $cluster = Cluster::redis();
        $settings = ['cluster_lock.ttl' => '1.5'];
        $mine = Handle::open($cluster->actor($settings), $this->file);
        $other = Handle::open($cluster->actor($settings), $this->file);
        $plain = $this->plain();
        $plain->lock(LOCK_EX);
        $mine->begin(LOCK_EX);
        $cluster->awaitHolder($this->name, $mine->actor->pid());
        $fence = $cluster->info($this->name)['fence'];
        $other->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 1);
        $since = $cluster->info($this->name)['since'];
        Until::true(
            static fn () => microtime(true) > $since + 4.5,
            'three leases should pass'
        );
        self::assertSame($fence, $cluster->info($this->name)['fence'] ?? null, 'It is still the same holder');
        $plain->unlock();

        self::assertTrue($mine->actor->end(), 'It came first');
        self::assertFalse($other->actor->isDone(), 'The other came later');
        self::assertTrue($mine->unlock(), 'It was held throughout');
        self::assertTrue($other->actor->end(), 'Then it is the turn of the other');
    }

    public function testTheProcessesThatWaitAtTheGateAreServedInTurn(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2);
        $first = Handle::open($alice, $this->file);
        $second = Handle::open($bob, $this->file);
        $plain = $this->plain();
        $plain->lock(LOCK_EX);
        $first->begin(LOCK_EX);
        $cluster->awaitHolder($this->name, $alice->pid());
        $second->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 1);
        $plain->unlock();

        self::assertTrue($alice->end(), 'She came first');
        $first->unlock();
        self::assertTrue($bob->end(), 'He came later');
    }

    /** @return array<string, array{string, int, int}> how the file is opened, mode of the lock, what excludes it */
    public static function handlesThatNfsWouldRefuse(): array
    {
        return ['exclusive to read' => ['r', LOCK_EX, LOCK_SH], 'shared to write' => ['c', LOCK_SH, LOCK_EX]];
    }

    /** @dataProvider handlesThatNfsWouldRefuse */
    public function testAnyHandleWillDoForAnyLock(string $open, int $mine, int $theirs): void
    {
        $cluster = Cluster::redis();
        $handle = Handle::open($cluster->actor(), $this->file, $open);
        $other = Handle::open($cluster->actor(), $this->file);
        $plain = $this->plain();
        self::assertTrue($handle->lock($mine), 'As on a local disk');
        self::assertWouldBlock($other, $theirs, 'The cluster knows');
        self::assertWouldBlock($plain, $theirs, 'The kernel knows');
        self::assertTrue($handle->unlock(), 'It can be unlocked');

        self::assertGets($plain, LOCK_EX, 'Nobody has it');
    }

    /** @dataProvider modes */
    public function testALocalFileIsNeitherSyncedNorForgotten(string $mode): void
    {
        $cluster = Cluster::redis();
        $actor = $cluster->actor(['cluster_lock.flock_mode' => $mode, 'cluster_lock.intercept' => $this->dir]);
        $calls = SystemCalls::of($actor, 'fsync,fdatasync,fadvise64,flock', function (Actor $actor): void {
            $mine = Handle::open($actor, $this->file);
            foreach ([LOCK_SH, LOCK_EX, LOCK_UN, LOCK_EX] as $operation) {
                $mine->lock($operation);
                $mine->run('return fwrite($h, "data");');
            }
            $mine->close();
            $actor->call('file_put_contents', $this->file, 'data', LOCK_EX);
        });

        self::assertDoesNotMatchRegularExpression('/sync|fadvise/', $calls, 'Local files are coherent by themselves');
        $locks = substr_count($calls, 'flock(');
        self::assertSame($mode === 'gate', $locks > 0, "The kernel's lock stands behind the gate");
    }

    public function testReplaceDoesWithoutTheKernel(): void
    {
        $replacing = Cluster::redis()->actor(['cluster_lock.flock_mode' => 'replace']);
        $mine = Handle::open($replacing, $this->file);
        $plain = $this->plain();
        $plain->lock(LOCK_EX);
        self::assertGets($mine, LOCK_EX, 'A plain holder does not count');
        self::assertFalse(KernelLocks::isHolding($replacing->pid()), 'The kernel is not asked');
        $plain->unlock();

        self::assertGets($plain, LOCK_EX, 'The kernel knows of nobody');
    }

    public function testTheTwoModesExcludeEachOther(): void
    {
        $cluster = Cluster::redis();
        $gate = Handle::open($cluster->actor(), $this->file);
        $replace = Handle::open($cluster->actor(['cluster_lock.flock_mode' => 'replace']), $this->file);
        $gate->lock(LOCK_EX);
        self::assertWouldBlock($replace, LOCK_EX, 'It is one cluster lock');
        $gate->unlock();
        $replace->lock(LOCK_EX);

        self::assertWouldBlock($gate, LOCK_EX, 'It is one cluster lock');
    }

    private function plain(string $mode = 'c+'): Handle
    {
        return Handle::open(Plain::actor(), $this->file, $mode, 'flock');
    }
}
