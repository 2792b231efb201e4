<?php

declare(strict_types=1);

namespace ClusterLock\Tests\LifeCycle;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * Coroutines of Swoole and OpenSwoole are no fibers of PHP's: two of them would both hold a lock. They get none, and are
 * told so; what is no coroutine in a PHP with Swoole locks as ever.
 */
final class CoroutinesTest extends TestCase
{
    /** @dataProvider names */
    public function testACoroutineGetsNoLock(string $module, string $namespace): void
    {
        $cluster = Cluster::redis();
        $dir = TempDir::forTest();
        $code = <<<'PHP'
            <?php
            set_error_handler(static fn (int $level, string $message) => print("$message\n"));
            putenv('TEST_COROUTINE=-1');
            var_dump(cluster_lock('held'));
            putenv('TEST_COROUTINE=7');
            var_dump(cluster_lock('held'), cluster_lock('a', 0));
            try {
                (new ClusterLock('b'))->acquire();
            } catch (ClusterLockException $thrown) {
                echo $thrown->getMessage(), "\n";
            }
            var_dump(cluster_flock($file = fopen($argv[1], 'c'), LOCK_EX));
            var_dump(cluster_file_put_contents($argv[1], 'bytes', LOCK_EX), filesize($argv[1]));
            putenv('TEST_COROUTINE=-1');
            var_dump(cluster_flock($file, LOCK_EX | LOCK_NB), cluster_unlock('held'));
            PHP;
        file_put_contents("$dir/code.php", $code);
        $settings = $cluster->settings(['extension' => $this->compiled($dir, $module, $namespace)]);
        $process = PhpProcess::file("$dir/code.php", $settings, ["$dir/file"]);

        self::assertSame(0, $process->wait(), $process->transcript());
        $why = 'a coroutine of Swoole cannot hold a lock: all coroutines of the process would hold it together';
        self::assertSame([
            'bool(true)',
            "cluster_lock(): Lock \"held\": $why",
            "cluster_lock(): Lock \"a\": $why",
            'bool(false)',
            'bool(false)',
            "Lock \"b\": $why",
            "cluster_flock(): Lock \"file:$dir/file\": $why",
            'bool(false)',
            "cluster_file_put_contents(): Lock \"file:$dir/file\": $why",
            'bool(false)',
            'int(0)',
            'bool(true)',
            'bool(true)',
        ], explode("\n", trim($process->output())));
    }

    /** @return array<string, array{string, string}> module and namespace */
    public static function names(): array
    {
        return ['Swoole' => ['swoole', 'Swoole'], 'OpenSwoole' => ['openswoole', 'OpenSwoole']];
    }

    private function compiled(string $dir, string $module, string $namespace): string
    {
        $command = (getenv('CC') ?: 'cc') . ' -shared -fPIC -DCOMPILE_DL_COROUTINES -DZEND_ENABLE_STATIC_TSRMLS_CACHE=1 $(' .
            escapeshellarg(getenv('PHP_CONFIG') ?: 'php-config') . ' --includes) '
            . escapeshellarg("-DSWOOLE=\"$module\"") . ' ' . escapeshellarg("-DNAMESPACE=\"$namespace\"") . ' -o '
            . escapeshellarg("$dir/$module.so") . ' ' . escapeshellarg(dirname(__DIR__) . '/fixtures/coroutines.c') . ' 2>&1';
        exec($command, $output, $code);
        self::assertSame(0, $code, implode("\n", $output));

        return "$dir/$module.so";
    }
}
