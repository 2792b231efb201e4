<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\Outcome;
use ClusterLock\Tests\Support\Plain;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\Until;

/**
 * Without the server intercepted code goes on: by the kernel's lock alone (gate) or with flock() false (replace).
 */
final class NoServerTest extends FlockTestCase
{
    private RedisServer $server;

    protected function setUp(): void
    {
        parent::setUp();
        $this->server = RedisServer::down();
    }

    public function testFlockLocksByTheKernelAlone(): void
    {
        $mine = Handle::open($this->actor(), $this->file, 'c+', 'flock');
        $plain = Handle::open(Plain::actor(), $this->file, 'c+', 'flock');
        $this->assertWarns1($mine->try(LOCK_EX), true);
        self::assertWouldBlock($plain, LOCK_EX, 'It is locked');
        self::assertTrue($mine->unlock(), 'It is unlocked');
        $plain->lock(LOCK_EX);
        self::assertFalse($mine->try(LOCK_EX | LOCK_NB)->value, 'The plain one has it');
        self::assertSame(1, $mine->wouldBlock(), 'It would block');
        $plain->unlock();

        self::assertTrue($mine->try(LOCK_EX | LOCK_NB)->value, 'It is free');
    }

    public function testOtherCallsWriteByTheKernelAlone(): void
    {
        $actor = $this->actor();
        $this->assertWarns1($actor->try('file_put_contents', $this->file, 'new', LOCK_EX), 3);
        $this->assertWarns1($actor->try('file_put_contents', $this->file, '!', LOCK_EX | FILE_APPEND), 1);
        self::assertSame('new!', file_get_contents($this->file), 'It is written');

        $this->assertWarns1(
            $actor->tryRun('return (new SplFileObject($file, "r+"))->flock(LOCK_EX);', file: $this->file),
            true
        );
    }

    public function testReplaceIsFalseWithAWarning(): void
    {
        $actor = $this->actor(['cluster_lock.flock_mode' => 'replace']);
        $this->assertWarns1(Handle::open($actor, $this->file, 'c+', 'flock')->try(LOCK_EX), false);
        $outcome = $actor->try('file_put_contents', $this->file, 'new', LOCK_EX);
        self::assertNull($outcome->thrown, 'PHP\'s functions do not throw');
        self::assertFalse($outcome->value, 'Nothing is written');
        self::assertStringContainsString($this->server->address(), $outcome->messages(), 'It tells why');

        self::assertSame('content', file_get_contents($this->file), 'The file is as it was');
    }

    public function testAServerThatComesBackIsUsedAgain(): void
    {
        $cluster = Cluster::redis($this->server);
        $mine = Handle::open($this->actor(['cluster_lock.retry_after' => '0.1'], $cluster), $this->file, 'c+', 'flock');
        $mine->try(LOCK_EX);
        $this->server->start();
        Until::true(
            static fn () => $mine->unlock() && $mine->try(LOCK_EX)->warnings === [],
            'the server should be found'
        );

        self::assertNotNull($cluster->info($this->name), 'The cluster knows');
    }

    public function testAServerThatDiesDoesNotTakeTheSiteDown(): void
    {
        $this->server->start();
        $fpm = new Fpm(Cluster::redis($this->server)->settings(['cluster_lock.intercept' => $this->dir]));
        $write = 'ini_set("display_errors", "0"); echo json_encode(file_put_contents($_GET["file"], "x", LOCK_EX));';
        self::assertSame('1', $fpm->get($write, ['file' => $this->file]), 'With a server');
        $this->server->kill();
        for ($i = 0; $i < 3; $i++) {
            self::assertSame('1', $fpm->get($write, ['file' => $this->file]), 'Without');
        }
        $this->server->start();

        self::assertSame('1', $fpm->get($write, ['file' => $this->file]), 'With a server again');
    }

    public function testAServerThatIsLostUnderALockLeavesNoLock(): void
    {
        $this->server->start();
        $mine = Handle::open($this->actor(), $this->file, 'c+', 'flock');
        $plain = Handle::open(Plain::actor(), $this->file, 'c+', 'flock');
        $mine->lock(LOCK_EX);
        $this->server->kill();
        self::assertWouldBlock($plain, LOCK_EX, 'The kernel knows');
        $mine->actor->tryRun('unset($GLOBALS["handles"]);');

        self::assertGets($plain, LOCK_EX, 'The handle is gone');
    }

    public function testABadDsnIsNoReasonToStop(): void
    {
        $actor = Cluster::at('nonsense')->actor(['cluster_lock.intercept' => $this->dir]);
        $outcome = $actor->try('file_put_contents', $this->file, 'new', LOCK_EX);

        self::assertNull($outcome->thrown, 'PHP\'s functions do not throw');
        self::assertSame(3, $outcome->value, 'The kernel\'s lock will do');
        self::assertStringContainsString('cluster_lock.dsn', $outcome->messages(), 'It tells what is wrong');
    }

    /** @param array<string, string> $settings */
    private function actor(array $settings = [], ?Cluster $cluster = null): Actor
    {
        return ($cluster ?? Cluster::redis($this->server))->actor($settings + ['cluster_lock.intercept' => $this->dir]);
    }

    /** One E_WARNING that names the file and the server. */
    private function assertWarns1(Outcome $outcome, mixed $value): void
    {
        self::assertNull($outcome->thrown, 'PHP\'s functions do not throw');
        self::assertSame($value, $outcome->value, $outcome->order);
        self::assertCount(1, $outcome->warnings, "One warning, not: {$outcome->messages()}");
        self::assertSame(E_WARNING, $outcome->warnings[0][0], 'It is an E_WARNING');
        self::assertStringContainsString($this->file, $outcome->messages(), 'It names the lock');
        self::assertStringContainsString($this->server->address(), $outcome->messages(), 'and the server');
    }
}
