<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;

/**
 * cluster_flock() and cluster_file_put_contents(LOCK_EX) exclude each other.
 */
final class AtomicWriteTest extends FlockTestCase
{
    /** @dataProvider backends */
    public function testAWriteWaitsForTheLockOfAHandle(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        foreach ([LOCK_EX, LOCK_SH] as $operation) {
            file_put_contents($this->file, 'old');
            $handle = Handle::open($alice, $this->file);
            $handle->lock($operation);
            $bob->begin('cluster_file_put_contents', $this->file, 'new', LOCK_EX);
            $cluster->awaitWaiters($this->name, 1);
            self::assertSame('old', file_get_contents($this->file), 'Alice has it');
            $handle->unlock();

            self::assertSame(3, $bob->end(), 'It is his turn');
            self::assertSame('new', file_get_contents($this->file), 'Bob has written');
            $handle->close();
        }
    }

    /** @dataProvider backends */
    public function testAHandleWaitsForAWrite(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $handle = Handle::open($bob, $this->file);
        $pipe = $this->beginSlowWrite($alice, $this->file, LOCK_EX);
        $cluster->awaitHolder($this->name, $alice->pid());
        self::assertWouldBlock($handle, LOCK_SH, 'Alice is writing');
        $handle->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 1);
        $this->finishSlowWrite($pipe);
        $alice->end();

        self::assertTrue($bob->end(), 'Alice has written');
    }
}
