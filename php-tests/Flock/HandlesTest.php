<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;

/**
 * Several handles on one file in one process are as independent as in several.
 */
final class HandlesTest extends FlockTestCase
{
    /** @dataProvider modes */
    public function testTheyExcludeEachOther(string $mode): void
    {
        [$first, $second] = $this->two($mode);
        $first->lock(LOCK_EX);
        self::assertWouldBlock($second, LOCK_EX, 'The first handle has it');
        self::assertWouldBlock($second, LOCK_SH, 'The first handle has it');
        $first->unlock();
        self::assertGets($second, LOCK_EX, 'The first is done');

        self::assertWouldBlock($first, LOCK_SH, 'Now the second has it');
    }

    /** @dataProvider modes */
    public function testTheyShare(string $mode): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.flock_mode' => $mode]);
        $first = Handle::open($alice, $this->file);
        $second = Handle::open($alice, $this->file);
        $other = Handle::open($bob, $this->file);
        $first->lock(LOCK_SH);
        self::assertGets($second, LOCK_SH, 'Readers share');
        $first->close();
        self::assertWouldBlock($other, LOCK_EX, 'The second handle still reads');
        $second->close();
        self::assertGets($other, LOCK_EX, 'Nobody reads any more');
    }

    /** @dataProvider modes */
    public function testAWaitForThisVeryProcessFailsAtOnceWithAWarning(string $mode): void
    {
        [$first, $second] = $this->two($mode, ['cluster_lock.timeout' => 'INF']);
        $wishes = [[LOCK_EX, LOCK_EX], [LOCK_EX, LOCK_SH], [LOCK_SH, LOCK_EX]];
        foreach ($wishes as [$held, $wanted]) {
            $first->lock($held);
            self::assertWarns($second->try($wanted), 'cluster_flock', $this->file);
            self::assertSame(0, $second->wouldBlock(), 'It is a failure');
            self::assertTrue($first->unlock(), 'The first handle has not lost its lock');
            self::assertGets($second, LOCK_EX, 'The second is as good as before');
            $second->unlock();
        }
    }

    public function testAWaitForThisVeryProcessThroughAHardLinkFailsAtOnceWithAWarning(): void
    {
        $alice = Cluster::redis()->actor(['cluster_lock.timeout' => 'INF']);
        link($this->file, "{$this->dir}/link");
        $first = Handle::open($alice, $this->file);
        $second = Handle::open($alice, "{$this->dir}/link");
        $first->lock(LOCK_EX);

        self::assertWarns($second->try(LOCK_EX), 'cluster_flock', "{$this->dir}/link");
        self::assertWouldBlock($second, LOCK_SH, 'As plain flock() has it');
        self::assertTrue($first->unlock(), 'The first handle has not lost its lock');
        self::assertGets($second, LOCK_EX, 'The second is as good as before');
    }

    /** @dataProvider modes */
    public function testAConversionThatCouldOnlyWaitForThisVeryProcessFailsAtOnceWithAWarning(string $mode): void
    {
        [$first, $second] = $this->two($mode, ['cluster_lock.timeout' => 'INF']);
        $first->lock(LOCK_SH);
        $second->lock(LOCK_SH);

        self::assertWarns($second->try(LOCK_EX), 'cluster_flock', $this->file);
    }

    /** @dataProvider modes */
    public function testAWaitForThisProcessAndAnotherFailsAtOnceToo(string $mode): void
    {
        $cluster = Cluster::redis();
        $alice = $cluster->actor(['cluster_lock.flock_mode' => $mode, 'cluster_lock.timeout' => 'INF']);
        $first = Handle::open($alice, $this->file);
        $second = Handle::open($alice, $this->file);
        $bob = Handle::open($cluster->actor(['cluster_lock.flock_mode' => $mode]), $this->file);
        $first->lock(LOCK_SH);
        $bob->lock(LOCK_SH);

        self::assertWarns($second->try(LOCK_EX), 'cluster_flock', $this->file);
    }

    public function testAnAtomicWriteUnderItsOwnHandlesLockDoesNotWaitForItself(): void
    {
        [$handle] = $this->two('gate', ['cluster_lock.timeout' => 'INF']);
        $handle->lock(LOCK_EX);
        $outcome = $handle->actor->try('cluster_file_put_contents', $this->file, 'new', LOCK_EX);

        self::assertStringContainsString($this->file, $outcome->warning(), 'Only this process could end that wait');
        self::assertSame('content', file_get_contents($this->file), 'Nothing is written');
    }

    public function testTheHandleOfALockByNameExcludes(): void
    {
        [$handle] = $this->two('gate');
        $handle->actor->call('cluster_lock', $this->name);

        self::assertWouldBlock($handle, LOCK_EX, 'What this request holds by name is not the handle\'s');
    }

    /**
     * @param array<string, string> $settings
     *
     * @return array{Handle, Handle} the file, open twice
     */
    private function two(string $mode, array $settings = []): array
    {
        $actor = Cluster::redis()->actor(['cluster_lock.flock_mode' => $mode] + $settings);

        return [Handle::open($actor, $this->file), Handle::open($actor, $this->file)];
    }
}
