<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;

/**
 * cluster_clearstatcache(): what this process has cached about a file is forgotten.
 */
final class StatCacheTest extends FileTestCase
{
    public function testTheSizeIsKnownAnew(): void
    {
        $file = "{$this->dir}/file";
        file_put_contents($file, 'old');
        $actor = $this->actor();
        self::assertSame(3, $actor->call('filesize', $file), 'The size');
        file_put_contents($file, 'longer');
        $this->assumeCached($actor->call('filesize', $file) === 3);
        self::assertNull($actor->call('cluster_clearstatcache', $file), 'It returns nothing');

        self::assertSame(6, $actor->call('filesize', $file), 'The size now');
    }

    public function testADeletionIsKnown(): void
    {
        $file = "{$this->dir}/file";
        touch($file);
        $actor = $this->actor();
        self::assertTrue($actor->call('is_file', $file), 'There it is');
        unlink($file);
        $this->assumeCached($actor->call('is_file', $file));
        $actor->call('cluster_clearstatcache', $file);

        self::assertFalse($actor->call('is_file', $file), 'There it is no longer');
    }

    public function testACreationIsKnown(): void
    {
        $actor = $this->actor();
        self::assertFalse($actor->call('is_file', "{$this->dir}/file"), 'There it is not');
        $actor->call('cluster_clearstatcache', "{$this->dir}/file");
        touch("{$this->dir}/file", 1000);
        $actor->call('cluster_clearstatcache', "{$this->dir}/file");

        self::assertTrue($actor->call('is_file', "{$this->dir}/file"), 'There it is');
        self::assertSame(1000, $actor->call('filemtime', "{$this->dir}/file"), 'Its time');
    }

    public function testAReplacementIsKnown(): void
    {
        $file = "{$this->dir}/file";
        touch($file, 1000);
        $actor = $this->actor();
        $actor->call('filemtime', $file);
        touch("{$this->dir}/new", 2000);
        rename("{$this->dir}/new", $file);
        $actor->call('cluster_clearstatcache', $file);

        self::assertSame(2000, $actor->call('filemtime', $file), 'It is another file');
    }

    public function testWhereALinkLeadsIsKnownAnew(): void
    {
        mkdir("{$this->dir}/a");
        mkdir("{$this->dir}/b");
        $link = "{$this->dir}/link";
        symlink('a', $link);
        $actor = $this->actor();
        self::assertSame("{$this->dir}/a", $actor->call('realpath', $link), 'It leads to a');
        unlink($link);
        symlink('b', $link);
        self::assertSame("{$this->dir}/a", $actor->call('realpath', $link), 'PHP has it cached');
        $actor->call('cluster_clearstatcache', $link);

        self::assertSame("{$this->dir}/b", $actor->call('realpath', $link), 'It leads to b');
    }

    public function testARelativePathStartsAtTheWorkingDirectory(): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $actor = $this->actor();
        $actor->call('chdir', $this->dir);
        $actor->call('filesize', 'file');
        file_put_contents("{$this->dir}/file", 'longer');
        $actor->call('cluster_clearstatcache', 'file');

        self::assertSame(6, $actor->call('filesize', 'file'), 'The size now');
    }

    /** @return array<string, array{string}> below the test's directory */
    public static function others(): array
    {
        return [
            'no such file' => ['missing'],
            'no such directory' => ['missing/file'],
            'a directory' => ['.'],
            'a file as a directory' => ['file/x'],
            'a dangling link' => ['dangling'],
            'a loop' => ['loop'],
            'a long name' => [str_repeat('n', 300)],
        ];
    }

    /** @dataProvider others */
    public function testWhateverIsThereIsFineToo(string $name): void
    {
        touch("{$this->dir}/file");
        symlink('nowhere', "{$this->dir}/dangling");
        symlink('loop', "{$this->dir}/loop");

        self::assertNull($this->actor()->call('cluster_clearstatcache', "{$this->dir}/$name"), 'There is nothing to say');
    }

    public function testBadArgumentsThrow(): void
    {
        $actor = $this->actor();
        self::assertSame(
            'cluster_clearstatcache(): Argument #1 ($filename) must not contain any null bytes',
            $actor->try('cluster_clearstatcache', "nul\0byte")->thrown('ValueError')->message,
            'NUL'
        );
        $actor->try('cluster_clearstatcache', [])->thrown('TypeError');
        $actor->try('cluster_clearstatcache')->thrown('ArgumentCountError');
        self::assertSame(
            '(string $filename): void',
            $actor->run(<<<'PHP'
                $function = new ReflectionFunction('cluster_clearstatcache');
                $parameter = $function->getParameters()[0];
                return "({$parameter->getType()} \${$parameter->getName()}): {$function->getReturnType()}";
                PHP),
            'The signature'
        );
    }

    public function testOpenBasedirIsRespected(): void
    {
        $secret = TempDir::forTest() . '/secret';
        touch($secret);
        touch("{$this->dir}/file");
        $actor = $this->actor(['open_basedir' => $this->dir . ':' . dirname(__DIR__)]);
        self::assertNull($actor->call('cluster_clearstatcache', "{$this->dir}/file"), 'Inside');
        $outside = $actor->try('cluster_clearstatcache', $secret);
        self::assertNull($outside->thrown, 'Functions do not throw');
        self::assertNull($outside->value, 'It returns nothing');
        $missing = $actor->try('cluster_clearstatcache', "$secret/missing");

        self::assertSame(
            str_replace($secret, '', $outside->messages()),
            str_replace("$secret/missing", '', $missing->messages()),
            'What is outside must not be told from what is not there'
        );
    }

    public function testItNeedsNoServer(): void
    {
        $server = RedisServer::own();
        $actor = Cluster::redis($server)->actor();
        $actor->call('cluster_clearstatcache', "{$this->dir}/file");

        self::assertSame([], $server->client()->clients(), 'It connects to nobody');
    }

    /** @param array<string, string> $settings */
    private function actor(array $settings = []): Actor
    {
        return Cluster::at('redis://127.0.0.1:1')->actor($settings);
    }

    /** PHP 8.4 forgets at every write to a stream, and an actor answers through one. */
    private function assumeCached(bool $cached): void
    {
        if (!$cached) {
            self::markTestSkipped('This PHP has not cached it.');
        }
    }
}
