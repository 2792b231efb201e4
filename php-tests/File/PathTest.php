<?php

declare(strict_types=1);

namespace ClusterLock\Tests\File;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\TempDir;

/**
 * Which paths are written, and which are refused.
 */
final class PathTest extends FileTestCase
{
    public function testASymlinkIsFollowed(): void
    {
        mkdir("{$this->dir}/real");
        file_put_contents("{$this->dir}/real/file", 'old');
        symlink('real/file', "{$this->dir}/link");
        symlink("{$this->dir}/link", "{$this->dir}/link to link");
        $writer = $this->writer();
        foreach (['link', 'link to link'] as $link) {
            $writer->call('cluster_file_put_contents', "{$this->dir}/$link", "by $link");
            self::assertTrue(is_link("{$this->dir}/$link"), 'The link stays a link');
            self::assertSame("by $link", file_get_contents("{$this->dir}/real/file"), 'Its target is written');
            self::assertSame(['link', 'link to link', 'real'], $this->names(), 'Nothing else is made here');
            self::assertSame(['.', '..', 'file'], scandir("{$this->dir}/real"), 'nor there');
        }
    }

    public function testADirectoryThatIsASymlinkIsFollowed(): void
    {
        mkdir("{$this->dir}/real");
        symlink('real', "{$this->dir}/link");
        $this->writer()->call('cluster_file_put_contents', "{$this->dir}/link/file", 'new');

        self::assertSame('new', file_get_contents("{$this->dir}/real/file"), 'The file is in the real directory');
    }

    public function testTheTargetOfADanglingSymlinkIsMade(): void
    {
        symlink('not yet', "{$this->dir}/link");
        $this->writer()->call('cluster_file_put_contents', "{$this->dir}/link", 'new');

        self::assertTrue(is_link("{$this->dir}/link"), 'The link stays a link');
        self::assertSame('new', file_get_contents("{$this->dir}/not yet"), 'Its target is there now');
    }

    public function testADanglingSymlinkIntoNowhereIsAWarning(): void
    {
        symlink('/nowhere/at/all', "{$this->dir}/link");
        $warning = $this->writer()->try('cluster_file_put_contents', "{$this->dir}/link", 'new')->warning();

        self::assertMatchesRegularExpression('/no such file/i', $warning, 'It says why');
        self::assertSame(['link'], $this->names(), 'Nothing is made');
    }

    public function testALoopOfSymlinksIsAWarning(): void
    {
        symlink('b', "{$this->dir}/a");
        symlink('a', "{$this->dir}/b");
        $warning = $this->writer()->try('cluster_file_put_contents', "{$this->dir}/a", 'new')->warning();

        self::assertMatchesRegularExpression('/symbolic link|symlink/i', $warning, 'It says why');
        self::assertSame(['a', 'b'], $this->names(), 'Nothing is made');
    }

    public function testRelativePathsAndDots(): void
    {
        mkdir("{$this->dir}/sub");
        $writer = $this->writer();
        $writer->call('chdir', "{$this->dir}/sub");
        foreach (['one' => 'sub/one', './two' => 'sub/two', '../three' => 'three', '../sub/.././/four' => 'four'] as $path => $made) {
            self::assertSame(3, $writer->call('cluster_file_put_contents', $path, 'new'), "$path is a path");
            self::assertSame('new', file_get_contents("{$this->dir}/$made"), "$path leads to $made");
        }
        $writer->run('chdir(".."); return cluster_file_put_contents("five", "new");');
        self::assertFileExists("{$this->dir}/five", 'A later chdir() counts');
    }

