<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use RuntimeException;

/**
 * A program that PHP is embedded in: fixtures/embed.c, which says what its modes are.
 */
final class Embed
{
    private static ?string $program = null;

    /**
     * Runs the code, which has say() and hear().
     *
     * @param array<string, string|int|float> $settings php.ini
     * @param ?string $come a FIFO at which a worker waits for each request
     */
    public static function run(
        string $code,
        array $settings,
        string $mode = 'requests',
        int $threads = 0,
        int $requests = 1,
        int $cycles = 1,
        ?string $come = null
    ): PhpProcess {
        $program = self::program();
        $dir = TempDir::forTest();
        $settings += ['auto_prepend_file' => dirname(__DIR__) . '/fixtures/prelude.php'];
        file_put_contents("$dir/php.ini", Php::ini($settings));
        $arguments = ["$dir/php.ini", Script::in($dir, $code), $mode, $threads, $requests, $cycles, ...(array) $come];

        return PhpProcess::program(['/usr/bin/env', 'PHP_INI_SCAN_DIR=', $program, ...array_map('strval', $arguments)]);
    }

    /** Compiled once for the run, with the flags of this PHP. */
    private static function program(): string
    {
        if (self::$program === null) {
            $library = Sapis::embed();
            $program = TempDir::forRun() . '/embed';
            $config = escapeshellarg(getenv('PHP_CONFIG') ?: 'php-config');
            // The extension finds PHP's functions in the program, or in the library.
            exec((getenv('CC') ?: 'cc') . ' -Wall -Werror -g -rdynamic ' . (getenv('CFLAGS') ?: '') . ' -o ' . escapeshellarg($program)
                . " -I$($config --include-dir) $($config --includes) " . escapeshellarg(dirname(__DIR__) . '/fixtures/embed.c')
                . ' ' . escapeshellarg($library) . ' -Wl,-rpath,' . escapeshellarg(dirname($library))
                . (str_ends_with($library, '.a') ? " $($config --libs)" : '') . ' -pthread 2>&1', $output, $code);
            if ($code !== 0) {
                throw new RuntimeException(implode("\n", $output));
            }
            self::$program = $program;
        }

        return self::$program;
    }
}
