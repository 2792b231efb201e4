<?php

declare(strict_types=1);

namespace ClusterLock\Tests\File;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\Outcome;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\Until;

/**
 * cluster_file_build(): make(1) for a cluster. What is made lies apart from what it is made from: each build changes its
 * directory.
 */
final class BuildTest extends FileTestCase
{
    /** What is made has all that is read of the sources, and each build is a line in the log. */
    private const QUICK = <<<'PHP'
        return cluster_file_build($css, static function () use ($log, $read) {
            file_put_contents($log, "build\n", FILE_APPEND);
            return implode(',', array_map('file_get_contents', array_filter($read, 'is_file')));
        }, $sources, $timeout);
        PHP;

    /** The same, which says that it has read them, and waits. */
    private const SLOW = <<<'PHP'
        return cluster_file_build($css, static function () use ($log, $read) {
            file_put_contents($log, "build\n", FILE_APPEND);
            $made = implode(',', array_map('file_get_contents', array_filter($read, 'is_file')));
            say('inside');
            hear();
            return $made;
        }, $sources, $timeout);
        PHP;

    private string $css;
    private string $a;
    private string $b;
    private string $log;

    protected function setUp(): void
    {
        parent::setUp();
        foreach (['from', 'made', 'other'] as $name) {
            mkdir("{$this->dir}/$name");
        }
        $this->css = "{$this->dir}/made/css";
        $this->a = "{$this->dir}/from/a";
        $this->b = "{$this->dir}/from/b";
        file_put_contents($this->a, 'a');
        file_put_contents($this->b, 'b');
        $this->log = TempDir::forTest() . '/log';
        touch($this->log);
        $this->settle();
    }

    /** @dataProvider backends */
    public function testItIsBuiltWhenASourceIsNewer(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        self::assertTrue($this->build($alice), 'It was not there');
        $this->assertMade('a,b', 1);
        self::assertTrue($this->build($alice), 'It is fresh');
        $this->assertMade('a,b', 1);
        file_put_contents($this->b, 'new');
        $this->settle();
        self::assertTrue($this->build($alice), 'A source is newer');
        $this->assertMade('a,new', 2);
        self::assertTrue($this->build($alice), 'It is fresh again');
        $this->assertMade('a,new', 2);
        $counters = $alice->call('cluster_lock_status')['counters'];
        self::assertSame([2, 0, 2], [$counters['runs'], $counters['runs_failed'], $counters['writes']]);
        $cluster->assertFree($this->lock(), 'All is done');
    }

    public function testAFreshFileNeedsNoServer(): void
    {
        $this->build(Cluster::local()->actor());
        $writer = $this->writer();
        self::assertTrue($this->build($writer), 'No server, and no warning');
        file_put_contents($this->a, 'new');
        self::assertStringContainsString('127.0.0.1:1', $this->tryBuild($writer)->warning(), 'Only a build does');
        $this->assertMade('a,b', 1);
    }

    /** Whatever brings old content's times along: the change itself is what counts. */
    public function testTimesThatAreBroughtAlongHideNothing(): void
    {
        $alice = Cluster::local()->actor();
        $past = time() - 1_000_000;
        $changes = [
            'mv' => fn () => touch("{$this->dir}/other/a", $past) && rename("{$this->dir}/other/a", $this->a),
            'rsync -t --inplace' => fn () => file_put_contents($this->a, 'x') && touch($this->a, $past),
            'a time in the future' => fn () => touch($this->a, time() + 1_000_000),
            'deleted' => fn () => unlink($this->a),
            'there again' => fn () => touch($this->a, $past),
            'a link' => fn () => unlink($this->a) && touch("{$this->dir}/other/a", $past) && symlink('../other/a', $this->a),
            'what it leads to' => fn () => file_put_contents("{$this->dir}/other/a", 'x') && touch("{$this->dir}/other/a", $past),
            'what it leads to is deleted' => fn () => unlink("{$this->dir}/other/a"),
        ];
        $this->build($alice);
        foreach ($changes as $what => $change) {
            touch("{$this->dir}/other/a", $past);
            $this->settle();
            $this->build($alice);
            $before = $this->builds();
            self::assertTrue($this->build($alice));
            self::assertSame($before, $this->builds(), "Fresh before: $what");
            $change();
            $this->settle();
            self::assertTrue($this->build($alice));
            self::assertSame($before + 1, $this->builds(), "It is built: $what");
            self::assertTrue($this->build($alice));
            self::assertSame($before + 1, $this->builds(), "And comes to rest: $what");
        }
    }

