<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\Outcome;
use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\Plain;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\Until;

/**
 * Without its server cluster_flock() does by the kernel's lock alone (gate), or fails (replace). It warns.
 */
final class NoServerTest extends FlockTestCase
{
    private const IMPATIENT = [
        'cluster_lock.connect_timeout' => '0.5',
        'cluster_lock.command_timeout' => '0.5',
        'cluster_lock.retry_after' => '0.1',
    ];

    private RedisServer $server;
    private Cluster $cluster;

    protected function setUp(): void
    {
        parent::setUp();
        $this->server = RedisServer::down();
        $this->cluster = Cluster::redis($this->server);
    }

    public function testTheGateStaysShutByTheKernelAlone(): void
    {
        $mine = Handle::open($this->cluster->actor(), $this->file);
        $other = Handle::open($this->cluster->actor(), $this->file);
        $plain = Handle::open(Plain::actor(), $this->file, 'c+', 'flock');
        foreach ([LOCK_EX, LOCK_SH, LOCK_EX | LOCK_NB, LOCK_SH | LOCK_NB] as $operation) {
            $this->assertLocksWithAWarning($mine->try($operation));
            self::assertSame(0, $mine->wouldBlock(), 'It is locked');
        }
        $mine->try(LOCK_EX);
        self::assertWouldBlock($plain, LOCK_EX, 'The kernel knows');
        self::assertFalse($other->try(LOCK_EX | LOCK_NB)->value, 'The kernel knows');
        self::assertSame(1, $other->wouldBlock(), 'It would block');
        self::assertTrue($mine->unlock(), 'There is no lock to give back but the kernel\'s');

        self::assertGets($plain, LOCK_EX, 'It is free');
    }

    public function testAKernelLockAloneIsWaitedFor(): void
    {
        $mine = Handle::open($this->cluster->actor(), $this->file);
        $plain = Handle::open(Plain::actor(), $this->file, 'c+', 'flock');
        $plain->lock(LOCK_EX);
        $mine->begin(LOCK_EX);
        self::assertFalse($mine->actor->isDone(), 'The plain process has it');
        $plain->unlock();

        $this->assertLocksWithAWarning($mine->actor->outcome());
    }

    public function testAWaitForThisVeryProcessFailsAtOnce(): void
    {
        $actor = $this->cluster->actor(['cluster_lock.timeout' => 'INF']);
        $first = Handle::open($actor, $this->file);
        $second = Handle::open($actor, $this->file);
        $first->try(LOCK_EX);
        $outcome = $second->try(LOCK_EX);

        self::assertFalse($outcome->value, 'The kernel would wait for ever');
        self::assertStringContainsString($this->file, $outcome->messages(), 'It tells why');
    }

    public function testAServerThatHasLostItsDataLeavesTheGateShut(): void
    {
        $this->server->start();
        foreach (['gate' => false, 'replace' => true] as $mode => $gets) {
            [$alice, $bob] = $this->cluster->actors(2, ['cluster_lock.flock_mode' => $mode]);
            $mine = Handle::open($alice, $this->file);
            $other = Handle::open($bob, $this->file);
            $mine->lock(LOCK_EX);
            $this->server->client()->do('FLUSHALL');
            self::assertSame($gets, $other->lock(LOCK_EX | LOCK_NB), "Only the kernel could know: $mode");
            $mine->try(LOCK_UN);
            $other->try(LOCK_UN);
            self::assertFreeFor($mine, 'Nothing stays of it');
        }
    }

    public function testReplaceFailsWithAWarning(): void
    {
        $mine = Handle::open($this->cluster->actor(['cluster_lock.flock_mode' => 'replace']), $this->file);
        foreach ([LOCK_EX, LOCK_SH | LOCK_NB] as $operation) {
            $outcome = $mine->try($operation);
            self::assertWarns($outcome, 'cluster_flock', $this->file, '/' . preg_quote($this->server->address(), '/') . '/');
            self::assertSame(0, $mine->wouldBlock(), 'It is a failure');
        }
        self::assertTrue($mine->unlock(), 'Nothing was locked');
    }

