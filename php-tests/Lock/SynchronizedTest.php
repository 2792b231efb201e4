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
    public function testALossBesideAnExceptionIsToldByBoth(Cluster $cluster): void
    {
        foreach (['throw new DomainException("mine", 7, new LogicException("first"))', 'throw new Error("mine", 7)'] as $throw) {
            $process = $cluster->process(<<<PHP
                set_error_handler(static function (int \$level, string \$message) { say(\$message); return true; });
                try {
                    cluster_synchronized('job', static function () { cluster_lock_break('job'); $throw; });
                } catch (Throwable \$e) {
                    for (; \$e; \$e = \$e->getPrevious()) {
                        say(\$e::class . ': ' . \$e->getMessage());
                    }
                }
                PHP);
            self::assertSame(0, $process->wait(), $process->transcript());
            $loss = 'Lock "job": was lost before it was released: it was broken by an administrator (cluster_lock_break)';
            self::assertSame(
                ["cluster_synchronized(): $loss"]
                + (str_contains($throw, 'Domain')
                    ? [1 => 'DomainException: mine', 'LogicException: first', "ClusterLockLostException: $loss"]
                    : [1 => 'Error: mine', "ClusterLockLostException: $loss"]),
                explode("\n", rtrim($process->output(), "\n"))
            );
        }
    }

    /** @dataProvider backends */
    public function testAHandlerOfThatWarningMayThrow(Cluster $cluster): void
    {
        $thrown = $cluster->actor()->tryRun(<<<'PHP'
            set_error_handler(static fn () => throw new OutOfRangeException('from the handler'));
            try {
                cluster_synchronized('job', static function () { cluster_lock_break('job'); throw new DomainException('mine'); });
            } finally {
                restore_error_handler();
            }
            PHP);

        self::assertSame('from the handler', $thrown->thrown('OutOfRangeException')->message, 'As ever in PHP');
    }

    /** @dataProvider backends */
    public function testALossBesideAnExitIsTold(Cluster $cluster): void
    {
        $process = $cluster->process(
            'cluster_synchronized("job", static function () { cluster_lock_break("job"); exit(5); });',
            ['display_errors' => 'stderr', 'log_errors' => '0']
        );

        self::assertSame(5, $process->wait(), $process->transcript());
        self::assertStringContainsString('Lock "job": was lost before it was released', $process->errors());
    }

    /** @dataProvider backends */
    public function testAHandlerOfThatWarningMayCatchSomethingOfItsOwn(Cluster $cluster): void
    {
        foreach (['throw new DomainException("mine")' => "DomainException\n", 'exit("mine\n")' => "mine\n"] as $end => $said) {
            $process = $cluster->process(<<<PHP
                set_error_handler(static function () {
                    try {
                        throw new OutOfRangeException('of the handler');
                    } catch (OutOfRangeException) {
                    }
                    return true;
                });
                try {
                    cluster_synchronized('job', static function () { cluster_lock_break('job'); $end; });
                    say('swallowed');
                } catch (Exception \$e) {
                    say(\$e::class);
                }
                PHP);

            self::assertSame(0, $process->wait(), $process->transcript());
            self::assertSame($said, $process->output(), "$end comes through");
        }
    }

    /** @dataProvider backends */
    public function testAHandlerOfThatWarningKeepsNoExitBack(Cluster $cluster): void
    {
        $process = $cluster->process(<<<'PHP'
            set_error_handler(static fn (int $level, string $message) => throw new ErrorException($message));
            try {
                cluster_synchronized('job', static function () { cluster_lock_break('job'); exit(5); });
            } catch (ErrorException) {
            }
            say('goes on');
            PHP, ['display_errors' => '0', 'log_errors' => '1', 'error_log' => '/dev/stderr']);

        self::assertSame(5, $process->wait(), $process->transcript());
        self::assertSame('', $process->output(), 'An exit ends the request');
        self::assertStringContainsString('Lock "job": was lost before it was released', $process->errors(), 'and the log has it');
    }

    /** @dataProvider backends */
    public function testWhatTheCallbackReturnedIsNotLostWithTheLock(Cluster $cluster): void
    {
        $results = $cluster->actor()->run(<<<'PHP'
            foreach ([42, null, ['a' => [1]], new ArrayObject([1])] as $value) {
                try {
                    cluster_synchronized('job', static function &() use (&$value) { cluster_lock_break('job'); return $value; });
                } catch (ClusterLockLostException $e) {
                    $results[] = $e->getResult() === $value;
                }
            }
            $results[] = (new ClusterLockLostException('mine'))->getResult();
            return $results;
            PHP);

        self::assertSame([true, true, true, true, null], $results);
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
            cluster_lock('job', 0) || exit('not locked');
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
