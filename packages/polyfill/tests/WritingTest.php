<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\PhpProcess;

/**
 * A write that did not get all of its data into the file, or not under the lock that it was promised, says so and changes
 * nothing.
 */
final class WritingTest extends FileTestCase
{
    /** What is too much for a file system of 100 KB that has a file of 60 KB, by way of writing. */
    private const TOO_MUCH = <<<'PHP'
        [$dir, $bootstrap] = [$argv[1], $argv[2]];
        require $bootstrap;
        ClusterLock\Polyfill\configure(['dsn' => "local://$dir", 'retry_after' => 0]);
        set_error_handler(function (int $level, string $message) use (&$said): bool {
            $said .= "$message\n";
            return true;
        });
        file_put_contents("$dir/full/file", $old = str_repeat('o', 60_000));
        $big = str_repeat('x', 50_000);
        $source = fopen('php://temp', 'w+');
        fwrite($source, $big);
        $stringable = new class ($big) {
            public function __construct(private string $text) {}
            public function __toString(): string { return $this->text; }
        };
        foreach ([
            'string' => [$big, 0], 'array' => [str_split($big, 100), 0], 'objects' => [[$stringable, 'y'], 0],
            'stream' => [$source, 0], 'append' => ['y', FILE_APPEND], 'append under a lock' => ['y', FILE_APPEND | LOCK_EX],
        ] as $name => [$data, $flags]) {
            rewind($source);
            $said = '';
            $result = cluster_file_put_contents("$dir/full/file", $data, $flags);
            echo $name, ': ', json_encode($result), ' ', preg_match('/No space left on device$/m', $said),
                ' ', substr_count($said, "\n"),
                ' ', json_encode(file_get_contents("$dir/full/file") === $old && count(scandir("$dir/full")) === 3), "\n";
        }
        echo json_encode(cluster_file_put_contents("$dir/full/file", 'fits')), cluster_lock_list() === [] ? ' free' : '';
        PHP;

    public function testAFullDiskIsAWarningHoweverTheDataComes(): void
    {
        mkdir("{$this->dir}/full");
        file_put_contents("{$this->dir}/code.php", '<?php ' . self::TOO_MUCH);
        $script = 'mount -t tmpfs -o size=100k none "$1/full" || exit 77; exec "$0" -n "$1/code.php" "$1" "$2"';
        $process = PhpProcess::program(
            ['unshare', '-rm', 'sh', '-c', $script, PHP_BINARY, $this->dir, dirname(__DIR__) . '/bootstrap.php']
        );
        if (!in_array($process->wait(), [0, 255], true)) {
            self::markTestSkipped('There is no file system of our own to be had here: ' . $process->errors());
        }
        $told = "false 1 1 true\n";

        self::assertSame(
            "string: {$told}array: {$told}objects: {$told}stream: {$told}append: {$told}append under a lock: {$told}4 free",
            $process->output(),
            $process->errors()
        );
    }

    public function testAFileThatIsMountedByItselfIsSaidToBe(): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $script = 'mount --bind "$1/file" "$1/file" || exit 77; exec "$0" -n -r "$3" "$1" "$2"';
        $code = 'require $argv[2]; ini_set("display_errors", "stderr");'
            . 'ClusterLock\Polyfill\configure(["dsn" => "local://$argv[1]"]);'
            . 'echo json_encode(cluster_file_put_contents("$argv[1]/file", "new", LOCK_EX));';
        $process = PhpProcess::program(
            ['unshare', '-rm', 'sh', '-c', $script, PHP_BINARY, $this->dir, dirname(__DIR__) . '/bootstrap.php', $code]
        );
        if (!in_array($process->wait(), [0, 255], true)) {
            self::markTestSkipped('Nothing can be mounted here: ' . $process->errors());
        }

        self::assertSame('false', $process->output(), $process->errors());
        self::assertMatchesRegularExpression('/file: is a mount point by itself.*mount its directory/', $process->errors());
        self::assertSame('old', file_get_contents("{$this->dir}/file"));
        self::assertSame([], preg_grep('/tmp$/', $this->names()), 'No temporary file may stay');
    }

    public function testASourceThatFailsHalfWayIsNotTakenForOneThatEnds(): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        // Behind the last page of a mapping the kernel answers with an input/output error.
        $outcome = $this->polyfill()->tryRun(<<<'PHP'
            foreach (file('/proc/self/maps') as $line) {
                [$from, $to] = sscanf($line, '%x-%x %s');
                if (isset($last) && $from > $last + 1_000_000) {
                    break;
                }
                $last = $to;
            }
            $memory = fopen('/proc/self/mem', 'r');
            fseek($memory, $last - 12_000);
            return cluster_file_put_contents($file, $memory);
            PHP, file: "{$this->dir}/file");

        self::assertFalse($outcome->value, 'Its first 12,000 bytes are not all');
        self::assertStringContainsString('The source stream cannot be read', $outcome->messages());
        $this->assertUntouched('old', 'nothing but a part could be read');
    }

    public function testTheUmaskIsTheCallersWhateverHappens(): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $outcome = $this->polyfill()->run(<<<'PHP'
            umask(0027);
            cluster_file_put_contents("$dir/file", 'new');
            cluster_file_put_contents("$dir/new", 'new');
            @cluster_file_put_contents("$dir/" . str_repeat('x', 300), 'new');
            return [umask(), fileperms("$dir/new") & 0777];
            PHP, dir: $this->dir);

        self::assertSame([0027, 0640], $outcome);
    }

    private function polyfill(): Actor
    {
        return Sides::polyfill(Cluster::local(), 'phpredis');
    }
}