    public function testAFileUrlIsALocalPath(): void
    {
        $writer = $this->writer();

        self::assertSame(
            3,
            $writer->call('cluster_file_put_contents', "file://{$this->dir}/file", 'new'),
            'file:// is local'
        );
        self::assertSame('new', file_get_contents("{$this->dir}/file"), 'The file is written');
        self::assertSame(
            5,
            $writer->call('cluster_file_put_contents', "FILE://{$this->dir}/file", 'newer'),
            'in any case'
        );
        self::assertSame(
            6,
            $writer->call('cluster_file_put_contents', "file://localhost{$this->dir}/file", 'newest'),
            'and of this host by name'
        );
    }

    /** @return array<string, array{string}> */
    public static function names255(): array
    {
        return [
            'longest' => [str_repeat('x', 255)],
            'longest, UTF-8' => [str_repeat('é', 127)],
            'blanks' => [' a b '],
            'glob' => ['*[?]'],
            'line break' => ["a\nb"],
            'not UTF-8' => ["\xff\xfe"],
            'colon' => ['a:b'],
            'percent' => ['%41'],
            'dots' => ['...'],
            'backslash' => ['a\\b'],
            'dash' => ['-rf'],
            'hidden' => ['.htaccess'],
        ];
    }

    /** @dataProvider names255 */
    public function testAnyFileNameWillDo(string $name): void
    {
        $actor = Cluster::local()->actor();
        foreach ([0, LOCK_EX, FILE_APPEND] as $flags) {
            self::assertSame(
                3,
                $actor->call('cluster_file_put_contents', "{$this->dir}/$name", 'new', $flags),
                'It can be written'
            );
        }

        self::assertSame('newnew', file_get_contents("{$this->dir}/$name"), 'It is written');
        self::assertSame([$name], $this->names(), 'Nothing else is there');
    }

    public function testTheLongestPathCanBeLocked(): void
    {
        $path = $this->dir . str_repeat('/' . str_repeat('d', 200), 15);
        mkdir($path, 0777, true);
        $actor = Cluster::local()->actor();

        self::assertSame(
            3,
            $actor->call('cluster_file_put_contents', "$path/file", 'new', LOCK_EX),
            'A path longer than a lock name'
        );
        self::assertSame('new', file_get_contents("$path/file"), 'It is written');
    }

    /** @return array<string, array{string}> */
    public static function wrappers(): array
    {
        return [
            'memory' => ['php://memory'],
            'standard output' => ['php://stdout'],
            'compression' => ['compress.zlib:///tmp/cluster_lock-refused.gz'],
            'data' => ['data:text/plain,x'],
            'HTTP' => ['http://127.0.0.1:1/'],
            'FTP' => ['ftp://127.0.0.1:1/x'],
            'phar' => ['phar:///tmp/cluster_lock-refused.phar/x'],
            'glob' => ['glob:///tmp/*'],
            'one of PHP code' => ['mine://x'],
        ];
    }

    /** @dataProvider wrappers */
    public function testAStreamWrapperIsRefused(string $path): void
    {
        $writer = $this->writer();
        $writer->run(
            'eval("final class Mine { public \$context; public function stream_open() { return true; } }"); return stream_wrapper_register("mine", "Mine");'
        );
        $outcome = $writer->try('cluster_file_put_contents', $path, 'new');

        self::assertMatchesRegularExpression('/wrapper|local/i', $outcome->warning(), 'The warning tells why');
    }

    public function testOpenBasedirIsObeyed(): void
    {
        $outside = TempDir::forTest();
        file_put_contents("$outside/file", 'old');
        symlink("$outside/file", "{$this->dir}/link");
        symlink("$outside/new", "{$this->dir}/dangling");
        symlink($outside, "{$this->dir}/directory");
        $writer = $this->writer(['open_basedir' => $this->dir . ':' . dirname(__DIR__)]);
        self::assertSame(
            3,
            $writer->call('cluster_file_put_contents', "{$this->dir}/file", 'new'),
            'Inside is allowed'
        );
        $paths = ["$outside/file", "$outside/new", "{$this->dir}/../" . basename($outside) . '/file',
            "{$this->dir}/link", "{$this->dir}/dangling", "{$this->dir}/directory/file", "file://$outside/file"];
        foreach ($paths as $path) {
            $outcome = $writer->try('cluster_file_put_contents', $path, 'new');
            self::assertFalse($outcome->value, "$path is outside");
            self::assertStringContainsString('open_basedir', $outcome->messages(), "$path: it says why");
        }
        self::assertSame(['.', '..', 'file'], scandir($outside), 'Nothing was made outside');
        self::assertSame('old', file_get_contents("$outside/file"), 'Nothing was written outside');
    }

