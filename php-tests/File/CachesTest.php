<?php

declare(strict_types=1);

namespace ClusterLock\Tests\File;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\Fpm;

/**
 * After a write, PHP itself must not tell old news: its stat cache, its realpath cache, opcache.
 */
final class CachesTest extends FileTestCase
{
    private const OPCACHE = [
        'opcache.enable' => '1',
        'opcache.enable_cli' => '1',
        'opcache.validate_timestamps' => '0',
        'opcache.file_update_protection' => '0',
    ];

    public function testTheStatCacheIsCleared(): void
    {
        $result = $this->writer()->run(<<<'PHP'
            file_put_contents($file, 'old');
            chmod($file, 0600);
            $before = [filesize($file), fileinode($file)];
            cluster_file_put_contents($file, 'newer content');
            $after = [filesize($file), fileinode($file)];
            return [$before[0], $after[0], $before[1] !== $after[1]];
            PHP, file: "{$this->dir}/file");

        self::assertSame([3, 13, true], $result, 'Size and inode should be news at once');
    }

    public function testTheStatCacheOfASymlinkIsCleared(): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        symlink('file', "{$this->dir}/link");
        $sizes = $this->writer()->run(<<<'PHP'
            $sizes = [filesize($link)];
            cluster_file_put_contents($link, 'newer content');
            $sizes[] = filesize($link);
            filesize($file);
            cluster_file_put_contents($link, 'newest');
            $sizes[] = filesize($file);
            return $sizes;
            PHP, file: "{$this->dir}/file", link: "{$this->dir}/link");

        self::assertSame([3, 13, 6], $sizes, 'By each of its names');
    }

    public function testANewFileExistsAtOnce(): void
    {
        $result = $this->writer()->run(<<<'PHP'
            return [file_exists($file), realpath($file), cluster_file_put_contents($file, 'new'), file_exists($file), is_file($file), realpath($file) === $file];
            PHP, file: "{$this->dir}/file");

        self::assertSame([false, false, 3, true, true, true], $result, 'What was not there a moment ago is there now');
    }

    public function testOpcacheForgetsAScript(): void
    {
        $actor = $this->withOpcache();
        $cached = $actor->run(<<<'PHP'
            file_put_contents($file, '<?php return "old";');
            return [include $file, include $file, opcache_is_script_cached($file)];
            PHP, file: "{$this->dir}/script.php");
        self::assertSame(['old', 'old', true], $cached, 'opcache should keep the script');
        self::assertSame(
            ['new', true],
            $actor->run(<<<'PHP'
                cluster_file_put_contents($file, '<?php return "new";');
                return [include $file, opcache_is_script_cached($file)];
                PHP, file: "{$this->dir}/script.php"),
            'It is forgotten, and cached anew'
        );
        symlink('script.php', "{$this->dir}/link.php");
        $result = $actor->run(<<<'PHP'
            cluster_file_put_contents($link, '<?php return "newer";');
            return include $file;
            PHP, file: "{$this->dir}/script.php", link: "{$this->dir}/link.php");
        self::assertSame('newer', $result, 'Also when it is written through a symlink');
    }

    public function testOpcacheForgetsForAllWorkersOfFpm(): void
    {
        Fpm::orSkip();
        $this->withOpcache();
        $settings = Cluster::at('redis://127.0.0.1:1')->settings(self::OPCACHE);
        $fpm = new Fpm($settings, 2, [], ['posix', 'opcache']);
        file_put_contents("{$this->dir}/script.php", '<?php return "old";');
        $include = 'echo include $_GET["file"]; usleep(20000);';
        $arguments = ['file' => "{$this->dir}/script.php"];
        foreach (['old', 'old'] as $expected) {
            $requests = [$fpm->begin($include, $arguments), $fpm->begin($include, $arguments)];
            self::assertSame([$expected, $expected], array_map(static fn ($r) => $r->body(), $requests), 'Before');
        }
        $fpm->get('cluster_file_put_contents($_GET["file"], "<?php return \"new\";");', $arguments);
        $requests = [$fpm->begin($include, $arguments), $fpm->begin($include, $arguments)];

        self::assertSame(['new', 'new'], array_map(static fn ($r) => $r->body(), $requests), 'After');
    }

    private function withOpcache(): Actor
    {
        $actor = Cluster::at('redis://127.0.0.1:1')->actor(self::OPCACHE, ['posix', 'pcntl', 'opcache']);
        if (!$actor->run('return function_exists("opcache_get_status") && is_array(opcache_get_status());')) {
            self::markTestSkipped('There is no opcache here.');
        }

        return $actor;
    }
}
