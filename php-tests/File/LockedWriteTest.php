<?php

declare(strict_types=1);

namespace ClusterLock\Tests\File;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\Until;

/**
 * Writes under a lock: the file's own (LOCK_EX, FILE_APPEND), or one that the caller holds ($lock).
 */
final class LockedWriteTest extends FileTestCase
{
    /** @dataProvider backends */
    public function testTheLockOfTheFileIsHeldForTheWholeOperation(Cluster $cluster): void
    {
        $file = "{$this->dir}/file";
        file_put_contents($file, 'old');
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.timeout' => '0.3']);
        $pipe = $this->beginSlowWrite($alice, $file, LOCK_EX);
        Until::true(
            static fn () => count($cluster->observer()->call('cluster_lock_list')) === 1,
            'the write should take one lock'
        );
        $lock = $cluster->observer()->call('cluster_lock_list')[0];
        self::assertSame([$alice->pid()], array_column($lock['holders'], 'pid'), 'Alice holds it');
        self::assertStringContainsString($file, $lock['name'], 'Its name tells the file');

        $outcome = $bob->try('cluster_file_put_contents', $file, 'by Bob', LOCK_EX);
        self::assertStringContainsString($file, $outcome->warning(), 'A time-out is a warning that names the file');
        self::assertTook(0.3, $outcome->seconds, 'cluster_lock.timeout of 0.3 s');
        self::assertSame('old', file_get_contents($file), 'Readers see the old file');

        $bob->call('ini_set', 'cluster_lock.timeout', '30');
        $bob->begin('cluster_file_put_contents', $file, 'by Bob', LOCK_EX);
        $cluster->awaitWaiters($lock['name'], 1);
        $this->finishSlowWrite($pipe);
        self::assertSame(23, $alice->end(), 'The count of bytes');
        self::assertSame(6, $bob->end(), 'Then it is the turn of Bob');
        $this->assertUntouched('by Bob', 'Bob came last');
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'No lock stays');
    }

    /** @dataProvider backends */
    public function testTheLossOfAnEarlierLockIsToldAndTheFileIsWritten(Cluster $cluster): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $writer = $cluster->actor(['cluster_lock.auto_renew' => '0']);
        $writer->call('cluster_lock', "file:{$this->dir}/file", null, LOCK_EX, 0.1);
        Until::true(
            fn () => $writer->call('cluster_lock_fence', "file:{$this->dir}/file") === null,
            'the lease should run out'
        );
        $outcome = $writer->try('cluster_file_put_contents', "{$this->dir}/file", 'new', LOCK_EX);

        self::assertSame(3, $outcome->value, 'The count of bytes');
        self::assertStringContainsString('it was held and is lost', $outcome->messages());
        $this->assertUntouched('new', 'it is written');
    }

    /** @dataProvider backends */
    public function testAllWaysToTheFileAreOneLock(Cluster $cluster): void
    {
        mkdir("{$this->dir}/sub");
        file_put_contents("{$this->dir}/file", 'old');
        symlink('file', "{$this->dir}/link");
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.timeout' => '0']);
        $bob->call('chdir', "{$this->dir}/sub");
        $pipe = $this->beginSlowWrite($alice, "{$this->dir}/file", LOCK_EX);
        Until::true(
            static fn () => $cluster->observer()->call('cluster_lock_list') !== [],
            'the write should take a lock'
        );
        foreach (['../file', '../link', "{$this->dir}/sub/.././file", "file://{$this->dir}/link"] as $path) {
            $bob->try('cluster_file_put_contents', $path, 'by Bob', LOCK_EX)->warning();
            $bob->try('cluster_file_put_contents', $path, 'by Bob', FILE_APPEND)->warning();
        }
        self::assertSame(
            6,
            $bob->call('cluster_file_put_contents', '../other', 'by Bob', LOCK_EX),
            'Another file is another lock'
        );
        $this->finishSlowWrite($pipe);
        $alice->end();

        self::assertSame('first half, second half', file_get_contents("{$this->dir}/file"), 'Nobody came between');
    }

    /** @dataProvider backends */
    public function testThePathMapMakesOneLockOfTwoMountPoints(Cluster $cluster): void
    {
        $other = TempDir::forTest();
        $alice = $cluster->actor(['cluster_lock.path_map' => "{$this->dir}=/srv/www"]);
        $bob = $cluster->actor(['cluster_lock.path_map' => "$other=/srv/www", 'cluster_lock.timeout' => '0']);
        $pipe = $this->beginSlowWrite($alice, "{$this->dir}/file", LOCK_EX);
        Until::true(
            static fn () => $cluster->observer()->call('cluster_lock_list') !== [],
            'the write should take a lock'
        );
        [$lock] = $cluster->observer()->call('cluster_lock_list');
        self::assertStringContainsString('/srv/www/file', $lock['name'], 'The lock has the name that all nodes share');
        $warning = $bob->try('cluster_file_put_contents', "$other/file", 'by Bob', LOCK_EX)->warning();

        self::assertStringContainsString('/file', $warning, 'To the other node it is the same file');
        $this->finishSlowWrite($pipe);
        $alice->end();
    }

    /** @dataProvider backends */
    public function testAWriteUnderALockThatIsHeldWorks(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $alice->call('cluster_lock', 'job');
        self::assertSame(
            3,
            $alice->call('cluster_file_put_contents', "{$this->dir}/file", 'new', 0, 'job'),
            'Alice holds it'
        );
        self::assertSame(
            5,
            $alice->call('cluster_file_put_contents', "{$this->dir}/file", 'newer', LOCK_EX, 'job'),
            'together with the file\'s'
        );
        $alice->call('cluster_lock', 'job');
        self::assertSame(
            1,
            $alice->call('cluster_file_put_contents', "{$this->dir}/file", '!', FILE_APPEND, lock: 'job'),
            'nested, appending'
        );

        $this->assertUntouched('newer!', 'three writes');
    }

    /** @dataProvider backends */
    public function testAWriteUnderALockThatIsNotHeldIsRefused(Cluster $cluster): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        [$alice, $bob] = $cluster->actors(2);
        $bob->call('cluster_lock', 'job');
        $outcome = $alice->try('cluster_file_put_contents', "{$this->dir}/file", 'new', 0, 'job');
        self::assertWarns($outcome, 'cluster_file_put_contents', '"job"', '/not held/i');
        $alice->call('cluster_lock', 'other');
        $alice->try('cluster_file_put_contents', "{$this->dir}/file", 'new', LOCK_EX, 'job')->warning();

        $this->assertUntouched('old', 'the lock is Bob\'s');
    }

    /** @dataProvider backends */
    public function testALockThatIsBrokenDuringTheWriteStopsTheRename(Cluster $cluster): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $alice = $cluster->actor();
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        $pipe = $this->beginSlowWrite($alice, "{$this->dir}/file", 0, 'job');
        $cluster->observer()->call('cluster_lock_break', 'job');
        $this->finishSlowWrite($pipe);
        $outcome = $alice->outcome();

        self::assertWarns($outcome, 'cluster_file_put_contents', '"job"', '/broken/i');
        $this->assertUntouched('old', 'the lock was broken before the rename');
    }

    /** @dataProvider backends */
    public function testAFileLockThatIsBrokenDuringTheWriteStopsTheRename(Cluster $cluster): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $alice = $cluster->actor();
        $pipe = $this->beginSlowWrite($alice, "{$this->dir}/file", LOCK_EX);
        Until::true(
            static fn () => $cluster->observer()->call('cluster_lock_list') !== [],
            'the write should take a lock'
        );
        $cluster->observer()->call('cluster_lock_break', $cluster->observer()->call('cluster_lock_list')[0]['name']);
        $this->finishSlowWrite($pipe);
        $outcome = $alice->outcome();

        self::assertFalse($outcome->value, 'Another may be writing by now');
        $this->assertUntouched('old', 'the lock was broken before the rename');
    }

    /** @return array<string, array{string, string}> */
    public static function locksThatAreTakenAgain(): array
    {
        return [
            'the lock of the caller' => ['job', 'cluster_lock("job") && cluster_file_put_contents($file, $data, 0, "job")'],
            'the lock of the file' => ['file:', 'cluster_file_put_contents($file, $data, FILE_APPEND | LOCK_EX)'],
        ];
    }

    /**
     * Somebody else may have written in between.
     *
     * @dataProvider locksThatAreTakenAgain
     */
    public function testALockThatWasGivenBackAndTakenAgainDuringTheWriteStopsTheRename(string $name, string $write): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $outcome = Cluster::redis()->actor()->tryRun(
            <<<'PHP'
            $name .= $name === 'file:' ? $file : '';
            $data = [new class (static fn () => cluster_unlock($name) && cluster_lock($name)) {
                public function __construct(private Closure $again) {}
                public function __toString(): string { ($this->again)(); return 'new'; }
            }];
            PHP . "return $write;",
            file: "{$this->dir}/file",
            name: $name
        );

        self::assertFalse($outcome->value, 'It was not held all the time');
        self::assertMatchesRegularExpression('/is unchanged: .*not held by this request any more/', $outcome->messages());
        $this->assertUntouched('old', 'the lock was another one');
    }

    /** @dataProvider backends */
    public function testAppendingAddsWhole(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        foreach (['a' => 'a', 'bc' => 'abc', '' => 'abc', 'def' => 'abcdef'] as $data => $content) {
            self::assertSame(
                strlen($data),
                $alice->call('cluster_file_put_contents', "{$this->dir}/file", (string) $data, FILE_APPEND),
                'The count is that of $data'
            );
            $this->assertUntouched($content, 'it was appended');
        }
        self::assertSame(
            4,
            $alice->call('cluster_file_put_contents', "{$this->dir}/file", [1, '2', 34], FILE_APPEND | LOCK_EX),
            'with LOCK_EX, too'
        );
        $this->assertUntouched('abcdef1234', 'it was appended');
    }

    /** @dataProvider backends */
    public function testNoAppendIsLost(Cluster $cluster): void
    {
        $actors = $cluster->actors(5, ['cluster_lock.timeout' => '60', 'cluster_lock.durable_writes' => '0']);
        foreach ($actors as $i => $actor) {
            $actor->beginRun(<<<'PHP'
                for ($n = 0; $n < 40; $n++) {
                    cluster_file_put_contents($file, "$i:$n\n", FILE_APPEND) || throw new Exception('not appended');
                }
                return true;
                PHP, file: "{$this->dir}/file", i: $i);
        }
        foreach ($actors as $actor) {
            $actor->end(60);
        }
        $lines = file("{$this->dir}/file", FILE_IGNORE_NEW_LINES);

        self::assertCount(200, array_unique($lines), 'Each line should be there once');
        self::assertSame(['file'], $this->names(), 'No temporary file may stay');
        foreach (range(0, 4) as $i) {
            $own = array_values(preg_grep("/^$i:/", $lines));
            self::assertSame(
                array_map(static fn ($n) => "$i:$n", range(0, 39)),
                $own,
                'in the order in which it was written'
            );
        }
    }

    public function testWithoutALockNoServerIsNeeded(): void
    {
        $server = RedisServer::own();
        $alice = Cluster::redis($server)->actor();
        $alice->call('cluster_file_put_contents', "{$this->dir}/file", 'new');

        self::assertSame([], $server->client()->clients(), 'A plain write connects to nobody');
    }

    public function testWithoutItsServerALockedWriteIsRefused(): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $writer = $this->writer();
        foreach ([LOCK_EX, FILE_APPEND, LOCK_EX | FILE_APPEND] as $flags) {
            $warning = $writer->try('cluster_file_put_contents', "{$this->dir}/file", 'new', $flags)->warning();
            self::assertStringContainsString('127.0.0.1:1', $warning, 'It names the server');
            self::assertStringContainsString("{$this->dir}/file", $warning, 'and the file');
        }
        $this->assertUntouched('old', 'the server is not there');
    }

    /** @dataProvider backends */
    public function testTheLockOfTheFileNestsInTheRequestsOwn(Cluster $cluster): void
    {
        $alice = $cluster->actor(['cluster_lock.timeout' => '1']);
        $pipe = $this->beginSlowWrite($alice, "{$this->dir}/file", LOCK_EX);
        Until::true(
            static fn () => $cluster->observer()->call('cluster_lock_list') !== [],
            'the write should take a lock'
        );
        $name = $cluster->observer()->call('cluster_lock_list')[0]['name'];
        $this->finishSlowWrite($pipe);
        $alice->end();

        $alice->call('cluster_lock', $name);
        self::assertSame(
            3,
            $alice->call('cluster_file_put_contents', "{$this->dir}/file", 'new', LOCK_EX),
            'It does not wait for itself'
        );
        $cluster->assertHeld($name, 'The outer level is still held');
        self::assertTrue($alice->call('cluster_unlock', $name), 'and then unlocked');
    }

    public function testThreeCommandsForALockedWrite(): void
    {
        $server = RedisServer::own();
        $alice = Cluster::redis($server)->actor(['cluster_lock.auto_renew' => '0']);
        $write = 'for ($i = 0; $i < 10; $i++) { cluster_file_put_contents($file, "x", LOCK_EX); } return 1;';
        $alice->run($write, file: "{$this->dir}/file");
        $count = static function () use ($server): int {
            preg_match('/calls=(\d+)/', $server->client()->info('commandstats')['cmdstat_evalsha'], $match);

            return (int) $match[1];
        };
        $before = $count();
        $alice->run($write, file: "{$this->dir}/file");

        self::assertSame(30, $count() - $before, 'Acquire, verify, release for each of ten writes');
    }
}
