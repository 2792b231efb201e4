<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\TempDir;

/**
 * Whatever way leads to a file, on whatever node, it is one lock. In replace mode, where no kernel helps.
 */
final class KeyTest extends FlockTestCase
{
    private const REPLACE = ['cluster_lock.flock_mode' => 'replace'];

    /** @return array<string, array{string}> paths as seen from the directory "sub" next to the file */
    public static function ways(): array
    {
        return [
            'relative' => ['../file'],
            'dots' => ['.././sub/../file'],
            'a link to the file' => ['../link'],
            'a link to a link' => ['chain'],
            'a link to the directory' => ['up/file'],
            'an absolute path' => ['{dir}/file'],
            'too many slashes' => ['{dir}//.//file'],
            'file://' => ['file://{dir}/link'],
            'file://localhost/' => ['file://localhost{dir}/link'],
            'a filter' => ['php://filter/read=string.rot13/resource=../file'],
            // A thread has a working directory of its own, which the kernel does not know.
            'proc' => [PHP_ZTS ? '/proc/self/root{dir}/file' : '/proc/self/cwd/../file'],
        ];
    }

    /** @dataProvider ways */
    public function testItIsTheSameFile(string $path): void
    {
        mkdir("{$this->dir}/sub");
        symlink('file', "{$this->dir}/link");
        symlink('../link', "{$this->dir}/sub/chain");
        symlink('..', "{$this->dir}/sub/up");
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, self::REPLACE);
        $bob->call('chdir', "{$this->dir}/sub");
        $mine = Handle::open($alice, $this->file);
        $other = Handle::open($bob, str_replace('{dir}', $this->dir, $path), 'r+');
        $mine->lock(LOCK_EX);
        self::assertWouldBlock($other, LOCK_EX, 'Alice has it');
        $mine->unlock();
        $other->lock(LOCK_EX);

