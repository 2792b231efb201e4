<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * cluster_coalesced(): one run for all who came before it began.
 */
final class CoalescedTest extends TestCase
{
    /** A run that says that it has begun, and waits. */
    private const SLOW = <<<'PHP'
        return cluster_coalesced('job', static function () use ($log) {
            file_put_contents($log, "run\n", FILE_APPEND);
            say('inside');
            hear();
        });
        PHP;

    private const QUICK = <<<'PHP'
        return cluster_coalesced('job', static fn () => file_put_contents($log, "run\n", FILE_APPEND));
        PHP;

    /** @dataProvider backends */
    public function testEightAtOnceCostTwoRuns(Cluster $cluster): void
    {
        $this->costTwoRuns($cluster, 8);
    }

    public function testSixtyFourAtOnceCostTwoRuns(): void
    {
        $this->costTwoRuns(Cluster::redis(), 64);
    }

    /** The run that was under way when they called does not do for them; the next one does for all of them. */
    private function costTwoRuns(Cluster $cluster, int $calls): void
    {
        [$first, $others, $log] = $this->waitForARun($cluster, $calls - 1);
        $info = $cluster->info('job');
        self::assertSame([true], array_column($info['holders'], 'run'), 'The holder runs');
        self::assertSame([true], array_unique(array_column($info['waiters'], 'run')), 'They wait for a run');
        self::assertSame("run\n", file_get_contents($log), 'One run is under way');
        $first->process()->tell('go on');

        self::assertTrue($first->end(), 'The run of the first call is complete');
        foreach ($others as $other) {
            self::assertTrue($other->end(), 'A run that began after the call is complete');
        }
        self::assertSame("run\nrun\n", file_get_contents($log), 'Two runs for all');
        $count = static fn (string $what, Actor ...$actors) => array_sum(array_map(
            static fn (Actor $actor) => $actor->call('cluster_lock_status')['counters'][$what],
            $actors
        ));
        self::assertSame([1, 1, 0], [$count('runs', $first), $count('runs', ...$others), $count('runs_failed', ...$others)]);
        self::assertSame($calls - 2, $count('covered', ...$others), 'The others were covered');
        $cluster->assertFree('job', 'All is done');
    }

    /** @dataProvider backends */
    public function testARunThatFailsCountsForNobody(Cluster $cluster): void
    {
        foreach (['return false', 'throw new DomainException("mine")', 'exit(3)'] as $failure) {
            $process = $cluster->process(<<<PHP
                \$done = cluster_coalesced('job', static function () { say('inside'); hear(); $failure; });
                say(var_export(\$done, true));
                PHP, ['display_errors' => '0']);
            $process->expect('inside');
            [$log, $others] = [$this->log(), $cluster->actors(2)];
            foreach ($others as $i => $other) {
                $other->beginRun(self::QUICK, log: $log);
                $cluster->awaitWaiters('job', $i + 1);
            }
            $process->tell('go on');

            self::assertSame(
                [true, true, "run\n"],
                [$others[0]->end(), $others[1]->end(), file_get_contents($log)],
                "The next one runs, for both: $failure"
            );
            self::assertSame(str_starts_with($failure, 'return') ? 0 : ($failure === 'exit(3)' ? 3 : 255), $process->wait());
            self::assertSame(str_starts_with($failure, 'return') ? "inside\nfalse\n" : "inside\n", $process->output(), $process->transcript());
        }
    }

    /** @dataProvider backends */
    public function testWhatTheWorkReturnsOrThrows(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        foreach ([null, true, 0, '', 'text', [], 1.5] as $value) {
            self::assertTrue($alice->run('return cluster_coalesced("job", static fn () => $value);', value: $value));
        }
        self::assertFalse($alice->run('return cluster_coalesced("job", static fn () => false);'), 'It says that it has failed');
        self::assertFalse($alice->run('$no = false; return cluster_coalesced("job", static function &() use (&$no) { return $no; });'));
        $warning = $alice->tryRun('return cluster_coalesced("job", static fn () => yield 1);')->warning();
        self::assertStringContainsString('Lock "job": nothing is done: the function has returned a Generator', $warning);
        $thrown = $alice->tryRun('cluster_coalesced("job", static fn () => throw new DomainException("mine"));');
        self::assertSame('mine', $thrown->thrown('DomainException')->message, 'Its exception comes through');
        self::assertTrue($alice->run(<<<'PHP'
            return cluster_coalesced('job', new class {
                public function __invoke(): object
                {
                    return new class {
                        public function __destruct()
                        {
                            cluster_coalesced('job', static fn () => 1);
                        }
                    };
                }
            });
            PHP), 'What it returned is destroyed when the lock is given back');
        $cluster->assertFree('job', 'All has been given back');
    }