    public function testAServerThatComesBackIsUsedAgain(): void
    {
        foreach (['gate', 'replace'] as $mode) {
            $mine = Handle::open($this->cluster->actor(['cluster_lock.flock_mode' => $mode] + self::IMPATIENT), $this->file);
            $mine->try(LOCK_EX);
            $this->server->start();
            Until::true(
                static fn () => $mine->unlock() && $mine->try(LOCK_EX)->warnings === [],
                'the server should be found'
            );
            self::assertNotNull($this->cluster->info($this->name), 'The cluster knows');
            $mine->close();
            $this->server->kill();
        }
    }

    public function testAServerThatDiesUnderALockLeavesTheKernels(): void
    {
        $this->server->start();
        $mine = Handle::open($this->cluster->actor(self::IMPATIENT), $this->file);
        $plain = Handle::open(Plain::actor(), $this->file, 'c+', 'flock');
        self::assertTrue($mine->lock(LOCK_EX), 'The server runs');
        $this->server->kill();
        self::assertWouldBlock($plain, LOCK_EX, 'The kernel knows');
        self::assertNull($mine->try(LOCK_UN)->thrown, 'Functions do not throw');
        self::assertGets($plain, LOCK_EX, 'The kernel\'s is given back');
    }

    public function testAServerThatStallsIsGivenUp(): void
    {
        $this->server->start();
        $mine = Handle::open($this->cluster->actor(self::IMPATIENT), $this->file);
        $mine->lock(LOCK_EX);
        $mine->unlock();
        $this->server->signal(SIGSTOP);
        $outcome = $mine->try(LOCK_EX);
        $this->server->signal(SIGCONT);

        $this->assertLocksWithAWarning($outcome);
    }

    public function testWhoCannotReachTheServerRespectsWhoCan(): void
    {
        $this->server->start();
        $connected = Handle::open($this->cluster->actor(), $this->file);
        $cutOff = Handle::open(Cluster::at('redis://127.0.0.1:1')->actor(), $this->file);
        $connected->lock(LOCK_EX);
        self::assertFalse($cutOff->try(LOCK_EX | LOCK_NB)->value, 'The gate keeps it out');
        $connected->unlock();
        self::assertTrue($cutOff->try(LOCK_EX | LOCK_NB)->value, 'The gate is open');

        self::assertWouldBlock($connected, LOCK_EX, 'and shut for the others');
    }

    public function testHandlesAndRequestsEndThoughTheServerIsGone(): void
    {
        $this->server->start();
        $process = $this->cluster->process(
            '$a = fopen(__FILE__, "r"); cluster_flock($a, LOCK_EX); $b = fopen(__DIR__ . "/b", "w"); cluster_flock($b, LOCK_EX);'
            . 'say("locked"); hear(); fclose($a); say("closed");',
            self::IMPATIENT
        );
        $process->expect('locked');
        $this->server->kill();
        $process->tell('go on');
        $process->expect('closed');

        self::assertSame(0, $process->wait(), $process->transcript());
    }

    private function assertLocksWithAWarning(Outcome $outcome): void
    {
        self::assertNull($outcome->thrown, 'Functions do not throw');
        self::assertTrue($outcome->value, 'The kernel has locked it');
        self::assertCount(1, $outcome->warnings, "One warning, not: {$outcome->messages()}");
        self::assertSame(Php::warning(), $outcome->warnings[0][0], 'It is an E_WARNING');
        self::assertStringStartsWith('cluster_flock(): ', $outcome->messages(), 'of the function');
        self::assertStringContainsString($this->file, $outcome->messages(), 'It names the lock');
        self::assertStringContainsString($this->server->address(), $outcome->messages(), 'and the server');
    }
}