    public function testALinkOnTheWayIsTurned(): void
    {
        foreach (['1', '2'] as $release) {
            mkdir("{$this->dir}/other/$release");
            file_put_contents("{$this->dir}/other/$release/a", $release);
        }
        symlink('1', "{$this->dir}/other/current");
        $this->settle();
        $alice = Cluster::local()->actor();
        $sources = ["{$this->dir}/other/current/a"];
        $this->build($alice, null, $sources);
        self::assertTrue($this->build($alice, null, $sources));
        $this->assertMade('1', 1);
        symlink('2', "{$this->dir}/other/next");
        rename("{$this->dir}/other/next", "{$this->dir}/other/current");
        self::assertTrue($this->build($alice, null, $sources));
        $this->assertMade('2', 2);
    }

    public function testADirectoryIsASource(): void
    {
        $alice = Cluster::local()->actor();
        $build = fn () => $this->build($alice, null, ["{$this->dir}/from"]);
        $build();
        $build();
        self::assertSame(1, $this->builds(), 'It is fresh');
        touch("{$this->dir}/from/c");
        $this->settle();
        $build();
        $build();
        self::assertSame(2, $this->builds(), 'A name has come');
        unlink("{$this->dir}/from/c");
        $build();
        self::assertSame(3, $this->builds(), 'A name has gone');
    }

    /** A write is stamped when it begins: who built in that moment may have read what was there before. */
    public function testABuildWithinTheSecondOfAChangeIsDoneOnceMore(): void
    {
        $alice = Cluster::local()->actor();
        file_put_contents($this->a, 'new');
        usleep(50_000);
        $this->build($alice);
        $this->assertMade('new,b', 1);
        $this->settle();
        $this->build($alice);
        $this->build($alice);
        $this->assertMade('new,b', 2);
    }

    public function testWhatChangesDuringTheBuildMakesItOld(): void
    {
        [$alice, $bob] = Cluster::local()->actors(2);
        $this->beginSlow($alice);
        file_put_contents($this->b, 'new');
        $this->settle();
        $alice->process()->tell('go on');
        self::assertTrue($alice->end());
        $this->assertMade('a,b', 1);
        self::assertTrue($this->build($bob), 'It is older than its source');
        $this->assertMade('a,new', 2);
        self::assertTrue($this->build($bob));
        $this->assertMade('a,new', 2);
    }

    public function testATimeOfTheFileInTheFutureSaysNothing(): void
    {
        $alice = Cluster::local()->actor();
        $this->build($alice);
        touch($this->css, time() + 1_000_000);
        $this->build($alice);
        self::assertSame(2, $this->builds());
        touch($this->css, time() - 1_000_000);
        $this->build($alice);
        self::assertSame(3, $this->builds(), 'Put back from a backup');
        $this->build($alice);
        self::assertSame(3, $this->builds());
    }

    /** @dataProvider backends */
    public function testEightAtOnceAndNothingHasChangedMeanwhile(Cluster $cluster): void
    {
        $actors = $this->stampede($cluster, 7);
        foreach ($actors as $actor) {
            self::assertTrue($actor->end());
        }
        $this->assertMade('a,b', 1);
        $cluster->assertFree($this->lock(), 'All is done');
    }

    /** @dataProvider backends */
    public function testEightAtOnceAndASourceHasChangedMeanwhile(Cluster $cluster): void
    {
        $actors = $this->stampede($cluster, 7, fn () => file_put_contents($this->b, 'new'));
        foreach ($actors as $actor) {
            self::assertTrue($actor->end());
        }
        $this->assertMade('a,new', 2);
    }

