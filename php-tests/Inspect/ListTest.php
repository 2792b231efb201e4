<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Inspect;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * cluster_lock_list(): what is held, by prefix and limit.
 */
final class ListTest extends TestCase
{
    private const HOLD = 'foreach ($names as $name) { $_ = cluster_lock($name, 0); } return true;';

    /** @dataProvider backends */
    public function testItListsHeldLocksByName(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        self::assertSame([], $alice->call('cluster_lock_list'), 'Nothing is held yet');
        $alice->run(self::HOLD, names: ['b', 'a', 'c']);
        $alice->call('cluster_unlock', 'c');
        $list = $cluster->observer()->call('cluster_lock_list');

        self::assertSame(['a', 'b'], array_column($list, 'name'), 'Held locks, sorted by name');
        self::assertTrue(array_is_list($list), 'It is a list');
        $info = $cluster->info('a');
        unset($list[0]['ttl'], $info['ttl']);
        self::assertSame($info, $list[0], 'An entry is what cluster_lock_info() tells');
    }

    /** @dataProvider backends */
    public function testAPrefixIsTakenLiterally(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $alice->run(
            self::HOLD,
            names: ['job:1', 'job:2', 'jobs', 'j*b', 'Job:3', 'xjob:4', "j\0b", 'j%2Ab', 'é', '{j']
        );
        $names = static fn (string $prefix) => array_column($alice->call('cluster_lock_list', $prefix), 'name');

        self::assertSame(['job:1', 'job:2'], $names('job:'), 'A plain prefix');
        self::assertSame(['job:1', 'job:2', 'jobs'], $names('job'), 'A shorter prefix');
        self::assertSame(['jobs'], $names('jobs'), 'A name is a prefix of itself');
        self::assertSame(['j*b'], $names('j*'), 'A star is a star');
        self::assertSame([], $names('j?b'), 'A question mark is a question mark');
        self::assertSame([], $names('[j]'), 'Brackets are brackets');
        self::assertSame(["j\0b"], $names("j\0"), 'NUL is NUL');
        self::assertSame(['j%2Ab'], $names('j%'), 'A percent sign is a percent sign');
        self::assertSame(['é'], $names("\xc3"), 'A prefix may end inside a character');
        self::assertSame(['{j'], $names('{'), 'A brace is a brace');
        self::assertSame([], $names('nothing'), 'No match');
    }

    /** @dataProvider backends */
    public function testTheLimitIsKept(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $alice->run('for ($i = 0; $i < 30; $i++) { $_ = cluster_lock("job $i", 0); } return true;');

        self::assertCount(30, $alice->call('cluster_lock_list'), 'All are fewer than the default limit');
        self::assertCount(7, $alice->call('cluster_lock_list', '', 7), 'A limit of 7');
        self::assertCount(1, $alice->call('cluster_lock_list', limit: 1), 'A limit of 1');
        self::assertCount(30, $alice->call('cluster_lock_list', 'job', PHP_INT_MAX), 'No overflow');
    }

    /** @dataProvider backends */
    public function testWaitersAreListedWithTheirLock(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $alice->call('cluster_lock', 'job');
        $bob->begin('cluster_lock', 'job', 20);
        $cluster->awaitWaiters('job', 1);
        $list = $cluster->observer()->call('cluster_lock_list');

        self::assertSame(['job'], array_column($list, 'name'), 'One lock is held');
        self::assertSame([$bob->pid()], array_column($list[0]['waiters'], 'pid'), 'One waits for it');
    }

    /** @dataProvider backends */
    public function testOfVeryManyHoldersAHundredAreListedAndTheOthersCounted(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $alice->run(<<<'PHP'
            for ($i = 0; $i < 103; $i++) {
                $GLOBALS['held'][] = $lock = new ClusterLock('job', LOCK_SH);
                $lock->acquire(0);
            }
            return true;
            PHP);
        $observer = $cluster->observer();
        [$listed] = $observer->call('cluster_lock_list');
        $info = $observer->call('cluster_lock_info', 'job');

        self::assertSame(103, count($listed['holders']) + $listed['more_holders'], 'All are counted');
        self::assertCount(100, $listed['holders'], 'A list tells of a hundred');
        self::assertCount(103, $info['holders'], 'cluster_lock_info() of more');
        self::assertSame([0, 0, 0], [$info['more_holders'], $info['more_waiters'], $listed['more_waiters']], 'Nobody else');
        $fences = array_column($listed['holders'], 'fence');
        $sorted = $fences;
        sort($sorted);
        self::assertSame($sorted, $fences, 'By age');
        self::assertSame($info['fence'], $listed['fence'], 'The newest');
    }

    public function testMoreThanOneScanPageIsListedWhole(): void
    {
        $cluster = Cluster::redis();
        $alice = $cluster->actor();
        $alice->run('for ($i = 0; $i < 1500; $i++) { $_ = cluster_lock("job $i", 0); } return true;');

        self::assertCount(1000, $alice->call('cluster_lock_list'), 'The default limit is 1000');
        $names = array_column($alice->call('cluster_lock_list', '', 5000), 'name');
        self::assertCount(1500, array_unique($names), 'All, and none twice');
        $names = array_map(static fn (int $i): string => "job $i", range(0, 1499));
        sort($names, SORT_STRING);
        foreach ([1, 50, 1000] as $limit) {
            self::assertSame(
                array_slice($names, 0, $limit),
                array_column($alice->call('cluster_lock_list', '', $limit), 'name'),
                'The first by name'
            );
        }
    }

    public function testOtherPrefixesAndOtherKeysAreNotListed(): void
    {
        $server = RedisServer::own();
        $alice = Cluster::redis($server)->actor(['cluster_lock.prefix' => 'a:']);
        $bob = Cluster::redis($server)->actor(['cluster_lock.prefix' => 'b:']);
        $alice->call('cluster_lock', 'job');
        $server->client()->do('SET', 'a:foreign', 'x');
        $server->client()->do('LPUSH', 'a:{list}', 'x');
        $server->client()->do('SET', 'a:{string}', 'x');

        self::assertSame(['job'], array_column($alice->call('cluster_lock_list'), 'name'), 'Only locks are listed');
        self::assertSame([], $bob->call('cluster_lock_list'), 'Another prefix is another world');
        self::assertTrue($bob->call('cluster_lock', 'job', 0), 'and has locks of its own');
    }

    public function testAServerThatRunsNoScriptsIsEmptyWithAWarning(): void
    {
        $server = RedisServer::own(['rename-command' => ['EVALSHA', '']]);
        $outcome = Cluster::redis($server)->actor()->try('cluster_lock_list');

        self::assertSame([], $outcome->value, 'Nothing is known');
        self::assertCount(1, $outcome->warnings, 'There is one warning');
        self::assertMatchesRegularExpression(
            "/^cluster_lock_list\(\): The locks cannot be listed: .*{$server->port}: .*unknown command .EVALSHA.*rename-command/",
            $outcome->messages(),
            'It says what was to be done, where, and why it was not'
        );
    }

    public function testAnUnreachableServerIsEmptyWithAWarning(): void
    {
        $outcome = Cluster::at('redis://127.0.0.1:' . RedisServer::freePort())->actor()->try('cluster_lock_list');

        self::assertSame([], $outcome->value, 'Nothing is known');
        self::assertCount(1, $outcome->warnings, 'There is one warning');
        self::assertStringStartsWith('cluster_lock_list(): ', $outcome->messages(), 'It names the function');
    }
}
