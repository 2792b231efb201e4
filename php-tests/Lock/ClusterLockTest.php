<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * The lock as an object: acquire, refresh, release, and who excludes whom.
 */
final class ClusterLockTest extends TestCase
{
    /** @dataProvider backends */
    public function testALockFromAcquireToRelease(Cluster $cluster): void
    {
        $alice = $this->withObject($cluster, "new ClusterLock('job')");
        self::assertSame('job', $alice->run('return $GLOBALS["lock"]->name;'), 'It knows its name');
        self::assertFalse($alice->run('return $GLOBALS["lock"]->isHeld();'), 'It does not acquire by itself');
        self::assertSame(0.0, $alice->run('return $GLOBALS["lock"]->remaining();'), 'Nothing is left of no lease');

        self::assertTrue($alice->run('return $GLOBALS["lock"]->acquire(0);'), 'A free lock is acquired');
        self::assertTrue($alice->run('return $GLOBALS["lock"]->isHeld();'), 'Now it is held');
        $cluster->assertHeld('job', 'It was acquired');
        self::assertSame($cluster->info('job')['fence'], $alice->run('return $GLOBALS["lock"]->fence();'), 'Its fence');

        self::assertNull($alice->run('return $GLOBALS["lock"]->release();'), 'release() is void');
        self::assertFalse($alice->run('return $GLOBALS["lock"]->isHeld();'), 'Now it is not');
        self::assertSame(0.0, $alice->run('return $GLOBALS["lock"]->remaining();'), 'Nothing is left');
        $cluster->assertFree('job', 'It was released');
    }

    /** @dataProvider backends */
    public function testItCanBeAcquiredAgainAndItsFenceGrows(Cluster $cluster): void
    {
        $fences = $cluster->actor()->run(<<<'PHP'
            $lock = new ClusterLock('job');
            for ($fences = [], $i = 0; $i < 3; $i++) {
                $lock->acquire(0);
                $fences[] = $lock->fence();
                $lock->release();
            }
            return $fences;
            PHP);

        self::assertGreaterThan($fences[0], $fences[1], 'A new acquisition has a greater fence');
        self::assertGreaterThan($fences[1], $fences[2], 'A new acquisition has a greater fence');
    }

    /** @dataProvider backends */
    public function testAcquireWhileHeldIsTrueAtOnce(Cluster $cluster): void
    {
        $alice = $this->withObject($cluster, "new ClusterLock('job')");
        $alice->run('return $GLOBALS["lock"]->acquire();');

        self::assertTrue($alice->run('return $GLOBALS["lock"]->acquire();'), 'It is held already');
        $alice->run('return $GLOBALS["lock"]->release();');
        $cluster->assertFree('job', 'Objects do not count: one release suffices');
    }

    /** @dataProvider backends */
    public function testATimeOutIsFalse(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $alice->call('cluster_lock', 'job');
        $bob = $this->withObject($cluster, "new ClusterLock('job')");
        $outcome = $bob->tryRun('return $GLOBALS["lock"]->acquire(0.3);');

        self::assertFalse($outcome->value(), 'Alice has it');
        self::assertTook(0.3, $outcome->seconds, 'A time-out of 0.3 s');
        self::assertFalse($bob->run('return $GLOBALS["lock"]->isHeld();'), 'Nothing is held');
        $bob->beginRun('return $GLOBALS["lock"]->acquire(INF);');
        $cluster->awaitWaiters('job', 1);
        $alice->call('cluster_unlock', 'job');
        self::assertTrue($bob->end(), 'It waits its turn');
    }

    /** @dataProvider backends */
    public function testTwoObjectsOfOneRequestExcludeEachOther(Cluster $cluster): void
    {
        $alice = $this->withObject($cluster, "new ClusterLock('job')");
        $alice->run('$GLOBALS["other"] = new ClusterLock("job"); return $GLOBALS["lock"]->acquire();');

        self::assertFalse($alice->run('return $GLOBALS["other"]->acquire(0);'), 'One try says that it is taken');
        $outcome = $alice->tryRun('return $GLOBALS["other"]->acquire(600);');
        self::assertNotTrue($outcome->value, 'A second object must not get it');
        self::assertStringContainsString('deadlock', $outcome->thrown('ClusterLockException')->message, 'It says why');
        self::assertTrue($alice->run('return $GLOBALS["lock"]->isHeld();'), 'The first is not disturbed');
        $alice->run('return $GLOBALS["lock"]->release();');
        self::assertTrue($alice->run('return $GLOBALS["other"]->acquire(0);'), 'After the first, the second gets it');
    }

