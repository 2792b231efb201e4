<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\AssertionFailedError;

/**
 * What a PHP built with --enable-debug, or a sanitizer, says of memory that was not freed, or was written to out of
 * bounds. Any test fails by it: under such a PHP every test is a test for leaks.
 */
final class MemoryReport
{
    private const COMPLAINT = '/memory leaks? detected|zend_mm_heap corrupted|Assertion .* failed|ERROR: \w+Sanitizer|\) : +(Freeing|Block) 0x/';

    /** Whether this PHP, or the sanitizer that it was built with, looks for leaks when a process ends. */
    public static function isWanted(): bool
    {
        return PHP_DEBUG || getenv('ASAN_OPTIONS') !== false;
    }

    /** @param string $errors what the process wrote to its standard error */
    public static function refuse(string $errors): void
    {
        if (preg_match(self::COMPLAINT, $errors)) {
            throw new AssertionFailedError("PHP's own checks of memory found something.\n$errors");
        }
    }
}
