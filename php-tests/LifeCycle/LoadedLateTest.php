<?php

declare(strict_types=1);

namespace ClusterLock\Tests\LifeCycle;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * The extension is loaded by dl(), in the middle of a request.
 */
final class LoadedLateTest extends TestCase
{
    /** @dataProvider modes */
    public function testItLocksStreamsToo(string $mode): void
    {
        $cluster = Cluster::redis();
        $file = TempDir::forTest() . '/file';
        touch($file);
        // dl() takes a name in extension_dir, and no settings that are given when PHP starts but those of an extension.
        $settings = '';
        foreach ($cluster->settings(['cluster_lock.flock_mode' => $mode]) as $name => $value) {
            $settings .= " -d $name=" . escapeshellarg((string) $value);
        }
        $so = Php::library();
        $code = 'echo json_encode([dl($argv[2]), cluster_flock($GLOBALS["h"] = fopen($argv[1], "c+"), LOCK_EX),'
            . ' array_column(cluster_lock_list(), "name")]), "\n"; fgets(STDIN); fclose($h);'
            . ' echo json_encode(cluster_lock_list());';
        $command = escapeshellarg(PHP_BINARY) . " -n -d enable_dl=1 -d extension_dir=" . escapeshellarg(dirname($so))
            . "$settings -r " . escapeshellarg($code) . ' -- ' . escapeshellarg($file) . ' ' . escapeshellarg(basename($so));
        $process = proc_open("exec $command", [['pipe', 'r'], ['pipe', 'w'], STDERR], $pipes);
        self::assertSame(json_encode([true, true, ["file:$file"]]), rtrim((string) fgets($pipes[1]), "\n"));
        $other = $cluster->actor(['cluster_lock.flock_mode' => $mode]);
        self::assertFalse($other->call('cluster_lock', "file:$file", 0), 'Others find it locked');
        fwrite($pipes[0], "go on\n");
        self::assertSame('[]', stream_get_contents($pipes[1]), 'No lock stays');
        array_map(fclose(...), $pipes);

        self::assertSame(0, proc_close($process));
    }

    /** @return array<string, array{string}> */
    public static function modes(): array
    {
        return ['gate' => ['gate'], 'replace' => ['replace']];
    }
}