    /** @dataProvider backends */
    public function testAnObjectAndTheFunctionsExcludeEachOther(Cluster $cluster): void
    {
        $alice = $this->withObject($cluster, "new ClusterLock('job')");
        $alice->call('cluster_lock', 'job', 0);
        self::assertFalse($alice->run('return $GLOBALS["lock"]->acquire(0);'), 'The function has it');
        $alice->call('cluster_unlock', 'job');
        self::assertTrue($alice->run('return $GLOBALS["lock"]->acquire(0);'), 'Now the object has it');
        self::assertFalse($alice->call('cluster_lock', 'job', 0), 'so the function has not');
        self::assertNull($alice->call('cluster_lock_fence', 'job'), 'cluster_lock_fence() is about cluster_lock()');

        $outcome = $alice->try('cluster_lock', 'job', Until::TOO_LONG);
        self::assertWarns($outcome, 'cluster_lock', '"job"', '/deadlock/i');
        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/not held/i');
        $cluster->assertHeld('job', 'cluster_unlock() must not release the object');
    }

    /** @dataProvider backends */
    public function testSharedObjectsShare(Cluster $cluster): void
    {
        $held = $cluster->actor()->run(<<<'PHP'
            $a = new ClusterLock('job', LOCK_SH);
            $b = new ClusterLock('job', LOCK_SH);
            $writer = new ClusterLock('job', LOCK_EX);
            return [$a->acquire(0), $b->acquire(0), $writer->acquire(0)];
            PHP);

        self::assertSame([true, true, false], $held, 'Two readers share and keep the writer out');
    }

    /** @dataProvider backends */
    public function testItIsReleasedWhenItIsDestroyed(Cluster $cluster): void
    {
        $alice = $this->withObject($cluster, "new ClusterLock('job')");
        $alice->run('return $GLOBALS["lock"]->acquire();');
        $cluster->assertHeld('job', 'The object lives');

        $alice->run('unset($GLOBALS["lock"]); return true;');
        $cluster->assertFree('job', 'The object is gone');
        $alice->run('(function () { $lock = new ClusterLock("job"); $lock->acquire(); })(); return true;');
        $cluster->assertFree('job', 'The function that had it has returned');
        $alice->tryRun('$lock = new ClusterLock("job"); $lock->acquire(); throw new Exception();');
        $cluster->assertFree('job', 'The exception has unwound the frame that had it');
    }

    /** @dataProvider backends */
    public function testItCanStillBeUsedByDestructorsAfterItsOwn(Cluster $cluster): void
    {
        $seen = $cluster->actor()->run(<<<'PHP'
            class Job {
                public static array $seen = [];
                public ?Job $self;
                public function __construct(public ClusterLock $lock) { $this->self = $this; }
                public function __destruct() {
                    $acquired = $this->lock->acquire(0);
                    $this->lock->release();
                    self::$seen[] = [$acquired, $this->lock->isHeld(), $this->lock->remaining(), $this->lock->acquire(0)];
                }
            }
            // The collector calls the destructors of all garbage, in the order in which it became that, before it frees any.
            foreach ([true, false] as $lockFirst) {
                $lock = new ClusterLock('job');
                $lock->acquire(0);
                $job = new Job($lock);
                if ($lockFirst) {
                    $lock = null;
                }
                $job = null;
                $lock = null;
                gc_collect_cycles();
            }
            return Job::$seen;
            PHP);

        self::assertSame([[true, false, 0.0, true], [true, false, 0.0, true]], $seen);
        $cluster->assertFree('job', 'All of them are gone');
    }

    /** @dataProvider backends */
    public function testDestroyingALostLockWarns(Cluster $cluster): void
    {
        $alice = $this->withObject($cluster, "new ClusterLock('job', LOCK_EX)");
        $alice->run('return $GLOBALS["lock"]->acquire();');
        $cluster->observer()->call('cluster_lock_break', 'job');
        $outcome = $alice->tryRun('unset($GLOBALS["lock"]); return true;');

        self::assertNull($outcome->thrown, 'A destructor should not throw');
        self::assertStringContainsString('job', $outcome->messages(), 'but it should not be silent about a loss');
    }

    /** @dataProvider backends */
    public function testRemainingCountsDownAndRefreshExtends(Cluster $cluster): void
    {
        $alice = $this->withObject(
            $cluster,
            "new ClusterLock('job', LOCK_EX, 5.0)",
            ['cluster_lock.auto_renew' => '0']
        );
        $alice->run('return $GLOBALS["lock"]->acquire();');
        $first = $alice->run('return $GLOBALS["lock"]->remaining();');
        $later = $alice->run('usleep(50000); return $GLOBALS["lock"]->remaining();');

        self::assertWithin(0.001, 5.0, $first, 'A lease of 5 s');
        self::assertGreaterThanOrEqual(0.05, $first - $later, 'The lease should run down: 50 ms');
        self::assertNull($alice->run('return $GLOBALS["lock"]->refresh();'), 'refresh() is void');
        self::assertGreaterThan(
            $later,
            $alice->run('return $GLOBALS["lock"]->remaining();'),
            'refresh() renews the ttl'
        );
        $alice->run('return $GLOBALS["lock"]->refresh(60);');
        self::assertWithin(10.0, 60.0, $alice->run('return $GLOBALS["lock"]->remaining();'), 'refresh(60)');
        self::assertWithin(10.0, 60.0, $cluster->info('job')['ttl'], 'Others should see it, too: the lease');
        $alice->run('return $GLOBALS["lock"]->refresh(1);');
        self::assertWithin(0.0, 1.0, $alice->run('return $GLOBALS["lock"]->remaining();'), 'refresh(1) may shorten');
    }

