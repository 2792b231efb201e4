<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * The holder of a name is the fiber, and outside of fibers the request. Another fiber cannot wait for it, since waiting
 * would stop both: it is told so.
 */
final class FibersTest extends TestCase
{
    /** @dataProvider backends */
    public function testFibersExcludeOneAnother(Cluster $cluster): void
    {
        $said = $this->saidBy($cluster, <<<'PHP'
            $first = new Fiber(static function () {
                say(cluster_lock('a'));
                Fiber::suspend();
                say(cluster_lock('a', 0) && cluster_unlock('a'));
                say(cluster_lock_fence('a') !== null);
                say(cluster_unlock('a'));
            });
            $second = new Fiber(static function () {
                say(cluster_lock('a', 0));
                say(cluster_lock('a', 30));
                say(cluster_unlock('a'));
                say(cluster_lock_fence('a') === null);
                Fiber::suspend();
                say(cluster_lock('a', 0) && cluster_unlock('a'));
            });
            $first->start();
            $second->start();
            say(cluster_lock('a', 0));
            $first->resume();
            $second->resume();
            PHP);

        self::assertSame([
            'true',
            'false',
            'cluster_lock(): Lock "a": another fiber of this request has it: waiting here would stop that fiber, too',
            'false',
            'cluster_unlock(): Lock "a": is held by another fiber of this request, which alone can give it back',
            'false',
            'true',
            'false',
            'true',
            'true',
            'true',
            'true',
        ], $said);
    }

    /** @dataProvider backends */
    public function testNoChangeIsLostBetweenFibers(Cluster $cluster): void
    {
        $said = $this->saidBy($cluster, <<<'PHP'
            $count = 0;
            $refused = 0;
            $work = static function () use (&$count, &$refused) {
                while (true) {
                    try {
                        cluster_synchronized('a', static function () use (&$count) {
                            $before = $count;
                            Fiber::suspend();
                            $count = $before + 1;
                        });
                        return;
                    } catch (ClusterLockException $e) {
                        $refused += (int) str_contains($e->getMessage(), 'another fiber of this request');
                        Fiber::suspend();
                    }
                }
            };
            $fibers = array_map(static fn () => new Fiber($work), range(1, 4));
            array_walk($fibers, static fn ($fiber) => $fiber->start());
            while ($fibers = array_filter($fibers, static fn ($fiber) => !$fiber->isTerminated())) {
                array_walk($fibers, static fn ($fiber) => $fiber->resume());
            }
            say($count);
            say($refused > 0);
            PHP);

        self::assertSame(['4', 'true'], $said);
    }

    /** @dataProvider backends */
    public function testAFibersLockGuardsItsOwnWriteAlone(Cluster $cluster): void
    {
        $file = var_export(TempDir::forTest() . '/file', true);
        $said = $this->saidBy($cluster, "\$file = $file;" . <<<'PHP'
            $fiber = new Fiber(static function () use ($file) {
                cluster_lock('a') || exit('not locked');
                Fiber::suspend();
                say(cluster_file_put_contents($file, 'x', 0, 'a'));
            });
            $fiber->start();
            say(cluster_file_put_contents($file, 'y', 0, 'a'));
            $fiber->resume();
            PHP);

        self::assertSame(
            ['cluster_file_put_contents(): Lock "a": is not held by this request', 'false', '1'],
            $said
        );
    }

    /** @dataProvider backends */
    public function testWhatAFiberLeavesBehindIsTheRequests(Cluster $cluster): void
    {
        $said = $this->saidBy($cluster, <<<'PHP'
            (new Fiber(static fn () => cluster_lock('a')))->start();
            gc_collect_cycles();
            // The next fiber may stand where that one stood.
            (new Fiber(static fn () => say(cluster_lock('a', 0))))->start();
            say(cluster_unlock('a'));
            PHP);

        self::assertSame(['false', 'true'], $said);
        $cluster->assertFree('a', 'It was given back');
    }

    /** @return list<string> what the code says, and what it is warned of */
    private function saidBy(Cluster $cluster, string $code): array
    {
        $process = $cluster->process(
            'set_error_handler(static function (int $level, string $message) { say($message); return true; });' . $code
        );
        self::assertSame(0, $process->wait(), $process->transcript());

        return explode("\n", rtrim($process->output(), "\n"));
    }
}
