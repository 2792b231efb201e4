<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Surface;

use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * The command cluster-lock reads the same php.ini as PHP does: it finds the lock that PHP holds, says who holds it, and
 * refuses to work with what PHP refuses. Where it has no PHP to ask it does the same, or says that it is not certain.
 */
final class CommandTest extends TestCase
{
    /** Takes a lock, looks for it by the command while it is held, and tells both. */
    private const CODE = <<<'CODE'
        $held = cluster_lock('x', 0.0);
        $node = $held ? cluster_lock_info('x')['holders'][0]['node'] : null;
        exec(getenv('TEST_COMMAND'), $said, $code);
        echo json_encode(['held' => $held, 'node' => $node, 'code' => $code, 'said' => implode("\n", $said)]);
        CODE;

    /** @return iterable<string, array{string}> the text of a php.ini, in which SERVER stands for one that is there */
    public static function texts(): iterable
    {
        $dsn = "cluster_lock.dsn = \"SERVER\"\n";
        $texts = [
            $dsn,
            "cluster_lock.dsn = 'SERVER'\n",
            "cluster_lock.dsn = SERVER ; not quoted\n",
            "cluster_lock.dsn = \"  SERVER  \"\n",
            "cluster_lock.dsn = \"\${TEST_SERVER}\"\n",
            "cluster_lock.dsn = \${TEST_SERVER}\n",
            "cluster_lock.dsn =\n",
            "cluster_lock.dsn = \"\"\n",
            "cluster_lock.dsn = \"  \"\n",
            "cluster_lock.dsn = none\n",
            "cluster_lock.dsn = nonsense\n",
            "cluster_lock.dsn = \"\${TEST_NONE}\"\n",
            "cluster_lock.dsn = SERVER?a=1\n",
            "\xef\xbb\xbf$dsn",
            "cluster_lock.dsn = \"redis://127.0.0.1:1\"\n[again]\n$dsn",
            "[PHP]\n{$dsn}[PHP]\n[HOST=example.org]\ncluster_lock.dsn = \"redis://127.0.0.1:1\"\n[PHP]\ncluster_lock.node=n\n",
            "{$dsn}cluster_lock.prefix = a:\n[PATH=/srv]\ncluster_lock.prefix = other:\n",
            "{$dsn}cluster_lock.prefix = a:\n[pathology]\ncluster_lock.prefix = other:\n",
            "[PHP]$dsn",
            "memory_limit=64M\n{$dsn}cluster_lock.node = \${memory_limit}\n",
            "$dsn error_reporting = E_ALL & ~E_DEPRECATED\ncluster_lock.node = n\n",
            "{$dsn}x = \"two\nlines\"\ncluster_lock.node = n\n",
            "{$dsn}cluster_lock.prefix = a:\nx = \"\ncluster_lock.prefix = other:\n\"\n",
            "{$dsn}x = a(b\n",
            "$dsn\rcluster_lock.node = n\r",
            "{$dsn}CLUSTER_LOCK.PREFIX = other:\n",
            "{$dsn};cluster_lock.prefix = other:\n#cluster_lock.prefix = other:\n",
        ];
        $values = [
            'prefix' => [
                '', '""', '"  "', 'none', 'null', 'app:', '" app: "', 'yes', 'false', 'a b', '"a{b"', 'a*', 'é', '-/_.',
                '"${TEST_NONE}"', '${TEST_NONE:-a}', str_repeat('a', 128), str_repeat('a', 129), 'PHP_OS', "'a\"b'", '"a\\"b"',
            ],
            'node' => [
                '', '""', '"  "', 'web1', 'two words', '" web1 "', 'PHP_OS', 'on', 'off', 'é', "\"a\tb\"", "\"\xff\"",
                '"${TEST_NONE:-web}"', str_repeat('n', 255), str_repeat('n', 256), 'C:\\x', '"C:\\x\\\\y"', '1', 'a"b"c',
            ],
            'connect_timeout' => [
                '', '""', '1', '0.5', '" 1 "', '1e0', '+1', '.5', '1.', '0', '-1', '0.0009999999', '3600',
                '3600.0000000001', '3601', 'INF', 'nan', 'abc', '1s', '1 2', 'on', 'off', '0x10', 'E_ERROR',
            ],
            'command_timeout' => ['', '2', '0', '0.0009999999', '3600.0000000001', 'soon'],
            'retry_after' => ['', '0', '-0', '3600', '3601', '1e-300', '-1', 'INF', 'x'],
            'pool_size' => ['', '1', '1024', '0', '1025', '1.5', '+8', '" 8 "', '-1', 'x'],
        ];
        foreach ($values as $name => $list) {
            foreach ($list as $value) {
                $texts[] = "{$dsn}cluster_lock.$name = $value\n";
            }
        }
        foreach ($texts as $text) {
            yield addcslashes($text, "\0..\37\177..\377") => [$text];
        }
    }

