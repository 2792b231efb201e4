<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Sapi;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Embed;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * A program that embeds PHP may start and end it more than once in its life: each time everything works, and nothing of
 * the time before is left.
 */
final class EmbedTest extends TestCase
{
    private const CYCLES = 3;

    public function testItLocksRenewsAndWakesWheneverItIsStarted(): void
    {
        $cluster = Cluster::redis(RedisServer::own());
        $waiter = $cluster->actor();
        $program = Embed::run(<<<'PHP'
            say(count(scandir('/proc/self/task')) - 2);
            hear();
            cluster_lock('job', 60) || exit(1);
            (new ClusterLock('object'))->acquire(60) || exit(2);
            $GLOBALS['kept'] = fopen(__FILE__, 'r');
            cluster_flock($GLOBALS['kept'], LOCK_EX) || exit(3);
            say('held');
            while (cluster_lock_status()['counters']['renewals'] < 3) {
                usleep(3000);
            }
            say('renewed');
            hear();
            cluster_unlock('job') || exit(4);
            // Behind the other one.
            cluster_lock('job', 60) || exit(5);
            say('again');
            hear();
            PHP, $cluster->settings(['cluster_lock.ttl' => '0.5']), cycles: self::CYCLES);
        for ($cycle = 1; $cycle <= self::CYCLES; $cycle++) {
            $program->expect('1');
            // None before the first lock, and none of the cycle before.
            $cluster->awaitNoConnectionOf($program->pid());
            $program->tell('begin');
            $program->expect('held');
            $program->expect('renewed');
            $waiter->begin('cluster_lock', 'job', 60);
            $cluster->awaitWaiters('job', 1);
            $program->tell('give it back');
            self::assertTrue($waiter->end(60.0), "The next one is woken, cycle $cycle");
            $cluster->awaitWaiters('job', 1);
            $waiter->call('cluster_unlock', 'job');
            $program->expect('again');
            $cluster->assertHeld('job', "The program was woken, too, cycle $cycle");
            $program->tell('end');
        }
        self::assertSame(0, $program->wait(), $program->transcript());
        $cluster->assertClean($program);
    }

    public function testOneCycleLeavesNothingInTheNext(): void
    {
        $cluster = Cluster::redis();
        $program = Embed::run(<<<'PHP'
            $status = cluster_lock_status();
            say(json_encode([$status['held'], $status['counters']['acquired'], cluster_lock_fence('job'), ini_get('cluster_lock.ttl')]));
            cluster_lock('job', 0) || exit(1);
            ini_set('cluster_lock.ttl', '77');
            hear();
            exit(0);
            PHP, $cluster->settings(), cycles: self::CYCLES);
        for ($cycle = 1; $cycle <= self::CYCLES; $cycle++) {
            $program->expect('[[],0,null,"10"]');
            $program->tell('end');
        }
        self::assertSame(0, $program->wait(), $program->transcript());
        $cluster->assertClean($program);
    }

    /** What was asked for in vain and what is to be given back are matters of the background, which ends with PHP. */
    public function testPhpEndsWhileTheServerIsSilent(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $program = Embed::run(<<<'PHP'
            say('begun');
            hear();
            cluster_lock('job', 60) || exit(1);
            say('held');
            hear();
            // Neither is answered.
            @cluster_lock('other', 0.5);
            @cluster_unlock('job');
            PHP, $cluster->settings(
            ['cluster_lock.connect_timeout' => '0.5', 'cluster_lock.command_timeout' => '0.5', 'cluster_lock.ttl' => '1']
        ), cycles: 2);
        $program->expect('begun');
        $program->tell('lock');
        $program->expect('held');
        $server->signal(SIGSTOP);
        $program->tell('go on');
        $program->expect('begun');
        $server->signal(SIGCONT);
        $program->tell('lock');
        $program->expect('held');
        $server->signal(SIGSTOP);
        $program->tell('go on');
        self::assertSame(0, $program->wait(), $program->transcript());
        $server->signal(SIGCONT);
        Until::true(
            static fn () => $cluster->info('job') === null && $cluster->info('other') === null,
            'what was not answered is over with its lease'
        );
    }

    /** What is a thread's is gone by then, and PHP closes streams and frees objects all the same. */
    public function testAProgramThatExitsInARequestAndThenEndsPhpLeavesNoLock(): void
    {
        $cluster = Cluster::redis();
        $program = Embed::run(<<<'PHP'
            cluster_lock('job', 0) || exit(1);
            $GLOBALS['object'] = new ClusterLock('object');
            $GLOBALS['object']->acquire(0) || exit(2);
            $GLOBALS['kept'] = fopen(__FILE__, 'r');
            cluster_flock($GLOBALS['kept'], LOCK_EX) || exit(3);
            register_shutdown_function(static fn () => cluster_lock('late', 0));
            say('held');
            hear();
            end_program();
            PHP, $cluster->settings(['cluster_lock.ttl' => 60]));
        $program->expect('held');
        $cluster->assertHeld('job', 'The request is under way');
        $program->tell('end');
        self::assertSame(0, $program->wait(), $program->transcript());
        foreach (['job', 'object'] as $name) {
            $cluster->assertFree($name, 'The program is over');
        }
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'Nor is anything else held');
    }
}
