<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\Fpm;

/**
 * Which files are intercepted: those whose real path is below a prefix and matches no glob.
 */
final class PathsTest extends FileTestCase
{
    private const LOCK = <<<'PHP'
        @mkdir(dirname($path), 0777, true);
        $h = fopen($path, 'c+');
        $before = cluster_lock_status()['counters']['acquired'];
        if (!flock($h, LOCK_EX)) {
            throw new Exception('not locked');
        }
        return cluster_lock_status()['counters']['acquired'] > $before;
        PHP;

    public function testAPrefixMatchesWholeComponents(): void
    {
        $actor = $this->actor("{$this->dir}/a/b");
        foreach (['a/b/file', 'a/b/c/d/file', 'a/b/.hidden'] as $path) {
            $this->assertIntercepted($actor, "{$this->dir}/$path");
        }
        foreach (['a/bc/file', 'a/b.file', 'a/file', 'a/c/b/file', 'file'] as $path) {
            $this->assertLeftAlone($actor, "{$this->dir}/$path");
        }
    }

    public function testAPrefixMayBeOneFile(): void
    {
        $actor = $this->actor("{$this->dir}/file");
        $this->assertIntercepted($actor, "{$this->dir}/file");
        $this->assertLeftAlone($actor, "{$this->dir}/file2");
    }

    public function testSeveralPrefixes(): void
    {
        $actor = $this->actor("{$this->dir}/a:{$this->dir}/b");
        $this->assertIntercepted($actor, "{$this->dir}/a/file");
        $this->assertIntercepted($actor, "{$this->dir}/b/file");
        $this->assertLeftAlone($actor, "{$this->dir}/c/file");
        $this->assertLeftAlone($actor, "{$this->dir}/a:{$this->dir}/file");
    }

    public function testASlashAtTheEndChangesNothing(): void
    {
        $actor = $this->actor("{$this->dir}/a/");
        $this->assertIntercepted($actor, "{$this->dir}/a/file");
        $this->assertLeftAlone($actor, "{$this->dir}/ab/file");
    }

    public function testTheRootIsEveryFile(): void
    {
        $this->assertIntercepted($this->actor('/'), "{$this->dir}/file");
    }

    public function testNothingIsInterceptedUnlessItIsAsked(): void
    {
        $this->assertLeftAlone($this->actor(''), "{$this->dir}/file");
    }

    public function testADirectoryThatComesLater(): void
    {
        $actor = $this->actor("{$this->dir}/later");
        self::assertDirectoryDoesNotExist("{$this->dir}/later", 'It is not there when PHP starts');
        $this->assertIntercepted($actor, "{$this->dir}/later/file");
    }

    public function testALinkIntoThePrefix(): void
    {
        mkdir("{$this->dir}/a");
        touch("{$this->dir}/a/file");
        symlink('a', "{$this->dir}/dir");
        symlink('a/file', "{$this->dir}/file");
        $actor = $this->actor("{$this->dir}/a");
        $this->assertIntercepted($actor, "{$this->dir}/dir/file");
        $this->assertIntercepted($actor, "{$this->dir}/file");
    }

    public function testALinkOutOfThePrefix(): void
    {
        mkdir("{$this->dir}/a");
        touch("{$this->dir}/outside");
        symlink('../outside', "{$this->dir}/a/file");
        $this->assertLeftAlone($this->actor("{$this->dir}/a"), "{$this->dir}/a/file");
    }

    public function testAPrefixThatIsALinkMeansWhereItLeads(): void
    {
        mkdir("{$this->dir}/mount");
        symlink('mount', "{$this->dir}/www");
        $actor = $this->actor("{$this->dir}/www");
        $this->assertIntercepted($actor, "{$this->dir}/www/file");
        $this->assertIntercepted($actor, "{$this->dir}/mount/file");
    }

    public function testLogsAreExcluded(): void
    {
        $actor = $this->actor($this->dir);
        foreach (['debug.log', 'sub/debug.log', '.log'] as $path) {
            $this->assertLeftAlone($actor, "{$this->dir}/$path");
        }
        foreach (['debug.log.1', 'log', 'dir.log/file', 'a.LOG'] as $path) {
            $this->assertIntercepted($actor, "{$this->dir}/$path");
        }
    }