    /** @dataProvider texts */
    public function testItReadsAsPhpDoes(string $text): void
    {
        $server = RedisServer::shared();
        $dir = TempDir::forTest();
        $ini = "$dir/php.ini";
        file_put_contents($ini, str_replace('SERVER', $server->dsn(), $text));
        // The PHP under test is the one that it finds; or none.
        mkdir("$dir/bin");
        symlink(PHP_BINARY, "$dir/bin/php");
        foreach (['asked' => "$dir/bin", 'alone' => "$dir/none"] as $how => $path) {
            [$php, $complaints] = $this->both($ini, $path, $server->dsn());
            $shown = "$how: " . json_encode($php) . "\n$complaints";
            if ($php['held'] && $complaints === '') {
                // A thread-safe PHP takes no php.ini from a pipe, so it cannot be asked.
                if (($how === 'alone' || PHP_ZTS) && $php['code'] === 2) {
                    self::assertStringContainsString('cluster-lock has read it itself', $php['said'], $shown);
                    continue;
                }
                self::assertSame(0, $php['code'], $shown);
                $info = json_decode($php['said'], true, 16, JSON_THROW_ON_ERROR);
                self::assertTrue($info['held'], $shown);
                self::assertSame($php['node'], $info['lock']['holders'][0]['node'], $shown);
            } else {
                // What PHP falls back to with a warning nobody has asked for.
                self::assertSame(2, $php['code'], $shown);
                self::assertStringContainsString('cluster_lock.', $php['said'], $shown);
            }
        }
    }

    /** @return iterable<string, array{string, string}> a setting, and a php.ini in which it is not everybody's */
    public static function forSome(): iterable
    {
        yield 'server of a host' => ['dsn', "[HOST=a]\ncluster_lock.dsn = \"SERVER\"\n[PHP]\nx = y\n"];
        // To PHP, a section of a host lasts until the end of the file.
        yield 'server behind one' => ['dsn', "[HOST=a]\n[PHP]\ncluster_lock.dsn = \"SERVER\"\n"];
        yield 'prefix of a directory' => [
            'prefix', "cluster_lock.dsn = \"SERVER\"\n[PATH=/srv]\ncluster_lock.prefix = other:\n",
        ];
        yield 'what begins as one' => [
            'prefix', "cluster_lock.dsn = \"SERVER\"\n[pathology]\ncluster_lock.prefix = other:\n",
        ];
    }

    /** @dataProvider forSome */
    public function testWhatHoldsForSomeRequestsIsNotTakenForAllNorForNone(string $name, string $text): void
    {
        $server = RedisServer::shared();
        $ini = TempDir::forTest() . '/php.ini';
        file_put_contents($ini, str_replace('SERVER', $server->dsn(), $text));
        foreach (['asked' => dirname(PHP_BINARY), 'alone' => '/none'] as $how => $path) {
            [$php] = $this->both($ini, $path, $server->dsn());
            self::assertSame(2, $php['code'], "$how: {$php['said']}");
            self::assertStringContainsString("cluster_lock.$name is not set for all requests", $php['said'], $how);
        }
    }

    /** @return array{array{held: bool, node: ?string, code: int, said: string}, string} */
    private function both(string $ini, string $path, string $dsn): array
    {
        $command = getenv('CLUSTER_LOCK_COMMAND') ?: dirname(__DIR__, 2) . '/target/debug/cluster-lock';
        $line = 'PATH=' . escapeshellarg($path) . ' ' . escapeshellarg($command) . ' --php-ini ' . escapeshellarg($ini)
            . ' info --json x 2>&1 < /dev/null';
        $options = ['display_startup_errors=1', 'display_errors=stderr', 'log_errors=0', 'html_errors=0', 'memory_limit=128M'];
        $arguments = [PHP_BINARY, '-n', '-c', $ini, '-d', 'extension=' . Php::library()];
        foreach ($options as $option) {
            array_push($arguments, '-d', $option);
        }
        $process = proc_open(
            [...$arguments, '-r', self::CODE],
            [['file', '/dev/null', 'r'], ['pipe', 'w'], ['pipe', 'w']],
            $pipes,
            null,
            ['TEST_SERVER' => $dsn, 'TEST_COMMAND' => $line] + getenv(),
        );
        self::assertIsResource($process);
        $said = stream_get_contents($pipes[1]);
        $complaints = stream_get_contents($pipes[2]);
        proc_close($process);
        // A syntax error is told by the parser, and is none where nothing of ours stands behind it.
        $complaints = preg_grep('/^PHP: |^$/', explode("\n", (string) $complaints), PREG_GREP_INVERT);

        return [json_decode((string) $said, true, 16, JSON_THROW_ON_ERROR), implode("\n", $complaints ?: [])];
    }
}