    /** @dataProvider backends */
    public function testWithoutSourcesTwoBuildsDoForAll(Cluster $cluster): void
    {
        $actors = $this->stampede($cluster, 7, null, []);
        foreach ($actors as $actor) {
            self::assertTrue($actor->end());
        }
        $this->assertMade('a,b', 2);
        self::assertTrue($this->build($cluster->observer(), null, []));
        $this->assertMade('a,b', 3);
    }

    /** @dataProvider backends */
    public function testWithoutWaitingTheOldFileIsServed(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $this->build($bob);
        file_put_contents($this->a, 'new');
        $this->settle();
        $this->beginSlow($alice);
        self::assertFalse($this->build($bob, 0), 'Alice is at it');
        $outcome = $this->tryBuild($bob, 0.3);
        self::assertFalse($outcome->value(), 'The time is up, in silence');
        self::assertTook(0.3, $outcome->seconds, 'A time-out of 0.3 s');
        $this->assertMade('a,b', 2, ['css', '*.cluster_lock.tmp']);
        $info = $cluster->info($this->lock());
        self::assertSame([true], array_column($info['holders'], 'run'), 'It is a run');
        $alice->process()->tell('go on');
        self::assertTrue($alice->end());
        self::assertTrue($this->build($bob, 0));
        $this->assertMade('new,b', 2);
    }

    /** @dataProvider backends */
    public function testABuildThatFailsWritesNothingAndCountsForNobody(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        $this->build($alice);
        $fails = 'return cluster_file_build($css, static function () { say("inside"); hear(); %s; });';
        foreach (['return false' => null, 'return null' => 'null', 'return 1' => 'int', 'return ["x"]' => 'array',
            'return new ArrayObject()' => 'ArrayObject', 'return (static fn () => yield "x")()' => 'Generator',
            'throw new DomainException("mine")' => 'DomainException'] as $failure => $what) {
            $before = $this->builds();
            $alice->beginRun(sprintf($fails, $failure), css: $this->css);
            $alice->process()->expect('inside');
            $this->beginQuick($bob, null, []);
            $cluster->awaitWaiters($this->lock(), 1);
            $alice->process()->tell('go on');
            $outcome = $alice->outcome();
            if ($what === 'DomainException') {
                self::assertSame('mine', $outcome->thrown($what)->message);
            } elseif ($what !== null) {
                self::assertStringEndsWith("the function has returned $what, and not a string", $outcome->warning());
                self::assertStringContainsString($this->css, $outcome->warning());
            } else {
                self::assertFalse($outcome->value(), 'It says itself that it has failed');
            }
            self::assertTrue($bob->end());
            $this->assertMade('a,b', $before + 1);
        }
        $alice->run('return cluster_file_build($css, static fn () => "");', css: $this->css);
        $this->assertMade('', $before + 1);
    }

    /** @dataProvider backends */
    public function testALockThatWasLostWritesNothing(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $this->build($alice);
        foreach (['cluster_lock_break' => 'broke', 'cluster_unlock' => 'not held'] as $how => $why) {
            $outcome = $alice->tryRun(
                'return cluster_file_build($css, static function () use ($how, $lock) { $how($lock); return "lost"; });',
                css: $this->css,
                how: $how,
                lock: $this->lock()
            );
            self::assertFalse($outcome->value);
            self::assertMatchesRegularExpression("~made/css is unchanged: .*$why~", $outcome->messages());
            $this->assertMade('a,b', 1);
        }
        $cluster->assertFree($this->lock(), 'All is given back');
    }

