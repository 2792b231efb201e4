<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * What the README shows runs as it stands there.
 */
final class ReadmeTest extends TestCase
{
    /** @return array<string, array{string}> */
    public static function blocks(): array
    {
        preg_match_all('/^```php\n(.*?)^```$/ms', (string) file_get_contents(dirname(__DIR__) . '/README.md'), $blocks);

        return array_combine(
            array_map(static fn (int $number): string => "block $number", array_keys($blocks[1])),
            array_map(static fn (string $code): array => [$code], $blocks[1])
        );
    }

    /** @dataProvider blocks */
    public function testItRunsInSilence(string $code): void
    {
        $directory = TempDir::forTest();
        $code = str_replace('__DIR__', var_export(dirname(__DIR__), true), $code);
        $process = PhpProcess::program([
            '/usr/bin/env', "TMPDIR=$directory", "CLUSTER_LOCK_DSN=local://$directory/locks", PHP_BINARY, '-n', '-r', $code,
        ]);

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame('', $process->output() . $process->errors());
    }
}
