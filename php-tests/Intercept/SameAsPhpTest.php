<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\Plain;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * Programs that lock files see the same with the extension as without: values, messages, files.
 */
final class SameAsPhpTest extends TestCase
{
    /** Only the kernel knows that two names are one file, or locks other programs out. */
    private const NEED_THE_KERNEL = ['hard links are one file', 'a file that is renamed while it is locked', 'a command'];

    /** The warning that there is no server is an error. */
    private const NEED_SILENCE = ['a lock that would block is no error'];

    private const NO_SERVER = '127.0.0.1:1';

    /** @return iterable<string, array{string}> */
    public static function programs(): iterable
    {
        foreach (array_keys(self::snippets()) as $name) {
            yield $name => [$name];
        }
    }

    /** @dataProvider programs */
    public function testItIsTheSame(string $name): void
    {
        $code = self::snippets()[$name];
        $cluster = Cluster::redis();
        $function = preg_replace('/(?<![\w>:])flock\(/', 'cluster_flock(', $code);
        $runs = [
            'plain' => $this->begin($code, static fn () => Plain::settings()),
            'gate' => $this->begin($code, static fn ($dir) => $cluster->settings(['cluster_lock.intercept' => $dir])),
            'cluster_flock()' => $this->begin($function, static fn () => $cluster->settings()),
            'not intercepted' => $this->begin(
                $code,
                static fn () => ['cluster_lock.intercept' => '/somewhere/else', 'cluster_lock.dsn' => 'redis://127.0.0.1:1']
            ),
        ];
        if (!in_array($name, self::NEED_THE_KERNEL, true)) {
            $runs['replace'] = $this->begin($code, static fn ($dir) => $cluster->settings([
                'cluster_lock.intercept' => $dir,
                'cluster_lock.flock_mode' => 'replace',
            ]));
        }
        if (!in_array($name, self::NEED_SILENCE, true)) {
            $runs['gate without a server'] = $this->begin($code, static fn ($dir) => [
                'cluster_lock.intercept' => $dir,
                'cluster_lock.dsn' => 'redis://' . self::NO_SERVER,
                'cluster_lock.slow_wait' => '0',
            ]);
        }
        $seen = array_map(static fn (callable $end) => $end(), $runs);

        $plain = array_shift($seen);
        self::assertStringNotContainsString('Parse error', $plain, 'The program should be one');
        foreach ($seen as $way => $other) {
            self::assertSame($plain, $other, "What \"$name\" sees by $way should be what it sees in plain PHP");
        }
    }

    /** @return array<string, string> */
    private static function snippets(): array
    {
        static $snippets = null;

        return $snippets ??= require dirname(__DIR__) . '/fixtures/snippets.php';
    }

    /**
     * @param callable(string): array<string, string|int|float> $settings of a process that locks files in this directory
     *
     * @return callable(): string waits for the end and tells all that can be seen
     */
    private function begin(string $code, callable $settings): callable
    {
        $dir = TempDir::forTest();
        $work = TempDir::forTest();
        file_put_contents("$work/code.php", "<?php\n" . $code);
        $process = PhpProcess::file(
            dirname(__DIR__) . '/fixtures/snippet.php',
            $settings($dir),
            [$dir, "$work/code.php", "$work/result"]
        );

        return static function () use ($process, $dir, $work): string {
            $code = $process->wait(40);
            $seen = [];
            foreach (is_file("$work/result") ? unserialize(file_get_contents("$work/result")) : ['no result'] as $note) {
                if (!preg_match('/^(peer: )?message 2: .*' . preg_quote(self::NO_SERVER, '/') . '/', $note)) {
                    $seen[] = $note;
                }
            }
            foreach (array_diff(scandir($dir), ['.', '..']) as $name) {
                $seen[] = "$name: " . (is_file("$dir/$name") ? substr(file_get_contents("$dir/$name"), 0, 1000) : '(no file)');
            }
            array_push($seen, "exit code $code", 'stdout: ' . $process->output(), 'stderr: ' . $process->errors());
            $text = str_replace([$dir, $work, 'cluster_flock'], ['DIR', 'WORK', 'flock'], implode("\n", $seen));

            return preg_replace('~/tmp/php[A-Za-z0-9]{6}~', 'TEMP', $text);
        };
    }
}