    public function testOtherGlobsCanBeExcluded(): void
    {
        $actor = $this->actor($this->dir, ['cluster_lock.intercept_exclude' => '*.tmp']);
        $this->assertLeftAlone($actor, "{$this->dir}/file.tmp");
        $this->assertIntercepted($actor, "{$this->dir}/debug.log");
        $actor = $this->actor($this->dir, ['cluster_lock.intercept_exclude' => '']);
        $this->assertIntercepted($actor, "{$this->dir}/debug.log");
    }

    public function testAGlobMayNameADirectory(): void
    {
        $actor = $this->actor($this->dir, ['cluster_lock.intercept_exclude' => "{$this->dir}/sessions/*"]);
        $this->assertLeftAlone($actor, "{$this->dir}/sessions/sess_1");
        $this->assertIntercepted($actor, "{$this->dir}/other/sess_1");
    }

    public function testSeveralGlobs(): void
    {
        $actor = $this->actor($this->dir, ['cluster_lock.intercept_exclude' => '*.log:*.tmp:sess_?']);
        foreach (['a.log', 'a.tmp', 'sess_1'] as $path) {
            $this->assertLeftAlone($actor, "{$this->dir}/$path");
        }
        $this->assertIntercepted($actor, "{$this->dir}/sess_12");
    }

    public function testNoNetworkFileSystemIsHere(): void
    {
        $this->assertLeftAlone($this->actor('@network'), "{$this->dir}/file");
    }

    public function testNetworkAndPrefixesTogether(): void
    {
        $actor = $this->actor("@network:{$this->dir}/a");
        $this->assertIntercepted($actor, "{$this->dir}/a/file");
        $this->assertLeftAlone($actor, "{$this->dir}/b/file");
    }

    public function testThePathMapDoesNotMovePrefixes(): void
    {
        $cluster = Cluster::redis();
        $actor = $cluster->actor([
            'cluster_lock.intercept' => "{$this->dir}/a",
            'cluster_lock.path_map' => "{$this->dir}/a=/srv/www",
        ]);
        mkdir("{$this->dir}/a");
        self::assertTrue(
            $actor->run('$GLOBALS["h"] = fopen($path, "c"); return flock($GLOBALS["h"], LOCK_EX);', path: "{$this->dir}/a/file"),
            'It can be locked'
        );

        self::assertNotNull($cluster->info('file:/srv/www/file'), 'Prefixes are local paths, names are the cluster\'s');
    }

    public function testAPoolOfFpmHasItsOwn(): void
    {
        $cluster = Cluster::redis();
        $fpm = new Fpm($cluster->settings(), 1, ['php_admin_value[cluster_lock.intercept]' => "{$this->dir}/a"]);
        mkdir("{$this->dir}/a");
        for ($request = 1; $request <= 2; $request++) {
            $body = $fpm->get(
                '$h = fopen($_GET["dir"] . "/a/file", "c"); $i = fopen($_GET["dir"] . "/file", "c");'
                . 'echo json_encode([flock($h, LOCK_EX), flock($i, LOCK_EX), array_column(cluster_lock_list(), "name")]);',
                ['dir' => $this->dir]
            );
            self::assertSame([true, true, ["file:{$this->dir}/a/file"]], json_decode($body), "Request $request");
        }
    }

    /** @param array<string, string> $settings */
    private function actor(string $prefixes, array $settings = []): Actor
    {
        return Cluster::redis()->actor($settings + ['cluster_lock.intercept' => $prefixes]);
    }

    private function assertIntercepted(Actor $actor, string $path): void
    {
        self::assertTrue($actor->run(self::LOCK, path: $path), "The lock of $path should be a cluster lock");
    }

    private function assertLeftAlone(Actor $actor, string $path): void
    {
        self::assertFalse($actor->run(self::LOCK, path: $path), "The lock of $path should be left to PHP");
    }
}
