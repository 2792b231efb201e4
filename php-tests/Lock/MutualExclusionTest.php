<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * At most one holder, whatever the load: the reason for all this.
 */
final class MutualExclusionTest extends TestCase
{
    /** @dataProvider backends */
    public function testNoUpdateOfACounterIsLost(Cluster $cluster): void
    {
        $file = TempDir::forTest() . '/counter';
        file_put_contents($file, '0');
        $actors = $cluster->actors(6);
        foreach ($actors as $actor) {
            $actor->beginRun(<<<'PHP'
                for ($i = 0; $i < 100; $i++) {
                    cluster_lock('counter', 60) || throw new Exception('no lock');
                    file_put_contents($file, (string) ((int) file_get_contents($file) + 1));
                    cluster_unlock('counter') || throw new Exception('lost');
                }
                return true;
                PHP, file: $file);
        }
        foreach ($actors as $actor) {
            self::assertTrue($actor->end(60), 'All turns should be had');
        }

        self::assertSame('600', file_get_contents($file), 'Each increment should have survived');
    }

    /** @dataProvider backends */
    public function testReadersNeverSeeAWriterAtWork(Cluster $cluster): void
    {
        $dir = TempDir::forTest();
        file_put_contents("$dir/a", '0');
        file_put_contents("$dir/b", '0');
        $write = <<<'PHP'
            for ($i = 1; $i <= 60; $i++) {
                cluster_lock('pair', 60) || throw new Exception('no lock');
                $n = 1 + (int) file_get_contents("$dir/a");
                file_put_contents("$dir/a", (string) $n);
                usleep(100);
                file_put_contents("$dir/b", (string) $n);
                cluster_unlock('pair') || throw new Exception('lost');
            }
            return 0;
            PHP;
        $read = <<<'PHP'
            for ($torn = 0, $i = 1; $i <= 60; $i++) {
                cluster_lock('pair', 60, LOCK_SH) || throw new Exception('no lock');
                $torn += (int) (file_get_contents("$dir/a") !== file_get_contents("$dir/b"));
                cluster_unlock('pair') || throw new Exception('lost');
            }
            return $torn;
            PHP;
        $actors = $cluster->actors(6);
        foreach ($actors as $i => $actor) {
            $actor->beginRun($i < 2 ? $write : $read, dir: $dir);
        }

        self::assertSame([0, 0, 0, 0, 0, 0], array_map(static fn (Actor $a) => $a->end(60), $actors), 'Torn reads');
        self::assertSame('120', file_get_contents("$dir/b"), 'All writes should have survived');
    }
}