    /** @dataProvider backends */
    public function testInsideTheFilesLockIsHeld(Cluster $cluster): void
    {
        $seen = $cluster->actor()->run(<<<'PHP'
            $done = cluster_file_build($css, static function () use (&$seen, $css, $lock) {
                $seen = [
                    is_int(cluster_lock_fence($lock)),
                    cluster_file_put_contents($css, 'in between', LOCK_EX),
                    file_get_contents($css),
                    cluster_file_build("$css.map", static fn () => 'another file'),
                    cluster_file_build($css, static fn () => 'itself', [], 0),
                ];
                return 'at last';
            });
            return [...$seen, $done, file_get_contents($css), file_get_contents("$css.map")];
            PHP, css: $this->css, lock: $this->lock());

        self::assertSame([true, 10, 'in between', true, false, true, 'at last', 'another file'], $seen);
        $outcome = $cluster->actor()->tryRun(
            <<<'PHP'
                cluster_file_build($css, static function () use (&$in, $css) {
                    $in = cluster_file_build($css, 'time');
                    return 'x';
                });
                return $in;
                PHP,
            css: $this->css
        );
        self::assertStringContainsString('deadlock', $outcome->warning(), 'It would wait for itself');
        self::assertFalse($outcome->value);
        $cluster->assertFree($this->lock(), 'All is given back');
    }

