<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Polyfill\Redis\ScriptTexts;
use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Outcome;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * Nodes with the extension and nodes without it share their locks: they exclude each other, queue together, and their
 * fencing tokens are of one series.
 */
final class InteropTest extends TestCase
{
    /** @return array<string, array{Cluster, string}> */
    public static function sides(): array
    {
        return Sides::all();
    }

    /** @return array<string, array{bool}> */
    public static function killedAndNext(): array
    {
        return ['the extension is killed' => [true], 'the polyfill is killed' => [false]];
    }

    /** @dataProvider killedAndNext */
    public function testTheNextWriterRemovesWhatAKilledOneHasLeft(bool $extensionIsKilled): void
    {
        $cluster = Cluster::redis();
        [$extension, $polyfill] = [Sides::extension($cluster), Sides::polyfill($cluster, 'phpredis')];
        [$killed, $next] = $extensionIsKilled ? [$extension, $polyfill] : [$polyfill, $extension];
        $dir = TempDir::forTest();
        $killed->beginRun(<<<'PHP'
            cluster_file_put_contents("$dir/file", [new class {
                public function __toString(): string { posix_kill(getmypid(), SIGKILL); return 'never'; }
            }]);
            PHP, dir: $dir);
        $killed->process()->wait();
        $left = glob("$dir/.*.cluster_lock.tmp");
        self::assertCount(1, $left, 'A killed writer leaves its temporary file');
        // Stale is what is an hour old.
        touch($left[0], time() - 7200);
        $next->call('cluster_file_put_contents', "$dir/other", 'whole');

        self::assertSame([], glob("$dir/.*.cluster_lock.tmp"), 'It knows by the name that its owner was of this host');
    }

    /** @dataProvider sides */
    public function testTheyExcludeEachOther(Cluster $cluster, string $client): void
    {
        $sides = [Sides::extension($cluster), Sides::polyfill($cluster, $client)];
        foreach ([[0, 1], [1, 0]] as [$one, $other]) {
            [$holder, $second] = [$sides[$one], $sides[$other]];
            self::assertTrue($holder->call('cluster_lock', 'job', 0), 'It is free');
            self::assertFalse($second->call('cluster_lock', 'job', 0), 'It is held on the other side');
            self::assertFalse($second->call('cluster_lock', 'job', 0, LOCK_SH), 'also against readers');
            self::assertTrue($holder->call('cluster_unlock', 'job'), 'It was held throughout');
            self::assertTrue($second->call('cluster_lock', 'job', 0, LOCK_SH), 'Given back, it is free');
            self::assertTrue($holder->call('cluster_lock', 'job', 0, LOCK_SH), 'Readers share across the sides');
            self::assertFalse($sides[0]->run('return (new ClusterLock("job"))->acquire(0);'), 'and keep writers out');
            self::assertTrue($second->call('cluster_unlock', 'job'), 'One reader leaves');
            self::assertTrue($holder->call('cluster_unlock', 'job'), 'and the other');
        }
    }

    /** @dataProvider sides */
    public function testEachNamesTheCodeOfTheOther(Cluster $cluster, string $client): void
    {
        $file = TempDir::forTest() . '/theme.php';
        file_put_contents($file, "<?php\nfunction compile()\n{\n    return cluster_lock('job', 30);\n}\nreturn compile();");
        $log = TempDir::forTest() . '/php_errors';
        $logging = ['cluster_lock.slow_wait' => '0.01', 'log_errors' => 1, 'error_log' => $log];
        foreach ([0, 1] as $first) {
            $sides = [Sides::extension($cluster, $logging), Sides::polyfill($cluster, $client, $logging)];
            [$holder, $waiter] = [$sides[$first], $sides[1 - $first]];
            $holder->run('require $file;', file: $file);
            $waiter->beginRun('return require $file;', file: $file);
            $cluster->awaitWaiters('job', 1);
            foreach ([$cluster->observer(), $holder] as $observer) {
                $info = $observer->call('cluster_lock_info', 'job');
                foreach ([$info['holders'][0], $info['waiters'][0]] as $who) {
                    self::assertSame(['compile', $file, 4], [$who['function'], $who['file'], $who['line']]);
                }
            }
            Until::true(
                static fn (): bool => microtime(true) - $cluster->info('job')['waiters'][0]['since'] > 0.05,
                'time should pass'
            );
            $holder->call('cluster_unlock', 'job');
            self::assertTrue($waiter->end(), 'It is its turn');
            $waiter->call('cluster_unlock', 'job');
            self::assertStringContainsString("pid {$holder->pid()} (cli), compile() at $file:4, for /", (string) file_get_contents($log));
        }
    }

