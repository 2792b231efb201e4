<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Surface;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\TestCase;

/**
 * Who does not look whether he got the lock is warned, where PHP can (8.5).
 */
final class NoDiscardTest extends TestCase
{
    public function testALockWhoseResultIsNotUsedIsWarnedOf(): void
    {
        $outcome = Cluster::redis()->actor()->tryRun('cluster_lock("job", 0);');

        if (PHP_VERSION_ID < 80500) {
            self::assertSame([], $outcome->warnings, 'This PHP has no such attribute');

            return;
        }
        self::assertSame([[
            Php::warning(),
            'The return value of function cluster_lock() should either be used or intentionally ignored by casting it as '
            . '(void), as the lock may not have been acquired',
        ]], $outcome->warnings, 'One warning, that says why');
    }

    public function testOneThatIsUsedOrMeantIsNot(): void
    {
        $actor = Cluster::redis()->actor();

        self::assertTrue($actor->run('return cluster_lock("job", 0) && cluster_unlock("job");'), 'Used');
        if (PHP_VERSION_ID >= 80500) {
            self::assertSame([], $actor->tryRun('(void) cluster_lock("job", 0);')->warnings, 'Meant');
            self::assertNotNull($actor->call('cluster_lock_fence', 'job'), 'It was called');
        }
    }

    /** As flock() has none. */
    public function testAllOtherFunctionsMayBeCalledForTheirEffect(): void
    {
        $attributes = Cluster::redis()->actor()->run(<<<'PHP'
            $names = array_filter(array_merge(...array_values(get_defined_functions())), fn ($f) => str_starts_with($f, 'cluster_'));
            $of = fn ($name) => array_map(fn ($a) => $a->getName(), (new ReflectionFunction($name))->getAttributes());

            return array_filter(array_combine($names, array_map($of, $names)));
            PHP);
        // An attribute of PHP code is seen by Reflection whether PHP knows it or not.
        $has = PHP_VERSION_ID >= 80500 || Php::polyfill() !== null;

        self::assertSame($has ? ['cluster_lock' => ['NoDiscard']] : [], $attributes, 'Attributes of functions');
    }
}
