<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Surface;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;

/**
 * Arguments are converted as by PHP's own functions: by strict_types, by name, by default.
 */
final class CoercionTest extends TestCase
{
    public function testWeakModeConverts(): void
    {
        $result = Cluster::redis()->actor()->run(<<<'PHP'
            $name = new class { public function __toString(): string { return 'stringable'; } };
            return [
                cluster_lock(42, '0'),
                cluster_lock(1.5, false),
                cluster_lock($name, 0, '2', '7.5'),
                cluster_lock(true, 0, 2.0, 3),
                array_column(cluster_lock_list('', '100'), 'name'),
                cluster_unlock(42),
                (new ClusterLock(77, '1'))->name,
            ];
            PHP);

        self::assertSame(
            [true, true, true, true, ['1', '1.5', '42', 'stringable'], true, '77'],
            $result,
            'As PHP converts'
        );
    }

    public function testStrictModeRefuses(): void
    {
        $actor = Cluster::at('redis://127.0.0.1:1')->actor();
        $refused = [
            'cluster_lock(42)' => 'cluster_lock(): Argument #1 ($name) must be of type string, int given',
            'cluster_lock("x", "0")' => 'cluster_lock(): Argument #2 ($timeout) must be of type ?float, string given',
            'cluster_lock("x", 0, 2.0)' => 'cluster_lock(): Argument #3 ($mode) must be of type int, float given',
            'cluster_lock("x", 0, 2, false)' => 'cluster_lock(): Argument #4 ($ttl) must be of type ?float, ' . self::nameOfFalse() . ' given',
            'cluster_unlock(null)' => 'cluster_unlock(): Argument #1 ($name) must be of type string, null given',
            'cluster_lock_fence(1.5)' => 'cluster_lock_fence(): Argument #1 ($name) must be of type string, float given',
            'cluster_lock_list("", "5")' => 'cluster_lock_list(): Argument #2 ($limit) must be of type int, string given',
            'cluster_file_put_contents("f", "", 0, 5)' => 'cluster_file_put_contents(): Argument #4 ($lock) must be of type ?string, int given',
            'new ClusterLock(5)' => 'ClusterLock::__construct(): Argument #1 ($name) must be of type string, int given',
            '(new ClusterLock("x"))->acquire("1")' => 'ClusterLock::acquire(): Argument #1 ($timeout) must be of type ?float, string given',
        ];
        foreach ($refused as $code => $message) {
            $outcome = $actor->tryRun("declare(strict_types=1); $code;");
            self::assertSame($message, $outcome->thrown('TypeError')->message, $code);
        }
    }

    public function testStrictModeStillWidensIntToFloat(): void
    {
        $held = Cluster::redis()->actor()->run('declare(strict_types=1); return cluster_lock("x", 0, LOCK_EX, 5);');

        self::assertTrue($held, 'An int is a float, in strict mode, too');
    }

    public function testNullForANameIsDeprecatedAsEver(): void
    {
        $outcome = Cluster::at('redis://127.0.0.1:1')->actor()->tryRun('cluster_unlock(null);');

        self::assertSame(E_DEPRECATED, $outcome->warnings[0][0] ?? null, 'null to a string parameter is deprecated');
        self::assertSame(
            'cluster_unlock(): Passing null to parameter #1 ($name) of type string is deprecated',
            $outcome->warnings[0][1],
            "PHP's own message"
        );
        $outcome->thrown('ValueError');
    }

    public function testArgumentsMayBeNamedInAnyOrder(): void
    {
        $result = Cluster::redis()->actor()->run(<<<'PHP'
            return [
                cluster_lock(ttl: 60, name: 'a', timeout: 0),
                cluster_lock(name: 'b', mode: LOCK_SH),
                round(cluster_lock_info(name: 'a')['ttl'], -1),
                cluster_lock_info(name: 'b')['mode'],
                array_column(cluster_lock_list(limit: 1), 'name'),
                cluster_synchronized(callback: static fn () => 'called', name: 'c', timeout: 0),
                (new ClusterLock(ttl: 5, name: 'd'))->acquire(timeout: 0),
                cluster_unlock(name: 'a'),
            ];
            PHP);

        self::assertSame([true, true, 60.0, 'shared', ['a'], 'called', true, true], $result, 'Named arguments');
    }

    public function testTheFunctionsAreOrdinaryCallables(): void
    {
        $result = Cluster::redis()->actor()->run(<<<'PHP'
            $lock = cluster_lock(...);
            return [
                $lock('a', 0),
                call_user_func('cluster_lock', 'b', 0),
                array_map('cluster_unlock', ['a', 'b']),
                \Cluster_Lock('c', 0),
            ];
            PHP);

        self::assertSame([true, true, [true, true], true], $result, 'First-class, by name, in any case');
    }

    /** PHP 8.3 and later say "false", earlier ones "bool". */
    private static function nameOfFalse(): string
    {
        return PHP_VERSION_ID >= 80300 ? 'false' : 'bool';
    }
}