    /** @dataProvider backends */
    public function testOtherWaysToTheFileAreKeptOut(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2);
        symlink('made/css', "{$this->dir}/link");
        $this->beginSlow($alice, "{$this->dir}/link");
        $bob->begin('cluster_file_put_contents', $this->css, 'by Bob', LOCK_EX);
        $cluster->awaitWaiters($this->lock(), 1);
        self::assertFalse(is_file($this->css), 'Alice is at it');
        $alice->process()->tell('go on');
        self::assertTrue($alice->end());
        self::assertSame(6, $bob->end());
        $this->assertMade('by Bob', 1);
        self::assertTrue(is_link("{$this->dir}/link"), 'A link is followed');
    }

    /** @dataProvider backends */
    public function testARequestThatEndsInsideLeavesNothing(Cluster $cluster): void
    {
        foreach (['exit(3)' => 3, 'trigger_error("fatal", E_USER_ERROR)' => 255] as $end => $code) {
            $process = $cluster->process(sprintf(
                '[$css] = [hear()]; cluster_file_build($css, static function () { %s; return "never"; });',
                $end
            ), ['display_errors' => '0']);
            $process->tell($this->css);
            self::assertSame($code, $process->wait(), $process->transcript());
            self::assertSame(['.', '..'], scandir("{$this->dir}/made"), "Nothing is left: $end");
            $cluster->assertFree($this->lock(), "All is given back: $end");
        }
    }

    /** @dataProvider backends */
    public function testTheNextRequestOfAnFpmWorkerFindsNothingOfAnUnfinishedBuild(Cluster $cluster): void
    {
        Fpm::orSkip();
        $fpm = new Fpm($cluster->settings());
        $next = 'echo json_encode([count(cluster_lock_list()), scandir(dirname($_GET["css"])),
            cluster_file_build($_GET["css"], static fn () => "next"), unlink($_GET["css"])]);';
        $ends = ['exit', 'trigger_error("fatal", E_USER_ERROR)', 'ini_set("memory_limit", "1M"); str_repeat("x", 1 << 28)',
            'set_time_limit(1); while (true);', 'throw new Error', 'nowhere()', 'Fiber::suspend()'];
        foreach ($ends as $end) {
            $fpm->get(sprintf(
                '$fiber = new Fiber(fn () => cluster_file_build($_GET["css"], static function () { %s; return "never"; })); $fiber->start();',
                $end
            ), ["css" => $this->css]);
            self::assertSame('[0,[".",".."],true,true]', $fpm->get($next, ["css" => $this->css]), $end);
        }
        self::assertCount(1, $fpm->workers());
    }

    /** @dataProvider backends */
    public function testALossBesideAnExitIsTold(Cluster $cluster): void
    {
        $process = $cluster->process(
            '[$css, $lock] = [hear(), hear()]; cluster_file_build($css, static fn () => exit(5 * (int) cluster_lock_break($lock)));',
            ['display_errors' => 'stderr', 'log_errors' => '0']
        );
        $process->tell($this->css);
        $process->tell($this->lock());

        self::assertSame(5, $process->wait(), $process->transcript());
        self::assertStringContainsString("cluster_file_build(): Lock \"{$this->lock()}\": was lost before", $process->errors());
        self::assertSame(['.', '..'], scandir("{$this->dir}/made"));
    }

    /** @dataProvider backends */
    public function testAFiberThatIsDestroyedInsideLeavesNothing(Cluster $cluster): void
    {
        $seen = $cluster->actor()->run(<<<'PHP'
            $fiber = new Fiber(static fn () => cluster_file_build($css, static fn () => Fiber::suspend()));
            $fiber->start();
            unset($fiber);
            gc_collect_cycles();
            return [scandir(dirname($css)), cluster_file_build($css, static fn () => 'the next one')];
            PHP, css: $this->css);

        self::assertSame([['.', '..'], true], $seen);
        $this->assertMade('the next one', 0);
    }

    public function testWhatIsTakenAwayDuringTheBuildIsNotReplacedByNothing(): void
    {
        $alice = Cluster::local()->actor();
        $this->build($alice);
        $outcome = $alice->tryRun(<<<'PHP'
            return cluster_file_build($css, static function () use ($css) {
                array_map('unlink', glob(dirname($css) . '/.*.cluster_lock.tmp'));
                return 'new';
            });
            PHP, css: $this->css);
        self::assertStringContainsString('cannot rename the temporary file over it', $outcome->warning());
        $this->assertMade('a,b', 1);
    }

    public function testAWorkingDirectoryThatIsGoneIsNotTheRoot(): void
    {
        $name = 'cluster_lock_test_' . getmypid();
        mkdir("{$this->dir}/gone");
        $outcome = Cluster::local()->actor()->tryRun(
            'chdir($dir); rmdir($dir); return cluster_file_build($name, static fn () => "x");',
            dir: "{$this->dir}/gone",
            name: $name
        );
        $wasMade = is_file("/$name") && unlink("/$name");
        self::assertFalse($wasMade);
        // With threads, PHP itself knows what a thread's working directory is called, though it may be gone.
        $what = PHP_ZTS ? 'gone/ cannot be reached: No such file or directory' : 'The working directory cannot be found';
        self::assertStringContainsString($what, $outcome->warning());
    }

    /** @dataProvider backends */
    public function testAKilledBuilderIsFollowedByTheNext(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '1']);
        $this->beginSlow($alice);
        $this->beginQuick($bob);
        $cluster->awaitWaiters($this->lock(), 1);
        $alice->kill();
        self::assertTrue($bob->end(), 'When the lease is over');
        $this->assertMade('a,b', 2, ['css', '*.cluster_lock.tmp']);
    }

    /** @dataProvider backends */
    public function testAChildBuildsNothingForItsParent(Cluster $cluster): void
    {
        $process = $cluster->process(<<<'PHP'
            $css = hear();
            $done = @cluster_file_build($css, static function () use ($css) {
                if (($child = pcntl_fork()) === 0) {
                    return 'by the child';
                }
                pcntl_waitpid($child, $status);
                say('child: ' . pcntl_wexitstatus($status) . ' ' . (is_file($css) ? 'wrote' : 'wrote nothing'));
                return 'by the parent';
            });
            exit($done ? 0 : 9);
            PHP);
        $process->tell($this->css);
        $process->expect('child: 9 wrote nothing');

        self::assertSame(0, $process->wait(), $process->transcript());
        $this->assertMade('by the parent', 0);
        $cluster->assertFree($this->lock(), 'All is given back');
    }

    public function testModeAndCachesAreThoseOfAWrite(): void
    {
        $alice = Cluster::local()->actor();
        file_put_contents($this->css, 'old');
        chmod($this->css, 0604);
        $seen = $alice->run(<<<'PHP'
            umask(027);
            $before = filesize($css);
            return [$before, cluster_file_build($css, static fn () => 'a longer one'), filesize($css),
                cluster_file_build("$css.new", static fn () => ''), decoct(fileperms("$css.new") & 0777)];
            PHP, css: $this->css);
        clearstatcache();

        self::assertSame([3, true, 12, true, '640'], $seen);
        self::assertSame('604', decoct(fileperms($this->css) & 0777), 'The mode of the old file is kept');
    }

    public function testAnUnreachableSourceIsAWarning(): void
    {
        $alice = Cluster::local()->actor();
        symlink('circle', "{$this->dir}/from/circle");
        $warning = $this->tryBuild($alice, null, [$this->a, "{$this->dir}/from/circle"])->warning();
        // glibc's words, and musl's.
        $why = 'Too many levels of symbolic links|Symbolic link loop';
        self::assertMatchesRegularExpression("~from/circle: cannot be reached: ($why)~", $warning);
        self::assertFalse(is_file($this->css), 'Nothing is written');
        $warning = $this->tryBuild($alice, null, ['http://localhost/a'])->warning();
        self::assertStringContainsString('Only plain local files can be sources', $warning);
        $warning = $alice->try('cluster_file_build', 'http://localhost/a', 'time')->warning();
        self::assertStringContainsString('Only plain local files can be built', $warning);
        $warning = $alice->try('cluster_file_build', "{$this->dir}/no/css", 'time')->warning();
        self::assertStringContainsString('cannot be reached', $warning);
        $warning = $alice->try('cluster_file_build', $this->dir, 'time')->warning();
        self::assertStringContainsString('is a directory', $warning);
        self::assertSame(0, $this->builds());
    }

    public function testOpenBasedirHolds(): void
    {
        $outside = TempDir::forTest();
        touch("$outside/a");
        symlink("$outside/a", "{$this->dir}/from/out");
        $cluster = Cluster::local();
        $alice = $cluster->actor();
        $locks = substr($cluster->settings()['cluster_lock.dsn'], strlen('local://'));
        $alice->run(
            'cluster_lock_status(); return ini_set("open_basedir", $allowed);',
            allowed: "{$this->dir}:$locks:" . dirname($this->log)
        );
        foreach (["$outside/a", "{$this->dir}/from/out"] as $source) {
            $outcome = $this->tryBuild($alice, null, [$source]);
            self::assertFalse($outcome->value);
            self::assertStringContainsString('open_basedir', $outcome->messages());
        }
        self::assertTrue($this->build($alice), 'Inside it works');
        $this->assertMade('a,b', 1);
        self::assertTrue($this->build($alice));
        $this->assertMade('a,b', 1);
        $outcome = $alice->try('cluster_file_build', "$outside/css", 'time');
        self::assertStringContainsString('open_basedir', $outcome->messages());
        self::assertFalse(file_exists("$outside/css"));
    }

    public function testArguments(): void
    {
        $alice = Cluster::local()->actor();
        $mistakes = [
            'Argument #1 ($target)' => ['ValueError', '', 'time'],
            'Argument #1 ($target) must not contain any null bytes' => ['ValueError', "a\0b", 'time'],
            'Argument #2 ($build)' => ['TypeError', $this->css, 'nothing'],
            'Argument #3 ($sources) must contain only paths, int given' => ['TypeError', $this->css, 'time', [1]],
            'Argument #3 ($sources) must not contain an empty path' => ['ValueError', $this->css, 'time', ['']],
            'Argument #3 ($sources) must not contain any null bytes' => ['ValueError', $this->css, 'time', ["a\0b"]],
            'Argument #4 ($timeout)' => ['ValueError', $this->css, 'time', [], -1],
        ];
        foreach ($mistakes as $message => [$class, $target, $build]) {
            $more = array_slice($mistakes[$message], 3);
            $thrown = $alice->try('cluster_file_build', $target, $build, ...$more)->thrown($class);
            self::assertStringContainsString($message, $thrown->message);
        }
        self::assertTrue($alice->run(
            'chdir($dir); return cluster_file_build("made/css", static fn () => "x", [new SplFileInfo("from/a"), "file://$dir/from/b"]);',
            dir: $this->dir
        ), 'Relative, an object, an address');
        $this->assertMade('x', 0);
    }

    /** A path's object runs code of the user, which may take away what it is in. */
    public function testAnObjectThatChangesTheSourcesDoesNoHarm(): void
    {
        $seen = Cluster::local()->actor()->run(<<<'PHP'
            $sources = [null, $a];
            $sources[0] = &$object;
            $object = new class($object, $a) {
                public function __construct(private &$self, private string $path) {}
                public function __toString(): string { $path = $this->path; $this->self = null; return $path . ''; }
            };
            return [cluster_file_build($css, static fn () => 'x', $sources), cluster_file_build($css, static fn () => 'y', [$a])];
            PHP, css: $this->css, a: $this->a);

        self::assertSame([true, true], $seen);
        $this->assertMade('x', 0);
    }

    private function lock(): string
    {
        return "file:{$this->css}";
    }

    /**
     * When so long ago that it counts is what has been done, as PHP code can see it: a second, and what is left of the one that
     * has begun.
     */
    private function settle(): void
    {
        $probe = "{$this->dir}/probe";
        touch($probe);
        clearstatcache();
        $before = filectime($probe);
        Until::true(static fn () => touch($probe) && filectime($probe) > $before + 1, 'the clock should go on');
        unlink($probe);
    }

    /** @param list<string>|null $sources */
    private function beginQuick(Actor $actor, ?float $timeout = null, ?array $sources = null, string $code = self::QUICK): void
    {
        $read = $sources === [] || $sources === null ? [$this->a, $this->b] : $sources;
        $actor->beginRun($code, css: $this->css, log: $this->log, read: $read, sources: $sources ?? $read, timeout: $timeout);
    }

    /** @param list<string>|null $sources */
    private function tryBuild(Actor $actor, ?float $timeout = null, ?array $sources = null): Outcome
    {
        $this->beginQuick($actor, $timeout, $sources);

        return $actor->outcome();
    }

    /** @param list<string>|null $sources */
    private function build(Actor $actor, ?float $timeout = null, ?array $sources = null): bool
    {
        return $this->tryBuild($actor, $timeout, $sources)->value();
    }

    private function beginSlow(Actor $actor, ?string $css = null): void
    {
        $sources = [$this->a, $this->b];
        $css ??= $this->css;
        $actor->beginRun(self::SLOW, css: $css, log: $this->log, read: $sources, sources: $sources, timeout: null);
        $actor->process()->expect('inside');
    }

    /**
     * One is building, so many have come since, and something happened before the first one goes on.
     *
     * @param list<string>|null $sources
     *
     * @return list<Actor>
     */
    private function stampede(Cluster $cluster, int $more, ?callable $meanwhile = null, ?array $sources = null): array
    {
        $first = $cluster->actor();
        $this->beginQuick($first, null, $sources, self::SLOW);
        $first->process()->expect('inside');
        $others = $cluster->actors($more);
        if ($meanwhile !== null) {
            $meanwhile();
            $this->settle();
        }
        foreach ($others as $other) {
            $this->beginQuick($other, null, $sources);
        }
        $cluster->awaitWaiters($this->lock(), $more);
        $first->process()->tell('go on');

        return [$first, ...$others];
    }

    private function builds(): int
    {
        return count(file($this->log));
    }

    /** @param list<string> $names what is in its directory, as fnmatch() has it */
    private function assertMade(string $content, int $builds, array $names = ['css']): void
    {
        self::assertSame($content, file_get_contents($this->css), 'What is made');
        self::assertSame($builds, $this->builds(), 'So many builds');
        $there = array_diff(scandir("{$this->dir}/made"), ['.', '..']);
        foreach ($there as $name) {
            self::assertNotSame(
                [],
                array_filter($names, static fn (string $pattern) => fnmatch($pattern, $name)),
                "In the directory is $name"
            );
        }
    }
}
