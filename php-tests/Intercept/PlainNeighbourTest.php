<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\KernelLocks;
use ClusterLock\Tests\Support\Plain;

/**
 * While not every node has the extension: the gate excludes PHP without it.
 */
final class PlainNeighbourTest extends FlockTestCase
{
    public function testBothExcludeEachOther(): void
    {
        $mine = $this->intercepted();
        $plain = $this->plain();
        foreach ([[$mine, $plain], [$plain, $mine]] as [$holder, $other]) {
            foreach ([[LOCK_EX, LOCK_SH], [LOCK_EX, LOCK_EX], [LOCK_SH, LOCK_EX]] as [$held, $wanted]) {
                $holder->lock($held);
                self::assertWouldBlock($other, $wanted, 'It is held');
                $holder->unlock();
                self::assertGets($other, $wanted, 'It is free');
                $other->unlock();
            }
        }
        $mine->lock(LOCK_SH);
        self::assertGets($plain, LOCK_SH, 'Readers share');
    }

    public function testThePlainOneWaits(): void
    {
        $mine = $this->intercepted();
        $plain = $this->plain();
        $mine->lock(LOCK_EX);
        $plain->beginRun('return flock($h, LOCK_EX) ? stream_get_contents($h) : false;');
        KernelLocks::awaitWaiter($plain->actor->pid());
        $mine->run('ftruncate($h, 0); fwrite($h, "written"); fclose($h);');

        self::assertSame('written', $plain->actor->end(), 'It is its turn');
    }

    public function testThePlainOneIsAwaited(): void
    {
        $cluster = Cluster::redis();
        $mine = $this->intercepted($cluster);
        $plain = $this->plain();
        $plain->lock(LOCK_EX);
        $mine->beginRun('return flock($h, LOCK_EX) ? stream_get_contents($h) : false;');
        $cluster->awaitHolder($this->name, $mine->actor->pid());
        self::assertFalse($mine->actor->isDone(), 'It is held');
        $plain->run('ftruncate($h, 0); fwrite($h, "written"); fclose($h);');

        self::assertSame('written', $mine->actor->end(), 'It is its turn');
    }

    public function testThePlainOneIsAwaitedNoLongerThanTheTimeOut(): void
    {
        $cluster = Cluster::redis();
        $mine = $this->intercepted($cluster, ['cluster_lock.timeout' => '0.3']);
        $plain = $this->plain();
        $plain->lock(LOCK_EX);
        self::assertFalse($mine->lock(LOCK_EX), 'It was not to be had');
        self::assertNull($cluster->info($this->name), 'It holds nothing');
        $plain->unlock();

        self::assertGets($mine, LOCK_EX, 'It is free');
    }

    public function testFilePutContentsWaitsForBoth(): void
    {
        $mine = $this->intercepted();
        $plain = $this->plain();
        $mine->lock(LOCK_EX);
        $plain->actor->begin('file_put_contents', $this->file, 'plain', LOCK_EX);
        KernelLocks::awaitWaiter($plain->actor->pid());
        self::assertSame('content', file_get_contents($this->file), 'It is held');
        $mine->unlock();
        self::assertSame(5, $plain->actor->end(), 'It is its turn');

        $plain->lock(LOCK_EX);
        $mine->actor->begin('file_put_contents', $this->file, 'intercepted', LOCK_EX);
        self::assertSame('plain', file_get_contents($this->file), 'It is held');
        $plain->unlock();
        self::assertSame(11, $mine->actor->end(), 'It is its turn');
        self::assertSame('intercepted', file_get_contents($this->file), 'It has written');
    }

    public function testReplaceIsForThoseWhoAllHaveTheExtension(): void
    {
        $mine = $this->intercepted(null, ['cluster_lock.flock_mode' => 'replace']);
        $plain = $this->plain();
        $plain->lock(LOCK_EX);
        self::assertGets($mine, LOCK_EX, 'The kernel\'s lock does not count');
        $plain->unlock();

        self::assertGets($plain, LOCK_EX, 'The cluster\'s does not, either');
    }

    /** @param array<string, string> $settings */
    private function intercepted(?Cluster $cluster = null, array $settings = []): Handle
    {
        $actor = ($cluster ?? Cluster::redis())->actor($settings + ['cluster_lock.intercept' => $this->dir]);

        return Handle::open($actor, $this->file, 'c+', 'flock');
    }

    private function plain(): Handle
    {
        return Handle::open(Plain::actor(), $this->file, 'c+', 'flock');
    }
}
