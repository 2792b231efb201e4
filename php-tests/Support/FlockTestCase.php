<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * A test of locks on one file.
 */
abstract class FlockTestCase extends FileTestCase
{
    protected string $file;

    /** The name of the lock on it. */
    protected string $name;

    protected function setUp(): void
    {
        parent::setUp();
        $this->file = "{$this->dir}/file";
        $this->name = "file:{$this->file}";
        file_put_contents($this->file, 'content');
    }

    /** @return array<string, array{string}> */
    public static function modes(): array
    {
        return ['gate' => ['gate'], 'replace' => ['replace']];
    }

    /** Another one has it: false, in silence, and $would_block tells why. */
    final protected static function assertWouldBlock(Handle $handle, int $operation, string $why): void
    {
        self::assertFalse($handle->lock($operation | LOCK_NB), $why);
        self::assertSame(1, $handle->wouldBlock(), "$why: \$would_block tells so");
    }

    final protected static function assertGets(Handle $handle, int $operation, string $why): void
    {
        self::assertTrue($handle->lock($operation | LOCK_NB), $why);
        self::assertSame(0, $handle->wouldBlock(), "$why: \$would_block");
    }

    /** It can be had, and is given back. */
    final protected static function assertFreeFor(Handle $handle, string $why): void
    {
        self::assertGets($handle, LOCK_EX, $why);
        self::assertTrue($handle->unlock(), $why);
    }
}
