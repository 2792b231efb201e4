<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TestCase;

/**
 * Calls nested too deep leave no memory, and on PHP's stack room for a few values or for none, which depends on what one
 * of the calls takes there. PHP before its releases of October 2026 then runs no shutdown function if the room is too
 * small for the call.
 */
final class MemoryLimitTest extends TestCase
{
    public function testALockIsGivenBackWheneverPhpRunsAShutdownFunction(): void
    {
        $cluster = Cluster::local();
        $ran = [];
        foreach (range(0, 12) as $variables) {
            $deep = self::recursion($variables);
            $plain = Sides::process('', "register_shutdown_function(static function () { echo 'ran'; }); $deep");
            $plain->wait();
            if (!str_contains($plain->output(), 'ran')) {
                continue;
            }
            $name = $ran[] = "with $variables variables";
            $locked = Sides::with('phpredis', static fn (): PhpProcess => PhpProcess::code(
                "cluster_lock('$name', 0) && print('held'); $deep",
                $cluster->settings(['cluster_lock.ttl' => '60'])
            ));
            self::assertSame(255, $locked->wait(), $locked->transcript());
            self::assertStringContainsString('held', $locked->output(), 'It should have held its lock');
        }

        self::assertNotSame([], $ran, 'With some number of variables every PHP has room for the call');
        $free = $cluster->observer()->run(
            'return array_values(array_filter($names, fn ($name) => cluster_lock($name, 0)));',
            names: $ran
        );
        self::assertSame($ran, $free, 'All should be free at once');
    }

    /** Calls of a function with so many variables, until the memory is used up. */
    private static function recursion(int $variables): string
    {
        $assignments = '';
        for ($i = 0; $i < $variables; $i++) {
            $assignments .= "\$v$i = 1; ";
        }

        return <<<PHP
            function recurse(int \$depth): int
            {
                $assignments
                return strlen(str_repeat('x', 100_000)) + recurse(\$depth + 1);
            }
            ini_set('memory_limit', '8M');
            recurse(0);
            PHP;
    }
}
