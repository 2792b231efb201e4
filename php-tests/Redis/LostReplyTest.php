<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Proxy;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * A connection breaks between command and reply: what was done is found out before it is reported.
 */
final class LostReplyTest extends TestCase
{
    private RedisServer $server;
    private Cluster $cluster;
    private Proxy $proxy;
    private Actor $alice;
    private Actor $bob;

    protected function setUp(): void
    {
        parent::setUp();
        $this->server = RedisServer::own();
        $this->cluster = Cluster::redis($this->server);
        $this->proxy = new Proxy($this->server);
        // Renewals would lose their replies as well.
        $this->alice = $this->cluster->actor(
            ['cluster_lock.dsn' => 'redis://' . $this->proxy->address, 'cluster_lock.auto_renew' => '0']
        );
        $this->bob = $this->cluster->actor();
        $this->alice->run('return cluster_lock("warm") && cluster_unlock("warm");');
    }

    /** @return array<string, array{bool}> */
    public static function losses(): array
    {
        return ['whole' => [false], 'half' => [true]];
    }

    /** @dataProvider losses */
    public function testALostAcquireIsAskedAgain(bool $half): void
    {
        $this->proxy->lose($half);
        $this->alice->begin('cluster_lock', 'job', 5);
        $this->proxy->awaitLoss();
        self::assertNotNull($this->cluster->info('job'), 'The server has let Alice in');
        $this->proxy->pass();

        self::assertTrue($this->alice->end(), 'Alice asks again and learns it');
        self::assertCount(1, $this->cluster->info('job')['holders'], 'She was let in once');
        self::assertSame(
            $this->cluster->info('job')['fence'],
            $this->alice->call('cluster_lock_fence', 'job'),
            'with one fence'
        );
        self::assertTrue($this->alice->call('cluster_unlock', 'job'), 'She holds it');
        $this->cluster->assertFree('job', 'One unlock was enough');
    }

    /** @dataProvider losses */
    public function testALostSharedAcquireIsAskedAgain(bool $half): void
    {
        $this->bob->call('cluster_lock', 'job', 0, LOCK_SH);
        $this->proxy->lose($half);
        $this->alice->begin('cluster_lock', 'job', 5, LOCK_SH);
        $this->proxy->awaitLoss();
        $this->proxy->pass();

        self::assertTrue($this->alice->end(), 'Alice asks again and learns it');
        self::assertCount(2, $this->cluster->info('job')['holders'], 'She was let in once');
        self::assertTrue($this->alice->call('cluster_unlock', 'job'), 'She holds it');
        self::assertTrue($this->bob->call('cluster_unlock', 'job'), 'and so does Bob');
        $this->cluster->assertFree('job', 'Both have left');
    }

    /** @dataProvider losses */
    public function testALostReleaseIsNoError(bool $half): void
    {
        $this->alice->call('cluster_lock', 'job');
        $this->proxy->lose($half);
        $this->alice->begin('cluster_unlock', 'job');
        $this->proxy->awaitLoss();
        self::assertNull($this->cluster->info('job'), 'The server has freed it');
        $this->proxy->pass();

        self::assertTrue($this->alice->end(), 'It was ours from acquire to release');
    }

    public function testALostReleaseIsNoErrorThoughAnotherHoldsItByNow(): void
    {
        $this->alice->call('cluster_lock', 'job');
        $this->bob->begin('cluster_lock', 'job', 30);
        $this->cluster->awaitWaiters('job', 1);
        $this->proxy->lose();
        $this->alice->begin('cluster_unlock', 'job');
        $this->proxy->awaitLoss();
        self::assertTrue($this->bob->end(), 'The release was carried out: Bob is next');
        $this->proxy->pass();

        self::assertTrue($this->alice->end(), 'It was ours from acquire to release');
        self::assertTrue($this->bob->call('cluster_unlock', 'job'), "The repeated release did not touch Bob's lock");
    }

    public function testALostReleaseIsNoErrorThoughAnotherHeldItMeanwhile(): void
    {
        $this->alice->call('cluster_lock', 'job');
        $this->proxy->lose();
        $this->alice->begin('cluster_unlock', 'job');
        $this->proxy->awaitLoss();
        for ($i = 0; $i < 3; $i++) {
            self::assertTrue($this->bob->call('cluster_lock', 'job', 0), 'The release was carried out: Bob gets it');
            self::assertTrue($this->bob->call('cluster_unlock', 'job'), 'and gives it back');
        }
        $this->proxy->pass();

        self::assertTrue($this->alice->end(), 'It was ours from acquire to release');
    }

    public function testALostSharedReleaseIsNoErrorThoughAnotherLeftMeanwhile(): void
    {
        $this->alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $this->bob->call('cluster_lock', 'job', 0, LOCK_SH);
        $this->proxy->lose();
        $this->alice->begin('cluster_unlock', 'job');
        $this->proxy->awaitLoss();
        self::assertTrue($this->bob->call('cluster_unlock', 'job'), 'Bob leaves, too');
        $this->proxy->pass();

        self::assertTrue($this->alice->end(), 'It was ours from acquire to release');
    }

    public function testAReleaseThatNeverArrivedIsRepeated(): void
    {
        $this->alice->call('cluster_lock', 'job');
        $this->proxy->cut();
        $this->alice->begin('cluster_unlock', 'job');
        $this->proxy->awaitLoss();
        $this->cluster->assertHeld('job', 'The release has not arrived');
        $this->proxy->pass();

        self::assertTrue($this->alice->end(), 'It was ours from acquire to release');
        $this->cluster->assertFree('job', 'The repeated release has arrived');
    }

    /** @dataProvider losses */
    public function testALostHandOffIsFoundOut(bool $half): void
    {
        $this->bob->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        $this->alice->begin('cluster_lock', 'job', 30);
        $this->cluster->awaitWaiters('job', 1);
        $this->proxy->lose($half);
        $this->bob->call('cluster_unlock', 'job');
        $this->proxy->awaitLoss();
        $this->proxy->pass();

        self::assertTrue($this->alice->end(), 'Alice asks again and learns that it is her turn');
        self::assertTrue($this->alice->call('cluster_unlock', 'job'), 'She holds it');
        $this->cluster->assertFree('job', 'One unlock was enough');
    }

    public function testAnOutcomeThatCannotBeFoundOutIsAWarningAndTheLeaseRunsOut(): void
    {
        $alice = $this->cluster->actor([
            'cluster_lock.dsn' => 'redis://' . $this->proxy->address,
            'cluster_lock.connect_timeout' => '0.5',
            'cluster_lock.command_timeout' => '0.5',
        ]);
        $alice->run('return cluster_lock("warm", 5) && cluster_unlock("warm");');
        $this->proxy->lose();
        $outcome = $alice->try('cluster_lock', 'job', 5, LOCK_EX, 1);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/' . preg_quote($this->proxy->address, '/') . '/');
        self::assertNull($alice->call('cluster_lock_fence', 'job'), 'Alice holds nothing that she knows of');
        self::assertTrue($this->bob->call('cluster_lock', 'job', 5), 'What she does not know of runs out');
    }
}