    /** @dataProvider backends */
    public function testInsideItHoldsTheLock(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $file = TempDir::forTest() . '/file';
        $seen = $alice->run(<<<'PHP'
            $done = cluster_coalesced('job', static function () use (&$seen, $file) {
                $seen = [
                    is_int(cluster_lock_fence('job')),
                    cluster_lock('job', 0) && cluster_unlock('job'),
                    cluster_file_put_contents($file, 'text', lock: 'job'),
                    cluster_synchronized('job', static fn () => 'nested', 0),
                ];
            });
            return [...$seen, $done];
            PHP, file: $file);

        self::assertSame([true, true, 4, 'nested', true], $seen);
        $cluster->assertFree('job', 'The run is over');
    }

    /** @dataProvider backends */
    public function testWaitingForItselfIsRefused(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $inside = $alice->tryRun('cluster_coalesced("job", static function () use (&$inner) { $inner = cluster_coalesced("job", "time"); }); return $inner;');
        self::assertStringContainsString('deadlock', $inside->warning(), 'Inside a run of its own');
        $alice->call('cluster_lock', 'job');
        $inside = $alice->tryRun('cluster_coalesced("job", static function () use (&$inner) { $inner = cluster_coalesced("job", "time"); }); return $inner;');
        self::assertStringContainsString('deadlock', $inside->warning(), 'Inside a run of its own that nests: it would go on for ever');
        self::assertTrue($alice->call('cluster_coalesced', 'job', 'time'), 'That one is over');
        $alice->call('cluster_unlock', 'job');
        self::assertFalse(
            $alice->run('cluster_coalesced("job", static function () use (&$inner) { $inner = cluster_coalesced("job", "time", 0); }); return $inner;'),
            'One try says nothing'
        );
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        self::assertStringContainsString('deadlock', $alice->try('cluster_coalesced', 'job', 'time')->warning(), 'Held shared');
        $alice->call('cluster_unlock', 'job');
        $alice->run('$GLOBALS["lock"] = new ClusterLock("job"); $GLOBALS["lock"]->acquire(0);');
        self::assertStringContainsString('deadlock', $alice->try('cluster_coalesced', 'job', 'time')->warning(), 'Held by an object');
        $alice->run('unset($GLOBALS["lock"]);');
        self::assertTrue($alice->call('cluster_coalesced', 'job', 'time'));
    }

    /** @dataProvider backends */
    public function testInALockOfTheRequestItRunsAtOnceAndCoversNobody(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $log = $this->log();
        $alice->call('cluster_lock', 'job');
        $bob->beginRun(self::QUICK, log: $log);
        $cluster->awaitWaiters('job', 1);
        self::assertTrue($alice->run('return cluster_coalesced("job", static fn () => cluster_lock("job") && cluster_unlock("job"));'));
        self::assertFalse($bob->isDone(), 'Alice holds the lock');
        $alice->call('cluster_unlock', 'job');

        self::assertTrue($bob->end());
        self::assertSame("run\n", file_get_contents($log), 'Bob runs himself');
    }

    /** @dataProvider backends */
    public function testATimeOutLimitsTheWait(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        self::assertFalse($bob->call('cluster_coalesced', 'job', 'time', 0), 'Anybody has it');
        $outcome = $bob->try('cluster_coalesced', 'job', 'time', 0.3);
        self::assertFalse($outcome->value(), 'The time is up, in silence');
        self::assertTook(0.3, $outcome->seconds, 'A time-out of 0.3 s');
        self::assertSame(0, $cluster->waiters('job'), 'It waits no more');
        $alice->call('cluster_unlock', 'job');
        self::assertTrue($bob->run('return cluster_coalesced("job", static fn () => usleep(300_000), 0.1);'), 'Not the run');
    }

    /** @dataProvider backends */
    public function testARunWhoseLockWasLostIsNone(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $log = $this->log();
        $outcome = $alice->tryRun('return cluster_coalesced("job", static fn () => cluster_lock_break("job"));');
        self::assertMatchesRegularExpression('/"job": was lost.*broke/', $outcome->warning());
        $outcome = $alice->tryRun('return cluster_coalesced("job", static fn () => cluster_unlock("job"));');
        self::assertStringContainsString('was unlocked', $outcome->warning());
        $alice->beginRun(self::SLOW, log: $log);
        $alice->process()->expect('inside');
        $bob->beginRun(self::SLOW, log: $log);
        $cluster->awaitWaiters('job', 1);
        $cluster->observer()->call('cluster_lock_break', 'job');
        $bob->process()->expect('inside');
        $alice->process()->tell('go on');

        self::assertMatchesRegularExpression('/"job": was lost/', $alice->outcome()->warning());
        $bob->process()->tell('go on');
        self::assertTrue($bob->end(), 'Bob runs himself');
        self::assertSame("run\nrun\n", file_get_contents($log));
        $counters = $alice->call('cluster_lock_status')['counters'];
        self::assertSame([0, 3, 0], [$counters['runs'], $counters['runs_failed'], $counters['covered']]);
    }

