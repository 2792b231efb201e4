<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Inspect;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * cluster_lock_break(): an administrator takes a lock away.
 */
final class BreakTest extends TestCase
{
    /** @dataProvider backends */
    public function testBreakingWhatNobodyHoldsIsFalse(Cluster $cluster): void
    {
        $admin = $cluster->actor();
        self::assertFalse($admin->call('cluster_lock_break', 'job'), 'Nobody holds it');
        $admin->call('cluster_lock', 'job');
        $admin->call('cluster_unlock', 'job');
        self::assertFalse($admin->call('cluster_lock_break', 'job'), 'Nobody holds it any more');
        $cluster->assertFree('job', 'Breaking what is free leaves it free');
    }

    /** @dataProvider backends */
    public function testABrokenLockIsFreeAndItsHolderFindsOut(Cluster $cluster): void
    {
        [$alice, $admin] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');

        self::assertTrue($admin->call('cluster_lock_break', 'job'), 'Alice held it');
        $cluster->assertFree('job', 'It was broken');
        self::assertWarns(
            $alice->try('cluster_unlock', 'job'),
            'cluster_unlock',
            '"job"',
            '/broken?|taken away|let in/i'
        );
        self::assertTrue($alice->call('cluster_lock', 'job', 0), 'Alice may take it again');
    }

    /** @dataProvider backends */
    public function testTheHolderIsToldThatItWasBroken(Cluster $cluster): void
    {
        [$alice, $admin] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $admin->call('cluster_lock_break', 'job');

        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/broken/i');
    }

    /** @dataProvider backends */
    public function testTheNextWaiterGetsIt(Cluster $cluster): void
    {
        [$alice, $bob, $carol, $admin] = $cluster->actors(4);
        $alice->call('cluster_lock', 'job');
        $bob->begin('cluster_lock', 'job', 20);
        $cluster->awaitWaiters('job', 1);
        $carol->begin('cluster_lock', 'job', 20);
        $cluster->awaitWaiters('job', 2);
        $admin->call('cluster_lock_break', 'job');
        $outcome = $bob->outcome();

        self::assertTrue($outcome->value(), 'Bob was next');
        self::assertSame([$carol->pid()], array_column($cluster->info('job')['waiters'], 'pid'), 'Carol waits on');
        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/broken|holder/i');
        $cluster->assertHeld('job', "Alice's late unlock must not touch Bob's lock");
        self::assertTrue($bob->call('cluster_unlock', 'job'), 'Bob held it throughout');
        self::assertTrue($carol->end(), 'Then Carol');
    }

    /** @dataProvider backends */
    public function testASharedLockIsTakenFromAllReaders(Cluster $cluster): void
    {
        [$alice, $bob, $writer, $admin] = $cluster->actors(4);
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $bob->call('cluster_lock', 'job', 0, LOCK_SH);

        self::assertTrue($admin->call('cluster_lock_break', 'job'), 'Two held it');
        self::assertTrue($writer->call('cluster_lock', 'job', 0), 'Now a writer gets it');
        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/broken|holder/i');
        self::assertWarns($bob->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/broken|holder/i');
        self::assertTrue($writer->call('cluster_unlock', 'job'), 'The writer was not disturbed');
    }

    /** @dataProvider backends */
    public function testWithAFenceTheNextHolderIsLeftAlone(Cluster $cluster): void
    {
        [$alice, $bob, $admin] = $cluster->actors(3);
        $alice->call('cluster_lock', 'job');
        $seen = $cluster->info('job')['fence'];
        $alice->call('cluster_unlock', 'job');
        self::assertFalse($admin->call('cluster_lock_break', 'job', $seen), 'Nobody holds it');
        $bob->call('cluster_lock', 'job');

        self::assertFalse($admin->call('cluster_lock_break', 'job', $seen), 'Alice was meant, and Bob holds it');
        self::assertFalse($admin->call('cluster_lock_break', 'job', PHP_INT_MAX), 'Nobody has that token');
        self::assertSame([$bob->pid()], array_column($cluster->info('job')['holders'], 'pid'), 'Nothing was done');
        $fence = $cluster->info('job')['fence'];
        self::assertTrue($admin->call('cluster_lock_break', 'job', $fence), 'Bob was meant');
        self::assertFalse($admin->call('cluster_lock_break', 'job', $fence), 'Nobody holds it any more');
        self::assertWarns($bob->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/broken/i');
    }

    /** @dataProvider backends */
    public function testWithAFenceReadersAreBrokenUnlessAnotherHasJoinedThem(Cluster $cluster): void
    {
        [$alice, $bob, $carol, $admin] = $cluster->actors(4);
        $alice->call('cluster_lock', 'job', 0, LOCK_SH);
        $bob->call('cluster_lock', 'job', 0, LOCK_SH);
        $seen = $cluster->info('job')['fence'];
        $carol->call('cluster_lock', 'job', 0, LOCK_SH);

        self::assertFalse($admin->call('cluster_lock_break', 'job', $seen), 'Nobody has seen Carol');
        self::assertCount(3, $cluster->info('job')['holders'], 'Nothing was done');
        $seen = $cluster->info('job')['fence'];
        $carol->call('cluster_unlock', 'job');
        self::assertTrue($admin->call('cluster_lock_break', 'job', $seen), 'All who are left were seen');
        $cluster->assertFree('job', 'It is taken from all of them');
    }

    /** @dataProvider backends */
    public function testARenewalFindsTheBreakAndStops(Cluster $cluster): void
    {
        [$alice, $bob, $admin] = $cluster->actors(3, ['cluster_lock.ttl' => '0.6']);
        $alice->call('cluster_lock', 'job');
        $admin->call('cluster_lock_break', 'job');

        self::assertTrue($bob->call('cluster_lock', 'job', 0), 'Bob gets it');
        self::assertFalse($cluster->observer()->call('cluster_lock', 'job', 1.0), "Alice's renewals must not disturb");
        self::assertTrue($bob->call('cluster_unlock', 'job'), 'Bob held it throughout');
        self::assertNull($alice->try('cluster_lock_fence', 'job')->value, 'Alice has found out by her renewal');
    }

    public function testAnUnreachableServerIsFalseWithAWarning(): void
    {
        $outcome = Cluster::at('redis://127.0.0.1:' . RedisServer::freePort())->actor()->try(
            'cluster_lock_break',
            'job'
        );

        self::assertWarns($outcome, 'cluster_lock_break', 'job', '/127\.0\.0\.1/', '/refused/i');
    }
}