    /** @dataProvider backends */
    public function testRefreshKeepsItAlive(Cluster $cluster): void
    {
        $alice = $this->withObject(
            $cluster,
            "new ClusterLock('job', LOCK_EX, 2.0)",
            ['cluster_lock.auto_renew' => '0']
        );
        $bob = $cluster->actor();
        $alice->run('return $GLOBALS["lock"]->acquire();');
        $bob->begin('cluster_lock', 'job', 3.0);
        while (!$bob->isDone()) {
            $alice->run('$GLOBALS["lock"]->refresh(); usleep(50000); return true;');
        }

        self::assertFalse($bob->end(), 'Refreshed in time, it is never lost');
        self::assertNull($alice->run('return $GLOBALS["lock"]->release();'), 'Alice held it throughout');
    }

    /** @dataProvider backends */
    public function testALostLockThrows(Cluster $cluster): void
    {
        $settings = ['cluster_lock.auto_renew' => '0'];
        $alice = $this->withObject($cluster, "new ClusterLock('job', LOCK_EX, 0.2)", $settings);
        foreach (['refresh', 'release', 'acquire'] as $method) {
            self::assertTrue($alice->run('return $GLOBALS["lock"]->acquire(0);'), 'The lock is free');
            Until::true(fn () => $cluster->info('job') === null, 'a lease of 0.2 s should be over');

            self::assertFalse($alice->run('return $GLOBALS["lock"]->isHeld();'), 'The lease has run out');
            self::assertSame(0.0, $alice->run('return $GLOBALS["lock"]->remaining();'), 'Nothing is left of it');
            $thrown = $alice->tryRun("return \$GLOBALS['lock']->$method();")->thrown('ClusterLockLostException');
            self::assertStringContainsString('job', $thrown->message, "$method() should name the lock");
            $alice->tryRun('return $GLOBALS["lock"]->release();');
            self::assertFalse($alice->run('return $GLOBALS["lock"]->isHeld();'), "After $method() it is not held");
        }
    }

    /** @dataProvider backends */
    public function testABrokenLockThrowsAtRelease(Cluster $cluster): void
    {
        $alice = $this->withObject($cluster, "new ClusterLock('job')");
        $alice->run('return $GLOBALS["lock"]->acquire();');
        $cluster->observer()->call('cluster_lock_break', 'job');
        $thrown = $alice->tryRun('return $GLOBALS["lock"]->release();')->thrown('ClusterLockLostException');

        self::assertMatchesRegularExpression('/broke/i', $thrown->message, 'It was broken');
        self::assertFalse($alice->run('return $GLOBALS["lock"]->isHeld();'), 'Afterwards it is not held');
    }

    /** @dataProvider backends */
    public function testWhatNeedsTheLockThrowsWithoutIt(Cluster $cluster): void
    {
        $alice = $this->withObject($cluster, "new ClusterLock('job')");
        foreach (['release', 'refresh', 'fence'] as $method) {
            $thrown = $alice->tryRun("return \$GLOBALS['lock']->$method();")->thrown('ClusterLockException');
            self::assertStringContainsString('job', $thrown->message, "$method() should name the lock");
            self::assertMatchesRegularExpression('/not held/i', $thrown->message, "$method() should say why");
        }
    }

    /** @dataProvider backends */
    public function testTheLeaseOfTheConstructorIsUsed(Cluster $cluster): void
    {
        $alice = $this->withObject($cluster, "new ClusterLock('job', LOCK_EX, 77.0)");
        $alice->run('return $GLOBALS["lock"]->acquire();');

        self::assertWithin(11.0, 77.0, $cluster->info('job')['ttl'], 'The lease of the constructor: 77 s');
    }

    /** @dataProvider backends */
    public function testItIsRenewedWhileItLives(Cluster $cluster): void
    {
        $alice = $this->withObject($cluster, "new ClusterLock('job', LOCK_EX, 1.5)");
        $alice->run('return $GLOBALS["lock"]->acquire();');

        self::assertFalse($cluster->actor()->call('cluster_lock', 'job', 3.5), 'The lease should be renewed');
        self::assertTrue($alice->run('return $GLOBALS["lock"]->isHeld();'), 'and known to be');
        self::assertNull($alice->run('return $GLOBALS["lock"]->release();'), 'Never lost');
    }

    /** @param array<string, string|int|float> $settings */
    private function withObject(Cluster $cluster, string $new, array $settings = []): Actor
    {
        $alice = $cluster->actor($settings);
        $alice->run("\$GLOBALS['lock'] = $new; return true;");

        return $alice;
    }
}