    /** @dataProvider sides */
    public function testAWaiterIsWokenByTheOtherSide(Cluster $cluster, string $client): void
    {
        [$extension, $polyfill] = [Sides::extension($cluster), Sides::polyfill($cluster, $client)];
        foreach ([[$extension, $polyfill], [$polyfill, $extension]] as [$holder, $waiter]) {
            $holder->call('cluster_lock', 'job');
            $waiter->begin('cluster_lock', 'job', 30);
            self::awaitWaiters($holder, 1);
            $holder->call('cluster_unlock', 'job');

            self::assertTrue($waiter->end(), 'It is handed over');
            self::assertTrue($waiter->call('cluster_unlock', 'job'), 'and was held throughout');
        }
    }

    /** @dataProvider sides */
    public function testAMixedQueueIsServedInTheOrderOfArrival(Cluster $cluster, string $client): void
    {
        $log = TempDir::forTest() . '/order';
        $holder = Sides::extension($cluster);
        $holder->call('cluster_lock', 'job');
        $waiters = [];
        for ($i = 0; $i < 6; $i++) {
            $waiter = $i % 2 === 0 ? Sides::polyfill($cluster, $client) : Sides::extension($cluster);
            $waiter->beginRun(
                'cluster_lock("job", 60) || exit(1); file_put_contents($log, $i, FILE_APPEND); return cluster_unlock("job");',
                log: $log,
                i: $i
            );
            self::awaitWaiters($holder, $i + 1);
            $waiters[] = $waiter;
        }
        $holder->call('cluster_unlock', 'job');
        foreach ($waiters as $waiter) {
            self::assertTrue($waiter->end(60.0), 'Each holds it throughout');
        }

        self::assertSame('012345', file_get_contents($log), 'First come, first served, over both sides');
    }

    /** @dataProvider sides */
    public function testFencingTokensIncreaseAcrossTheSides(Cluster $cluster, string $client): void
    {
        $sides = [Sides::extension($cluster), Sides::polyfill($cluster, $client)];
        $last = 0;
        for ($i = 0; $i < 10; $i++) {
            $fence = $sides[$i % 2]->run(
                'cluster_lock("job", 0) || exit(1); $fence = cluster_lock_fence("job"); cluster_unlock("job"); return $fence;'
            );
            self::assertGreaterThan($last, $fence, "Holder $i comes after the one before");
            $last = $fence;
        }
    }

    /** @dataProvider sides */
    public function testEachSeesWhoHoldsAndWaitsOnTheOtherSide(Cluster $cluster, string $client): void
    {
        [$extension, $polyfill] = [Sides::extension($cluster), Sides::polyfill($cluster, $client)];
        foreach ([[$extension, $polyfill], [$polyfill, $extension]] as [$holder, $observer]) {
            $holder->call('cluster_lock', "n\0{ä}", 0);
            $seen = $observer->call('cluster_lock_info', "n\0{ä}");
            $told = $holder->call('cluster_lock_info', "n\0{ä}");
            self::assertSame($told['holders'], $seen['holders'], 'The same report');
            self::assertSame($holder->pid(), $seen['holders'][0]['pid'], 'It names the holder');
            self::assertStringEndsWith('actor.php', $seen['holders'][0]['script'], 'and its script');
            self::assertSame("n\0{ä}", $observer->call('cluster_lock_list')[0]['name'], 'Both list it by its name');
            self::assertTrue($observer->call('cluster_lock_break', "n\0{ä}"), 'The other side can break it');
            self::assertTold('/n\\\\u\{0}\{ä}.*broken by an administrator/', $holder->try('cluster_unlock', "n\0{ä}"));
        }
    }

    /** @dataProvider sides */
    public function testALeaseThatIsNotRenewedIsLostToTheExtensionAndToldSo(Cluster $cluster, string $client): void
    {
        $polyfill = Sides::polyfill($cluster, $client, ['cluster_lock.ttl' => '0.5']);
        $extension = Sides::extension($cluster);
        $polyfill->call('cluster_lock', 'job');
        self::assertTrue($extension->call('cluster_lock', 'job', 20), 'The lease runs out');
        $file = TempDir::forTest() . '/file';
        file_put_contents($file, 'old');

        self::assertNull($polyfill->call('cluster_lock_fence', 'job'), 'The clock tells the former holder');
        $write = $polyfill->try('cluster_file_put_contents', $file, 'new', 0, 'job');
        self::assertFalse($write->value, 'It cannot write under it');
        self::assertMatchesRegularExpression('/was lost.*ran out/', $write->messages(), 'and is told why');
        self::assertSame('old', file_get_contents($file), 'Nothing is written');
        self::assertTold('/"job".*ran out/', $polyfill->try('cluster_unlock', 'job'));
        self::assertTrue($extension->call('cluster_unlock', 'job'), 'Which has not disturbed the present holder');
    }