    /** @return array<string, array{string, string}> path below the test's directory, cause */
    public static function impossible(): array
    {
        return [
            'a directory' => ['/dir', '/directory/i'],
            'a directory, with a slash' => ['/dir/', '/directory/i'],
            'nowhere' => ['/no/such/file', '/no such file/i'],
            'below a file' => ['/file/file', '/not a directory/i'],
            'with a slash' => ['/file/', '/directory/i'],
            'too long a name' => ['/' . str_repeat('x', 256), '/too long/i'],
            'too long a path' => [str_repeat('/dir/..', 1000), '/too long|directory/i'],
        ];
    }

    /** @dataProvider impossible */
    public function testAnImpossiblePathIsAWarning(string $path, string $cause): void
    {
        mkdir("{$this->dir}/dir");
        file_put_contents("{$this->dir}/file", 'old');
        $outcome = $this->writer()->try('cluster_file_put_contents', $this->dir . $path, 'new');

        self::assertMatchesRegularExpression($cause, $outcome->warning(), 'It says why');
        self::assertStringStartsWith('cluster_file_put_contents(): ', $outcome->warning(), 'and who says so');
        self::assertSame(['dir', 'file'], $this->names(), 'Nothing is made');
        self::assertSame('old', file_get_contents("{$this->dir}/file"), 'Nothing is written');
    }

    public function testAnEmptyPathIsRefused(): void
    {
        $outcome = $this->writer()->try('cluster_file_put_contents', '', 'new');

        self::assertTrue(
            $outcome->thrown?->class === 'ValueError' || $outcome->value === false,
            'As file_put_contents() refuses it'
        );
    }

    public function testWhatIsNoRegularFileIsNotReplaced(): void
    {
        posix_mkfifo("{$this->dir}/fifo", 0600);
        $socket = stream_socket_server("unix://{$this->dir}/socket");
        $names = ['fifo', 'socket'];
        if (@posix_mknod("{$this->dir}/device", POSIX_S_IFCHR | 0600, 1, 3)) {
            $names[] = 'device';
        }
        $types = array_map(fn (string $name) => filetype("{$this->dir}/$name"), $names);
        $writer = $this->writer();
        foreach ($names as $name) {
            $writer->try('cluster_file_put_contents', "{$this->dir}/$name", 'new')->warning();
        }
        clearstatcache();

        self::assertSame(
            $types,
            array_map(fn (string $name) => filetype("{$this->dir}/$name"), $names),
            'They are what they were'
        );
        self::assertCount(count($names), $this->names(), 'Nothing else is made');
        fclose($socket);
    }

    public function testTheIncludePathIsUsedOnRequest(): void
    {
        mkdir("{$this->dir}/lib");
        mkdir("{$this->dir}/cwd");
        file_put_contents("{$this->dir}/lib/file", 'old');
        $writer = $this->writer(['include_path' => "{$this->dir}/lib"]);
        $writer->call('chdir', "{$this->dir}/cwd");
        $writer->call('cluster_file_put_contents', 'file', 'found', FILE_USE_INCLUDE_PATH);
        self::assertSame('found', file_get_contents("{$this->dir}/lib/file"), 'As file_put_contents() does');
        $writer->call('cluster_file_put_contents', 'file', 'here');

        self::assertSame('here', file_get_contents("{$this->dir}/cwd/file"), 'Without the flag it is not looked at');
    }
}
