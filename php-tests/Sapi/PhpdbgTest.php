<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Sapi;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\Sapis;
use ClusterLock\Tests\Support\Script;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * phpdbg, PHP's debugger, which runs a script as often as it is told to in one process.
 */
final class PhpdbgTest extends TestCase
{
    private const SCRIPT = <<<'PHP'
        cluster_lock('job', 60) || exit('not locked');
        $object = new ClusterLock('object');
        $object->acquire(60) || exit('not locked');
        $file = fopen(__FILE__ . '.lock', 'c');
        cluster_flock($file, LOCK_EX) || exit('not locked');
        echo 'held by ', PHP_SAPI, "\n";
        PHP;

    /** @dataProvider backends */
    public function testAScriptLocksAndLeavesNothing(Cluster $cluster): void
    {
        $process = $this->phpdbg($cluster, ['-qrr']);
        $process->wait();

        self::assertSame("held by phpdbg\n", $process->output(), $process->transcript());
        $cluster->assertFree('job', 'The script is over');
        $cluster->assertFree('object', 'The script is over');
    }

    /** After "clean" PHP has been ended and started anew, in the same process. */
    public function testEachRunIsARequest(): void
    {
        $cluster = Cluster::redis();
        $process = $this->phpdbg($cluster, ['-q']);
        foreach (['run', 'run', 'clean', 'run', 'quit'] as $order) {
            $process->tell($order);
        }
        $process->wait();

        self::assertStringContainsString('Cleaning Execution Environment', $process->output());
        self::assertSame(3, substr_count($process->output(), 'held by phpdbg'), $process->transcript());
        $cluster->assertClean($process);
    }

    /** @param list<string> $options */
    private function phpdbg(Cluster $cluster, array $options): PhpProcess
    {
        return PhpProcess::program([
            Sapis::phpdbg(),
            ...Php::options($cluster->settings(['cluster_lock.ttl' => '60'])),
            ...$options,
            Script::in(TempDir::forTest(), self::SCRIPT),
        ]);
    }
}
