<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;

/**
 * cluster_synchronized(): acquire, call, release, whatever happens in the callback.
 */
final class SynchronizedTest extends TestCase
{
    /** @dataProvider backends */
    public function testItReturnsWhatTheCallbackReturns(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        foreach ([42, 'text', null, false, [1, ['a' => 2]], 1.5] as $value) {
            self::assertSame(
                $value,
                $alice->run('return cluster_synchronized("job", static fn () => $value);', value: $value),
                'The value of the callback should come back'
            );
        }
        $cluster->assertFree('job', 'All callbacks have returned');
    }

    /** @dataProvider backends */
    public function testTheLockIsHeldDuringTheCallbackOnly(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->beginRun(<<<'PHP'
            return cluster_synchronized('job', static function () {
                say('inside');
                hear();
                return cluster_lock_fence('job');
            });
            PHP);
        $alice->process()->expect('inside');
        self::assertFalse($bob->call('cluster_lock', 'job', 0), 'Alice is inside');
        $alice->process()->tell('go on');

        self::assertIsInt($alice->end(), 'Inside, the lock is held by the request');
        $cluster->assertFree('job', 'Alice has left');
    }

    /** @dataProvider backends */
    public function testTheCallbackGetsNoArgumentsAndIsCalledOnce(Cluster $cluster): void
    {
        $calls = $cluster->actor()->run(<<<'PHP'
            $calls = [];
            cluster_synchronized('job', static function () use (&$calls) { $calls[] = func_get_args(); });
            return $calls;
            PHP);

        self::assertSame([[]], $calls, 'One call without arguments');
    }

    /** @dataProvider backends */
    public function testAnyCallableWill(Cluster $cluster): void
    {
        $values = $cluster->actor()->run(<<<'PHP'
            return [
                cluster_synchronized('job', 'pi'),
                cluster_synchronized('job', [new ArrayObject([1, 2]), 'count']),
                cluster_synchronized('job', DateTime::class . '::getLastErrors'),
                cluster_synchronized('job', time(...)) > 0,
            ];
            PHP);

        self::assertSame([M_PI, 2, false, true], $values, 'Functions, methods, static methods, closures');
    }

    /** @dataProvider backends */
    public function testItsExceptionComesThroughAndTheLockIsReleased(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $thrown = $alice->tryRun('cluster_synchronized("job", static fn () => throw new DomainException("mine"));');

        self::assertSame('mine', $thrown->thrown('DomainException')->message, 'The exception of the callback');
        $cluster->assertFree('job', 'The callback threw');
    }

    /** @dataProvider backends */
    public function testATimeOutThrowsAndDoesNotCall(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $outcome = $bob->tryRun(<<<'PHP'
            return cluster_synchronized('job', static fn () => $GLOBALS['called'] = true, 0.3);
            PHP);
        $thrown = $outcome->thrown('ClusterLockTimeoutException');

        self::assertStringContainsString('job', $thrown->message, 'The message names the lock');
        self::assertTook(0.3, $outcome->seconds, 'A time-out of 0.3 s');
        self::assertFalse($bob->run('return isset($GLOBALS["called"]);'), 'The callback must not run');
    }

    /** @dataProvider backends */
    public function testAnExceptionWinsOverALostLock(Cluster $cluster): void
    {
        $thrown = $cluster->actor()->tryRun(<<<'PHP'
            cluster_synchronized('job', static function () {
                cluster_lock_break('job');
                throw new DomainException('mine');
            });
            PHP);

        self::assertSame('mine', $thrown->thrown('DomainException')->message, 'The exception of the callback wins');
    }

    /** @dataProvider backends */
    public function testALockBrokenDuringTheCallThrowsAfterIt(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $thrown = $alice->tryRun(<<<'PHP'
            cluster_synchronized('job', static function () {
                cluster_lock_break('job');
                $GLOBALS['done'] = true;
            });
            PHP)->thrown('ClusterLockLostException');

        self::assertTrue($alice->run('return $GLOBALS["done"];'), 'The callback ran to its end');
        self::assertMatchesRegularExpression('/"job".*broke/i', $thrown->message, 'The message tells what happened');
    }

    /** @dataProvider backends */
    public function testItNestsInItselfAndInTheFunctions(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $value = $alice->run(<<<'PHP'
            cluster_lock('job', 0);
            return cluster_synchronized('job', static fn () => cluster_synchronized('job', static fn () => 'inner', 0), 0);
            PHP);

        self::assertSame('inner', $value, 'The same request may go deeper');
        $cluster->assertHeld('job', 'The outermost level is still held');
        $alice->call('cluster_unlock', 'job');
        $cluster->assertFree('job', 'All levels are left');
    }

    /** @dataProvider backends */
    public function testDifferentNamesNest(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $held = $alice->run(<<<'PHP'
            return cluster_synchronized('a', static fn () => cluster_synchronized('b', static fn () => cluster_lock_status()['held']));
            PHP);

        self::assertEqualsCanonicalizing(['a', 'b'], array_column($held, 'name'), 'Inside, both are held');
        $cluster->assertFree('a', 'All levels are left');
        $cluster->assertFree('b', 'All levels are left');
    }

    /** @dataProvider backends */
    public function testTheLeaseArgumentIsUsed(Cluster $cluster): void
    {
        $ttl = $cluster->actor()->run(<<<'PHP'
            return cluster_synchronized('job', static fn () => cluster_lock_info('job')['ttl'], null, 77);
            PHP);

        self::assertWithin(11.0, 77.0, $ttl, 'The lease of the argument: 77 s');
    }

    /** @dataProvider backends */
    public function testExitInsideReleases(Cluster $cluster): void
    {
        $process = $cluster->process(<<<'PHP'
            cluster_synchronized('job', static function () {
                say('inside');
                hear();
                exit(7);
            });
            PHP);
        $process->expect('inside');
        $cluster->assertHeld('job', 'The process is inside');
        $process->tell('go on');

        self::assertSame(7, $process->wait(), 'exit(7) inside should end the process');
        $cluster->assertFree('job', 'The process has ended');
    }

    /** @dataProvider backends */
    public function testAFatalErrorInsideReleases(Cluster $cluster): void
    {
        $process = $cluster->process(<<<'PHP'
            cluster_synchronized('job', static function () {
                say('inside');
                hear();
                trigger_error('fatal', E_USER_ERROR);
            });
            PHP);
        $process->expect('inside');
        $cluster->assertHeld('job', 'The process is inside');
        $process->tell('go on');

        self::assertSame(255, $process->wait(), 'A fatal error ends the process');
        self::assertStringContainsString('Fatal error: fatal', $process->errors(), 'and is told as ever');
        $cluster->assertFree('job', 'The process has ended');
    }

    /** @dataProvider backends */
    public function testExhaustedMemoryInsideReleases(Cluster $cluster): void
    {
        $process = $cluster->process(<<<'PHP'
            cluster_synchronized('job', static function () {
                say('inside');
                return str_repeat('x', 100_000_000);
            });
            PHP, ['memory_limit' => '16M']);
        $process->expect('inside');

        self::assertSame(255, $process->wait(), 'It should end by a fatal error');
        self::assertStringContainsString('Allowed memory size', $process->errors(), 'The reason is told as ever');
        $cluster->assertFree('job', 'The process has ended');
    }
}