    /** @dataProvider backends */
    public function testALossBesideAnExceptionIsToldByBoth(Cluster $cluster): void
    {
        $outcome = $cluster->actor()->tryRun(
            'cluster_coalesced("job", static function () { cluster_lock_break("job"); throw new DomainException("mine"); });'
        );

        self::assertSame('mine', $outcome->thrown('DomainException')->message, 'The exception of the work wins');
        self::assertMatchesRegularExpression('/cluster_coalesced\(\): .*was lost/', $outcome->messages());
    }

    /** @dataProvider backends */
    public function testAChildSaysNothingForItsParent(Cluster $cluster): void
    {
        $process = $cluster->process(<<<'PHP'
            $done = @cluster_coalesced('job', static function () {
                if (($child = pcntl_fork()) === 0) {
                    return;
                }
                pcntl_waitpid($child, $status);
                say('child: ' . pcntl_wexitstatus($status));
                hear();
            });
            if ($done) {
                say('complete');
            }
            exit($done ? 0 : 9);
            PHP);
        $process->expect('child: 9');
        $bob = $cluster->actor();
        $cluster->assertHeld('job', 'The run goes on');
        $log = $this->log();
        $bob->beginRun(self::QUICK, log: $log);
        $cluster->awaitWaiters('job', 1);
        $process->tell('go on');
        $process->expect('complete');

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertTrue($bob->end());
    }

    /** @dataProvider backends */
    public function testAFiberThatIsDestroyedInsideGivesItBack(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        foreach (['cluster_coalesced', 'cluster_synchronized'] as $function) {
            $alice->run(<<<'PHP'
                $fiber = new Fiber(static fn () => $function('job', static fn () => Fiber::suspend()));
                $fiber->start();
                unset($fiber);
                gc_collect_cycles();
                PHP, function: $function);
            $cluster->assertFree('job', "The run of $function() is over");
        }
    }

    /** @dataProvider backends */
    public function testAKilledRunCountsForNobody(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '1']);
        $log = $this->log();
        $alice->beginRun(self::SLOW, log: $log);
        $alice->process()->expect('inside');
        $bob->beginRun(self::QUICK, log: $log);
        $cluster->awaitWaiters('job', 1);
        $alice->kill();

        self::assertTrue($bob->end(), 'When the lease is over');
        self::assertSame("run\nrun\n", file_get_contents($log), 'Bob has run himself');
        $cluster->assertClean($alice);
    }

    /** A signal's handler runs during the wait; what it asks for is a call of its own. */
    public function testAnInterruptedWaitGoesOnInItsPlace(): void
    {
        $cluster = Cluster::redis();
        [$first, [$bob], $log] = $this->waitForARun($cluster, 1, <<<'PHP'
            pcntl_async_signals(true);
            pcntl_signal(SIGUSR1, static function () use ($log) {
                file_put_contents($log, cluster_coalesced('job', 'time', 0) ? "yes\n" : "no\n", FILE_APPEND);
                say('handled');
            });
            PHP);
        $bob->process()->signal(SIGUSR1);
        $bob->process()->expect('handled');
        $cluster->awaitWaiters('job', 1);
        $first->process()->tell('go on');

        self::assertTrue($first->end());
        self::assertTrue($bob->end());
        self::assertSame("run\nno\nrun\n", file_get_contents($log));
        $cluster->assertFree('job', 'All is done');
    }

    public function testArguments(): void
    {
        $alice = Cluster::redis()->actor();
        foreach (['', str_repeat('x', 1025)] as $name) {
            self::assertStringContainsString('Argument #1 ($name)', $alice->try('cluster_coalesced', $name, 'time')->thrown('ValueError')->message);
        }
        self::assertStringContainsString('Argument #2 ($work)', $alice->try('cluster_coalesced', 'job', 'nothing')->thrown('TypeError')->message);
        self::assertStringContainsString('Argument #3 ($timeout)', $alice->try('cluster_coalesced', 'job', 'time', -1)->thrown('ValueError')->message);
        self::assertStringContainsString('Argument #4 ($ttl)', $alice->try('cluster_coalesced', 'job', 'time', 1, 0.01)->thrown('ValueError')->message);
    }

    public function testWithoutAServerItFails(): void
    {
        $outcome = Cluster::at('redis://127.0.0.1:1')->actor()->tryRun('return cluster_coalesced("job", static fn () => $GLOBALS["called"] = 1);');

        self::assertStringContainsString('127.0.0.1:1', $outcome->warning());
    }

    private function log(): string
    {
        $log = TempDir::forTest() . '/log';
        touch($log);

        return $log;
    }

    /**
     * A run is under way, and so many have called since.
     *
     * @return array{Actor, list<Actor>, string}
     */
    private function waitForARun(Cluster $cluster, int $calls, string $before = ''): array
    {
        $log = $this->log();
        $first = $cluster->actor();
        $first->beginRun(self::SLOW, log: $log);
        $first->process()->expect('inside');
        $others = $cluster->actors($calls);
        foreach ($others as $other) {
            $other->beginRun($before . self::QUICK, log: $log);
        }
        $cluster->awaitWaiters('job', $calls);

        return [$first, $others, $log];
    }
}