        self::assertSame(
            [$this->name],
            array_column($cluster->observer()->call('cluster_lock_list', 'file:'), 'name'),
            'The lock is named after the file'
        );
    }

    public function testTheWorkingDirectoryOfTheTimeOfOpeningCounts(): void
    {
        mkdir("{$this->dir}/sub");
        $cluster = Cluster::redis();
        $alice = $cluster->actor(self::REPLACE);
        $alice->call('chdir', $this->dir);
        $mine = Handle::open($alice, 'file');
        $alice->call('chdir', "{$this->dir}/sub");
        $mine->lock(LOCK_EX);

        self::assertNotNull($cluster->info($this->name), 'The lock is that of the open file');
    }

    public function testASecondDescriptorSharesTheLock(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, self::REPLACE);
        $mine = Handle::open($alice, $this->file);
        $number = $alice->run(<<<'PHP'
            foreach (scandir('/proc/self/fd') as $number) {
                if (@readlink("/proc/self/fd/$number") === $file) {
                    return (int) $number;
                }
            }
            PHP, file: $this->file);
        $copy = Handle::open($alice, "php://fd/$number");
        $other = Handle::open($bob, $this->file);
        $mine->lock(LOCK_EX);
        self::assertGets($copy, LOCK_EX, 'It is the same opening of the file');
        self::assertTrue($copy->lock(LOCK_EX), 'There is nothing to wait for');
        $copy->close();
        self::assertWouldBlock($other, LOCK_EX, 'The first descriptor is open');
        $copy = Handle::open($alice, "php://fd/$number");
        $mine->close();
        self::assertWouldBlock($other, LOCK_EX, 'The second descriptor is open');
        $copy->close();

        self::assertGets($other, LOCK_EX, 'None is open any more');
    }

    public function testAFileThatWasRenamedWhileItWasOpenHasItsNewName(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, self::REPLACE);
        $mine = Handle::open($alice, $this->file);
        rename($this->file, "{$this->dir}/new");
        $mine->lock(LOCK_EX);

        self::assertWouldBlock(Handle::open($bob, "{$this->dir}/new"), LOCK_EX, 'It is the same file');
    }

    /** @dataProvider modes */
    public function testAFileThatIsRenamedWhileItIsLockedIsUnlockedAsItWasLocked(string $mode): void
    {
        $cluster = Cluster::redis();
        foreach (['return cluster_flock($h, LOCK_UN);', 'return fclose($h);'] as $end) {
            $mine = Handle::open($cluster->actor(['cluster_lock.flock_mode' => $mode]), $this->file);
            $mine->lock(LOCK_SH);
            rename($this->file, "{$this->dir}/new");
            self::assertTrue($mine->lock(LOCK_SH), 'It has it already');
            self::assertTrue($mine->run($end), 'It unlocks');
            self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'Nothing stays under any name');
        }
    }

    /** @dataProvider modes */
    public function testAConversionTakesTheNameThatTheFileHasNow(string $mode): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.flock_mode' => $mode]);
        $mine = Handle::open($alice, $this->file);
        $mine->lock(LOCK_SH);
        rename($this->file, "{$this->dir}/new");
        self::assertTrue($mine->lock(LOCK_EX), 'Nobody else has it');

        self::assertWouldBlock(Handle::open($bob, "{$this->dir}/new"), LOCK_SH, 'It is the same file');
        $locks = array_column($cluster->observer()->call('cluster_lock_list'), 'name');
        self::assertSame(["file:{$this->dir}/new"], $locks, 'The old name is given back');
    }

    public function testAFileThatIsNotInterceptedCanBeLockedByName(): void
    {
        $cluster = Cluster::redis();
        $actor = $cluster->actor(['cluster_lock.intercept' => "{$this->dir}/www"] + self::REPLACE);
        foreach (["{$this->dir}/elsewhere", "{$this->dir}/debug.log"] as $path) {
            Handle::open($actor, $path)->lock(LOCK_EX);
            self::assertNotNull($cluster->info("file:$path"), 'cluster_flock() asks nobody which files');
        }
    }

    /** @dataProvider modes */
    public function testAFileThatWasReplacedWhileItWasOpenIsLockedUnderItsPath(string $mode): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.flock_mode' => $mode]);
        $old = Handle::open($alice, $this->file);
        file_put_contents("{$this->dir}/temp", 'new content');
        rename("{$this->dir}/temp", $this->file);
        $new = Handle::open($bob, $this->file);

        self::assertTrue($old->lock(LOCK_EX), 'It is still a file that can be locked');
        self::assertWouldBlock($new, LOCK_EX, 'All who have opened this path compute the same key');
        self::assertTrue($old->unlock(), 'and unlocked');
        self::assertGets($new, LOCK_EX, 'The old file is unlocked');
        self::assertWouldBlock($old, LOCK_SH, 'Bob has it');
        $new->unlock();
        self::assertSame('content', $old->run('return fread($h, 100);'), 'It is still the old file');
        $old->close();
    }

    public function testAFileThatWasDeletedWhileItWasOpenIsLockedUnderItsPath(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, self::REPLACE);
        $mine = Handle::open($alice, $this->file);
        unlink($this->file);
        self::assertTrue($mine->lock(LOCK_EX), 'It is still a file that can be locked');
        self::assertWouldBlock(Handle::open($bob, $this->file), LOCK_EX, 'Who makes the file anew has the same key');

        self::assertTrue($mine->unlock(), 'It can be unlocked');
    }

    public function testAFileThatOnlyLooksDeletedIsAnother(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, self::REPLACE);
        $mine = Handle::open($alice, "{$this->file} (deleted)");
        $mine->lock(LOCK_EX);
        $cluster->awaitHolder("{$this->name} (deleted)", $alice->pid());

        self::assertGets(Handle::open($bob, $this->file), LOCK_EX, 'That is the name of another file');
    }

    /** @dataProvider modes */
    public function testThePathMapMakesOneLockOfTwoMountPoints(string $mode): void
    {
        $other = TempDir::forTest();
        $cluster = Cluster::redis();
        $settings = ['cluster_lock.flock_mode' => $mode];
        $alice = $cluster->actor($settings + ['cluster_lock.path_map' => "{$this->dir}=/srv/www"]);
        $bob = $cluster->actor($settings + ['cluster_lock.path_map' => "$other=/srv/www"]);
        $mine = Handle::open($alice, $this->file);
        $same = Handle::open($bob, "$other/file");
        $mine->lock(LOCK_EX);
        $cluster->awaitHolder('file:/srv/www/file', $alice->pid());
        self::assertWouldBlock($same, LOCK_EX, 'To the other node it is the same file');

        self::assertGets(Handle::open($bob, "$other/another"), LOCK_EX, 'That one is not');
    }

    public function testAPathThatIsLongerThanANameIsALockToo(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, self::REPLACE);
        $path = $this->dir . str_repeat('/' . str_repeat('d', 200), 7);
        mkdir($path, 0777, true);
        Handle::open($alice, "$path/a")->lock(LOCK_EX);
        $other = Handle::open($bob, "$path/a");

        self::assertWouldBlock($other, LOCK_EX, 'Alice has it');
        self::assertGets(Handle::open($bob, "$path/b"), LOCK_EX, 'That is another file');
    }

    public function testAnyBytesMakeAName(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, self::REPLACE);
        foreach (["new\nline", "\xff\xfe", '{a}*%41', 'ü'] as $name) {
            Handle::open($alice, "{$this->dir}/$name")->lock(LOCK_EX);
            $cluster->awaitHolder("file:{$this->dir}/$name", $alice->pid());
            self::assertWouldBlock(Handle::open($bob, "{$this->dir}/$name"), LOCK_EX, 'Alice has it');
        }
    }
}
