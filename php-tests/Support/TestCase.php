<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\TestCase as PhpUnitTestCase;

/**
 * A test whose processes and servers end with it.
 */
abstract class TestCase extends PhpUnitTestCase
{
    /** @return array<string, array{Cluster}> */
    public static function backends(): array
    {
        return Cluster::backends();
    }

    protected function setUp(): void
    {
        parent::setUp();
        if (Php::polyfill() !== null) {
            $cannot = require dirname(__DIR__, 2) . '/packages/polyfill/tests/cannot.php';
            // From PHPUnit 10 on it has another name.
            $name = method_exists($this, 'nameWithDataSet') ? $this->nameWithDataSet() : $this->getName();
            $test = substr(static::class, strlen('ClusterLock\\Tests\\')) . "::$name";
            foreach ($cannot as $why => $patterns) {
                foreach ($patterns as $pattern) {
                    if (fnmatch($pattern, $test, FNM_NOESCAPE)) {
                        self::markTestSkipped($why);
                    }
                }
            }
        }
    }

    protected function tearDown(): void
    {
        Cleanup::test();
        parent::tearDown();
    }

    /** Not before its time. How much later is a matter of the machine. */
    final protected static function assertTook(float $least, float $seconds, string $what): void
    {
        self::assertGreaterThanOrEqual($least, $seconds, sprintf('%s took only %.3f s', $what, $seconds));
    }

    final protected static function assertWithin(float $least, float $most, float $value, string $what): void
    {
        self::assertGreaterThanOrEqual($least, $value, $what);
        self::assertLessThanOrEqual($most, $value, $what);
    }

    /** A warning that names its function, the lock, and what is told by each of the patterns. */
    final protected static function assertWarns(Outcome $outcome, string $function, string $lock, string ...$patterns): void
    {
        $message = $outcome->warning();
        self::assertStringStartsWith("$function(): ", $message, 'A warning begins with the function');
        self::assertStringContainsString($lock, $message, 'The warning should name the lock');
        foreach ($patterns as $pattern) {
            self::assertMatchesRegularExpression($pattern, $message, 'The warning should tell the cause');
        }
    }
}
