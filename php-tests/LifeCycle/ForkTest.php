<?php

declare(strict_types=1);

namespace ClusterLock\Tests\LifeCycle;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * A forked child owns none of its parent's locks, uses none of its connections, releases nothing.
 */
final class ForkTest extends TestCase
{
    /** @dataProvider backends */
    public function testTheEndOfAChildReleasesNothing(Cluster $cluster): void
    {
        foreach (['exit(0);', 'return;', 'throw new Exception("end");', 'trigger_error("end", E_USER_ERROR);'] as $end) {
            $process = $cluster->process(<<<PHP
                cluster_lock('job', 0) || exit('not locked');
                \$object = new ClusterLock('object');
                \$object->acquire(0);
                if (pcntl_fork() === 0) {
                    ini_set('display_errors', '0');
                    $end
                }
                pcntl_wait(\$status);
                say('child ended');
                hear();
                say(cluster_unlock('job'));
                say(\$object->isHeld());
                \$object->release();
                say('released');
                PHP);
            $process->expect('child ended');
            $cluster->assertHeld('job', "The parent holds it, whatever the child did ($end)");
            $cluster->assertHeld('object', "The parent's object holds it ($end)");
            self::assertSame(
                [$process->pid()],
                array_column($cluster->info('job')['holders'], 'pid'),
                'The parent is the holder'
            );
            $process->tell('unlock');
            $process->expect('true');
            $process->expect('true');
            $process->expect('released');
            self::assertSame(0, $process->wait(), $process->transcript());
            self::assertSame('', $process->errors(), 'There is nothing to warn of');
            $cluster->assertFree('job', 'The parent has unlocked');
            $cluster->assertClean($process);
        }
    }

    /** @dataProvider backends */
    public function testAChildHoldsNothing(Cluster $cluster): void
    {
        $process = $cluster->process(<<<'PHP'
            cluster_lock('job', 0) || exit('not locked');
            $object = new ClusterLock('object');
            $object->acquire(0);
            if (pcntl_fork() === 0) {
                set_error_handler(static function (int $level, string $message) { say($message); return true; });
                say(cluster_lock_fence('job'));
                say(count(cluster_lock_status()['held']));
                say($object->isHeld());
                say(cluster_unlock('job'));
                say(cluster_lock('job', 0));
                try { $object->release(); } catch (ClusterLockException $e) { say(get_class($e)); }
                unset($object);
                exit(0);
            }
            pcntl_wait($status);
            say('child ended');
            hear();
            PHP);
        $process->expect('NULL');
        $process->expect('0');
        $process->expect('false');
        self::assertMatchesRegularExpression('/"job".*not held/', $process->line(), 'The child cannot unlock it');
        $process->expect('false');
        self::assertSame('false', $process->line(), 'The parent has it, so the child cannot get it');
        self::assertSame('ClusterLockException', $process->line(), 'To the child, the object is not held');
        $process->expect('child ended');
        $cluster->assertHeld('job', 'The parent still holds it');
        $cluster->assertHeld('object', 'The parent still holds it');
    }

    public function testAChildLocksOnAConnectionOfItsOwn(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $process = $cluster->process(<<<'PHP'
            cluster_lock('parent', 0) || exit('not locked');
            if (pcntl_fork() === 0) {
                say(cluster_lock('child', 0));
                hear();
                say(cluster_unlock('child'));
                exit(0);
            }
            pcntl_wait($status);
            say(cluster_unlock('parent'));
            PHP);
        $process->expect('true');
        $cluster->assertHeld('parent', 'The parent holds one');
        $cluster->assertHeld('child', 'The child holds another');
        self::assertNotSame(
            $process->pid(),
            $cluster->info('child')['holders'][0]['pid'],
            'It is the child who holds it'
        );
        $observers = 1;
        self::assertGreaterThanOrEqual(
            2 + $observers,
            count($server->client()->clients()),
            'Each has a connection of its own'
        );
        $process->tell('go on');
        $process->expect('true');
        $process->expect('true');
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame('', $process->errors(), 'There is nothing to warn of');
    }