    /** @dataProvider sides */
    public function testALeaseIsRenewedByAnyCallAndDuringAWait(Cluster $cluster, string $client): void
    {
        $polyfill = Sides::polyfill($cluster, $client, ['cluster_lock.ttl' => '2.5']);
        $extension = Sides::extension($cluster);
        $polyfill->call('cluster_lock', 'mine');
        $extension->call('cluster_lock', 'theirs');
        // Longer than the lease, in a wait.
        self::assertFalse($polyfill->call('cluster_lock', 'theirs', 4.0), 'It waits in vain');
        self::assertFalse($extension->call('cluster_lock', 'mine', 0), 'and has kept what it holds');
        // Longer than the lease, at work, with a call now and then.
        $kept = $polyfill->run(<<<'PHP'
            for ($end = hrtime(true) + 4_000_000_000; hrtime(true) < $end; usleep(50_000)) {
                cluster_lock_fence('mine');
            }
            return cluster_unlock('mine');
            PHP);

        self::assertTrue($kept, 'Each call renews what is due');
    }

    public function testNoUpdateIsLostInAStormOfBothSides(): void
    {
        $file = TempDir::forTest() . '/counter';
        file_put_contents($file, '0');
        $cluster = Cluster::redis();
        $actors = [
            Sides::extension($cluster),
            Sides::polyfill($cluster, 'phpredis'),
            Sides::polyfill($cluster, array_values(Sides::clients())[1] ?? 'phpredis'),
            Sides::extension($cluster),
        ];
        foreach ($actors as $actor) {
            $actor->beginRun(<<<'PHP'
                for ($i = 0; $i < 50; $i++) {
                    cluster_lock('counter', 60) || throw new Exception('not locked');
                    file_put_contents($file, (string) (1 + (int) file_get_contents($file)));
                    cluster_unlock('counter') || throw new Exception('lost');
                }
                return true;
                PHP, file: $file);
        }
        foreach ($actors as $actor) {
            self::assertTrue($actor->end(60.0), 'Each has done its work');
        }

        self::assertSame('200', file_get_contents($file), 'Two hundred increments');
    }

    public function testTheScriptOfOneIsTheScriptOfTheOther(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        Sides::extension($cluster)->run(<<<'PHP'
            cluster_lock('job') || exit('not locked');
            $object = new ClusterLock('other');
            $object->acquire();
            $object->refresh();
            cluster_lock_info('job');
            cluster_unlock('job');
            cluster_lock_break('nobody has it');
            PHP);
        require_once dirname(__DIR__) . '/src/Redis/ScriptTexts.php';
        foreach (['acquire', 'release', 'renew', 'inspect', 'break'] as $name) {
            $digest = ScriptTexts::ALL[$name][1];
            self::assertSame([1], $server->client()->do('SCRIPT', 'EXISTS', $digest), "$name.lua has the same text");
        }
    }

    public function testTheyLockAFileByTheSameName(): void
    {
        $file = TempDir::forTest() . '/file';
        file_put_contents($file, 'x');
        $cluster = Cluster::redis();
        $open = '$GLOBALS["h"] = fopen($file, "r+"); return cluster_flock($GLOBALS["h"], LOCK_EX | LOCK_NB);';
        $polyfill = Sides::polyfill($cluster, 'phpredis', ['cluster_lock.flock_mode' => 'replace']);
        $extension = Sides::extension($cluster, ['cluster_lock.flock_mode' => 'replace']);

        self::assertTrue($polyfill->run($open, file: $file), 'It is free');
        self::assertFalse($extension->run($open, file: $file), 'The extension knows the lock');
        $write = $extension->try('ini_set', 'cluster_lock.timeout', '0');
        self::assertNull($write->thrown);
        self::assertFalse(
            $extension->try('cluster_file_put_contents', $file, 'new', LOCK_EX)->value,
            'and so does its cluster_file_put_contents()'
        );
        $polyfill->run('fclose($GLOBALS["h"]); return true;');
        self::assertTrue($extension->run($open, file: $file), 'fclose() has given it back');
    }

    /** By a warning: PHP's own level is the extension's only. */
    private static function assertTold(string $pattern, Outcome $outcome): void
    {
        self::assertFalse($outcome->value, 'It is not done');
        self::assertCount(1, $outcome->warnings, $outcome->messages());
        self::assertContains($outcome->warnings[0][0], [E_WARNING, E_USER_WARNING], 'A warning');
        self::assertMatchesRegularExpression($pattern, $outcome->messages(), 'which says why');
    }

    private static function awaitWaiters(Actor $observer, int $count): void
    {
        Until::true(
            static fn (): bool => count($observer->call('cluster_lock_info', 'job')['waiters'] ?? []) === $count,
            "$count should wait"
        );
    }
}
