<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use Throwable;

/**
 * Stops what a test, or the run, has started: newest first, by its own process id.
 */
final class Cleanup
{
    /** @var list<callable(): void> */
    private static array $ofTest = [];

    /** @var list<callable(): void> */
    private static array $ofRun = [];

    /** @param callable(): void $stop */
    public static function afterTest(callable $stop): void
    {
        self::$ofTest[] = $stop;
    }

    /** @param callable(): void $stop */
    public static function afterRun(callable $stop): void
    {
        self::$ofRun[] = $stop;
    }

    public static function test(): void
    {
        $failure = null;
        while ($stop = array_pop(self::$ofTest)) {
            try {
                $stop();
            } catch (Throwable $e) {
                $failure ??= $e;
            }
        }
        if ($failure !== null) {
            throw $failure;
        }
    }

    public static function everything(): void
    {
        self::test();
        while ($stop = array_pop(self::$ofRun)) {
            $stop();
        }
    }
}
