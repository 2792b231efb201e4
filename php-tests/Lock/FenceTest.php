<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * Fencing tokens: strictly increasing over all holders of a name.
 */
final class FenceTest extends TestCase
{
    /** @dataProvider backends */
    public function testItIsNullUnlessHeld(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        self::assertNull($alice->call('cluster_lock_fence', 'job'), 'Not yet held');
        $alice->call('cluster_lock', 'job');

        self::assertIsInt($alice->call('cluster_lock_fence', 'job'), 'A held lock has a fence');
        self::assertGreaterThan(0, $alice->call('cluster_lock_fence', 'job'), 'Fences are positive');
        self::assertNull($bob->call('cluster_lock_fence', 'job'), 'It is not Bob who holds it');
        $alice->call('cluster_unlock', 'job');
        self::assertNull($alice->call('cluster_lock_fence', 'job'), 'No longer held');
    }

    /** @dataProvider backends */
    public function testItGrowsInOneProcess(Cluster $cluster): void
    {
        $fences = $cluster->actor()->run(<<<'PHP'
            for ($fences = [], $i = 0; $i < 200; $i++) {
                cluster_lock('job', 0) || exit('not locked');
                $fences[] = cluster_lock_fence('job');
                cluster_unlock('job');
            }
            return $fences;
            PHP);

        self::assertStrictlyIncreasing($fences);
    }

    /** @dataProvider backends */
    public function testItGrowsOverProcesses(Cluster $cluster): void
    {
        $file = TempDir::forTest() . '/fences';
        touch($file);
        $actors = $cluster->actors(4);
        foreach ($actors as $actor) {
            $actor->beginRun(<<<'PHP'
                for ($i = 0; $i < 50; $i++) {
                    cluster_lock('job', 60) || throw new Exception('no lock');
                    file_put_contents($file, cluster_lock_fence('job') . "\n", FILE_APPEND);
                    cluster_unlock('job') || throw new Exception('lost');
                }
                return true;
                PHP, file: $file);
        }
        array_map(static fn (Actor $a) => $a->end(60), $actors);
        $fences = array_map('intval', file($file));

        self::assertCount(200, $fences, 'All turns should be had');
        self::assertStrictlyIncreasing($fences);
    }

    /** @dataProvider backends */
    public function testReadersHaveFencesOfTheirOwn(Cluster $cluster): void
    {
        $fences = [];
        foreach ($cluster->actors(4) as $reader) {
            $reader->call('cluster_lock', 'job', 0, LOCK_SH);
            $fences[] = $reader->call('cluster_lock_fence', 'job');
        }

        self::assertStrictlyIncreasing($fences);
        self::assertSame(
            $fences,
            array_column($cluster->info('job')['holders'], 'fence'),
            'cluster_lock_info() agrees'
        );
    }

    /** @dataProvider backends */
    public function testItGrowsAfterABreakAndAfterALostLease(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.auto_renew' => '0']);
        $alice->call('cluster_lock', 'job', 0);
        $fences = [$alice->call('cluster_lock_fence', 'job')];
        $bob->call('cluster_lock_break', 'job');
        $bob->call('cluster_lock', 'job', 0, LOCK_EX, 0.2);
        $fences[] = $bob->call('cluster_lock_fence', 'job');
        $alice->try('cluster_unlock', 'job');
        $alice->call('cluster_lock', 'job', 10);
        $fences[] = $alice->call('cluster_lock_fence', 'job');

        self::assertStrictlyIncreasing($fences);
    }

    /** @param list<int> $fences */
    private static function assertStrictlyIncreasing(array $fences): void
    {
        for ($i = 1; $i < count($fences); $i++) {
            self::assertGreaterThan($fences[$i - 1], $fences[$i], "Fence $i should be greater than the one before");
        }
    }
}
