<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use Cluster_Lock\Plugin;
use FilesystemIterator;
use PHPUnit\Framework\TestCase;
use RecursiveDirectoryIterator;
use RecursiveIteratorIterator;

/**
 * What is copied to mu-plugins.
 */
final class PackageTest extends TestCase
{
    private const ROOT = __DIR__ . '/../../../..';

    public function testOneVersionEverywhere(): void
    {
        $version = self::found('/^\[workspace\.package\].*?^version = "([^"]+)"/ms', 'Cargo.toml')
            ?? self::found('/^version = "([^"]+)"/m', 'Cargo.toml');
        self::assertSame($version, Plugin::VERSION);
        self::assertSame($version, self::found('/^ \* Version: +(\S+)$/m', 'packages/wordpress/cluster-lock.php'));
    }

    /** A file that is loaded on every site must not be one that an older PHP cannot even read. */
    public function testTheMainFileIsReadByEveryPhp(): void
    {
        $main = (string) file_get_contents(self::ROOT . '/packages/wordpress/cluster-lock.php');
        self::assertDoesNotMatchRegularExpression('/^declare|^use |\bfn\b|\?\?|: (void|bool|string|array)\b.*\{/m', $main);
        self::assertStringContainsString('PHP_VERSION_ID >= 70400', $main);
    }

    /** Called by URL, a class file does nothing and says nothing. */
    public function testClassFilesOnlyDeclare(): void
    {
        foreach (self::files('php') as $file) {
            if (basename($file) === 'cluster-lock.php') {
                continue;
            }
            $process = proc_open([PHP_BINARY, '-n', '-d', 'display_errors=1', $file], [1 => ['pipe', 'w'], 2 => ['pipe', 'w']], $pipes);
            $said = stream_get_contents($pipes[1]) . stream_get_contents($pipes[2]);
            self::assertSame(['', 0], [$said, proc_close($process)], $file);
        }
    }

    /** A string without the text domain would be looked up among WordPress's own. */
    public function testEveryStringHasTheTextDomain(): void
    {
        $count = 0;
        foreach ([...self::files('php'), ...self::files('js')] as $file) {
            $source = (string) file_get_contents($file);
            preg_match_all('/(?<![\w>])(?:__|_e|_n|_x|_nx|esc_html__|esc_html_e|esc_attr__|esc_attr_e|esc_html_x)\(/', $source, $calls, PREG_OFFSET_CAPTURE);
            foreach ($calls[0] as [$call, $offset]) {
                $arguments = self::untilClosed(substr($source, $offset + strlen($call)));
                self::assertStringEndsWith("'cluster-lock'", rtrim($arguments), basename($file));
                ++$count;
            }
        }
        self::assertGreaterThan(150, $count);
    }

    private static function untilClosed(string $source): string
    {
        $depth = 1;
        $quote = null;
        for ($i = 0; $i < strlen($source); ++$i) {
            $char = $source[$i];
            if ($quote !== null) {
                $i += $char === '\\' ? 1 : 0;
                $quote = $char === $quote ? null : $quote;
            } elseif ($char === '"' || $char === "'") {
                $quote = $char;
            } elseif ($char === '(') {
                ++$depth;
            } elseif ($char === ')' && --$depth === 0) {
                return substr($source, 0, $i);
            }
        }

        return $source;
    }

    /** @return list<string> */
    private static function files(string $extension): array
    {
        $files = [self::ROOT . '/packages/wordpress/cluster-lock.php'];
        $tree = new RecursiveDirectoryIterator(self::ROOT . '/packages/wordpress/cluster-lock', FilesystemIterator::SKIP_DOTS);
        foreach (new RecursiveIteratorIterator($tree) as $file) {
            $files[] = $file->getPathname();
        }

        return array_values(array_filter($files, static fn (string $file): bool => str_ends_with($file, ".$extension")));
    }

    private static function found(string $pattern, string $file): ?string
    {
        return preg_match($pattern, (string) file_get_contents(self::ROOT . '/' . $file), $found) ? $found[1] : null;
    }
}
