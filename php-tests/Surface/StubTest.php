<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Surface;

use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * The stub file says what the extension has: both are described by Reflection, and compared.
 */
final class StubTest extends TestCase
{
    public function testReflectionOfTheExtensionIsReflectionOfTheStub(): void
    {
        $stub = dirname(__DIR__, 2) . '/stubs/cluster_lock.stubs.php';
        $extension = PhpProcess::file(dirname(__DIR__) . '/fixtures/surface.php');
        self::assertSame(0, $extension->wait(), $extension->transcript());
        $real = unserialize($extension->output());
        $stubbed = self::withoutExtension(dirname(__DIR__) . '/fixtures/surface.php', $stub);

        foreach (['functions', 'classes', 'constants'] as $kind) {
            self::assertSame(array_keys($stubbed[$kind]), array_keys($real[$kind]), "The same $kind");
            foreach ($stubbed[$kind] as $name => $description) {
                self::assertEquals($description, $real[$kind][$name], "$name should be as in the stub");
            }
        }
    }

    public function testEveryFunctionAndMethodOfTheStubIsDocumented(): void
    {
        $stub = dirname(__DIR__, 2) . '/stubs/cluster_lock.stubs.php';
        $tokens = array_values(array_filter(
            token_get_all((string) file_get_contents($stub)),
            static fn ($t) => !is_array($t) || !in_array($t[0], [T_WHITESPACE, T_PUBLIC, T_FINAL, T_READONLY], true)
        ));
        foreach ($tokens as $i => $token) {
            if (is_array($token) && in_array($token[0], [T_FUNCTION, T_CLASS], true)) {
                for ($before = $i - 1; $tokens[$before] === ']'; $before--) {
                    // An attribute stands between them.
                    while (!is_array($tokens[$before]) || $tokens[$before][0] !== T_ATTRIBUTE) {
                        $before--;
                    }
                }
                $before = $tokens[$before];
                self::assertTrue(
                    is_array($before) && $before[0] === T_DOC_COMMENT,
                    "{$tokens[$i + 1][1]} has no doc comment"
                );
            }
        }
    }

    /** @return array<string, mixed> */
    private static function withoutExtension(string $script, string $stub): array
    {
        $file = TempDir::forTest() . '/out';
        exec(
            sprintf(
                '%s -n %s %s > %s',
                PHP_BINARY,
                escapeshellarg($script),
                escapeshellarg($stub),
                escapeshellarg($file)
            ),
            $lines,
            $code
        );
        self::assertSame(0, $code, 'The stub should load into a PHP without the extension');
        self::assertNotSame('', Php::library(), 'There is an extension to compare it with');

        return unserialize((string) file_get_contents($file));
    }
}