    /** @dataProvider backends */
    public function testTheParentsLeaseIsRenewedAfterAFork(Cluster $cluster): void
    {
        if (getenv('ASAN_OPTIONS') !== false) {
            self::markTestSkipped(
                'A fork at the moment when another thread is in the allocator of GCC 12\'s sanitizer leaves its lock to the '
                . 'child, whose thread then waits for it for ever (glibc\'s own allocator comes through a fork).'
            );
        }
        $end = TempDir::forTest() . '/end';
        $process = $cluster->process(<<<PHP
            cluster_lock('parent', 0) || exit('not locked');
            for (\$i = 0; \$i < 3; \$i++) {
                if (pcntl_fork() === 0) {
                    cluster_lock("child \$i", 0) || exit('not locked');
                    say('locked');
                    await_file('$end');
                    exit(cluster_unlock("child \$i") ? 0 : 1);
                }
            }
            \$failed = 0;
            while (pcntl_wait(\$status) > 0) {
                \$failed |= \$status;
            }
            say(\$failed === 0 ? 'children held theirs' : 'a child lost its lock');
            say(cluster_unlock('parent') ? 'still held' : 'lost');
            PHP, ['cluster_lock.ttl' => '1.5']);
        for ($i = 0; $i < 3; $i++) {
            $process->expect('locked');
        }
        self::assertFalse(
            $cluster->observer()->call('cluster_lock', 'child 2', 3.5),
            "The child's own thread renews its lease"
        );
        self::assertFalse(
            $cluster->observer()->call('cluster_lock', 'parent', 0),
            "The parent's thread renews its lease"
        );
        touch($end);
        $process->expect('children held theirs');
        $process->expect('still held');
        self::assertSame(0, $process->wait(), $process->transcript());
    }

    /** @dataProvider backends */
    public function testParentAndChildExcludeEachOther(Cluster $cluster): void
    {
        $file = TempDir::forTest() . '/counter';
        file_put_contents($file, '0');
        $process = $cluster->process(<<<PHP
            cluster_lock('warm', 0) && cluster_unlock('warm') || exit('not locked');
            \$children = 0;
            for (\$i = 0; \$i < 3; \$i++) {
                \$children += (int) (pcntl_fork() > 0);
            }
            // Eight processes by now: forks of forks.
            for (\$i = 0; \$i < 25; \$i++) {
                cluster_lock('counter', 30) || exit(1);
                file_put_contents('$file', (string) (1 + (int) file_get_contents('$file')));
                cluster_unlock('counter') || exit(2);
            }
            \$failed = 0;
            while (\$children-- > 0) {
                pcntl_wait(\$status);
                \$failed |= \$status;
            }
            exit(\$failed === 0 ? 0 : 3);
            PHP);

        self::assertSame(0, $process->wait(60), $process->transcript());
        self::assertSame('200', file_get_contents($file), 'No increment may be lost');
    }

    /** @dataProvider backends */
    public function testAStormOfForks(Cluster $cluster): void
    {
        $process = $cluster->process(<<<'PHP'
            cluster_lock('parent', 0) || exit('not locked');
            $failed = 0;
            for ($round = 0; $round < 60; $round++) {
                if (pcntl_fork() === 0) {
                    $ok = cluster_lock('child', 30) && cluster_lock("own $round", 0) && cluster_unlock('child') && cluster_unlock("own $round");
                    exit($ok ? 0 : 1);
                }
                if ($round % 6 === 5) {
                    cluster_lock("parent $round", 0) && cluster_unlock("parent $round") || $failed++;
                    while (pcntl_wait($status) > 0) {
                        $failed += (int) ($status !== 0);
                    }
                }
            }
            say($failed);
            say(cluster_unlock('parent'));
            PHP);
        $process->line(60) === '0' || self::fail("Some children failed.\n" . $process->transcript());
        $process->expect('true');
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame('', $process->errors(), 'There is nothing to warn of');
        $cluster->assertClean($process);
    }

    /** @dataProvider backends */
    public function testAGrandchildAfterAForkWithoutAnyLock(Cluster $cluster): void
    {
        $process = $cluster->process(<<<'PHP'
            if (pcntl_fork() === 0) {
                if (pcntl_fork() === 0) {
                    say(cluster_lock('job', 0) && cluster_unlock('job'));
                    exit(0);
                }
                pcntl_wait($status);
                exit($status);
            }
            pcntl_wait($status);
            say($status);
            say(cluster_lock('job', 0) && cluster_unlock('job'));
            PHP);
        $process->expect('true');
        $process->expect('0');
        $process->expect('true');
        self::assertSame(0, $process->wait(), $process->transcript());
    }
}
