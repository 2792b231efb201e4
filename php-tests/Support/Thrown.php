<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * An exception that came out of a call in another process.
 */
final class Thrown
{
    public function __construct(
        public readonly string $class,
        public readonly string $message,
        public readonly int $line,
        public readonly string $file,
        public readonly string $trace,
        public readonly string $full,
    ) {
    }
}
