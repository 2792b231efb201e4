<?php

declare(strict_types=1);

namespace ClusterLock\Tests\LifeCycle;

use ClusterLock\Tests\Support\MemoryReport;
use ClusterLock\Tests\Support\TestCase;
use PHPUnit\Framework\AssertionFailedError;

/**
 * Under a debug build of PHP every test is one for leaks; here is one that leaks on purpose.
 */
final class MemoryReportTest extends TestCase
{
    private const LEAK = <<<'PHP'
        $heap = FFI::cdef('void *_emalloc(size_t size, const char *, uint32_t, const char *, uint32_t);');
        for ($i = 0; $i < %d; $i++) {
            $heap->_emalloc(100, 'file', 1, null, 0);
        }
        PHP;

    public function testALeakFailsATest(): void
    {
        if (!PHP_DEBUG || !extension_loaded('ffi')) {
            self::markTestSkipped('This PHP does not look for leaks.');
        }
        MemoryReport::refuse(self::errorsOf(sprintf(self::LEAK, 0)));
        $this->expectException(AssertionFailedError::class);
        MemoryReport::refuse(self::errorsOf(sprintf(self::LEAK, 1)));
    }

    private static function errorsOf(string $code): string
    {
        $process = proc_open([PHP_BINARY, '-n', '-d', 'display_errors=stderr', '-r', $code], [2 => ['pipe', 'w']], $pipes);
        $errors = stream_get_contents($pipes[2]);
        proc_close($process);

        return $errors;
    }
}
