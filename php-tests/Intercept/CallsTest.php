<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;

/**
 * Code that knows nothing of the extension takes the cluster lock of its file. In replace mode, so that nothing but
 * the cluster lock can be what excludes.
 */
final class CallsTest extends FlockTestCase
{
    /** Code that locks $file exclusively and keeps that in $GLOBALS["kept"] => code that ends it. */
    private const CALLS = [
        'flock()' => ['$h = fopen($file, "r+"); flock($h, LOCK_EX); $GLOBALS["kept"] = $h;', 'flock($GLOBALS["kept"], LOCK_UN);'],
        'fclose()' => ['$h = fopen($file, "r+"); flock($h, LOCK_EX); $GLOBALS["kept"] = $h;', 'fclose($GLOBALS["kept"]);'],
        'unset()' => ['$h = fopen($file, "r+"); flock($h, LOCK_EX); $GLOBALS["kept"] = $h;', 'unset($GLOBALS["kept"]);'],
        'LOCK_NB' => ['$h = fopen($file, "r+"); flock($h, LOCK_EX | LOCK_NB); $GLOBALS["kept"] = $h;', 'unset($GLOBALS["kept"]);'],
        'SplFileObject' => [
            '$GLOBALS["kept"] = new SplFileObject($file, "r+"); $GLOBALS["kept"]->flock(LOCK_EX);',
            '$GLOBALS["kept"]->flock(LOCK_UN);',
        ],
        'the end of an SplFileObject' => [
            '$GLOBALS["kept"] = (new SplFileInfo($file))->openFile("r+"); $GLOBALS["kept"]->flock(LOCK_EX);',
            '$GLOBALS["kept"] = null;',
        ],
        'to read' => ['$h = fopen($file, "r"); flock($h, LOCK_EX); $GLOBALS["kept"] = $h;', 'fclose($GLOBALS["kept"]);'],
        'to append' => ['$h = fopen($file, "a"); flock($h, LOCK_EX); $GLOBALS["kept"] = $h;', 'fclose($GLOBALS["kept"]);'],
        'file://' => ['$h = fopen("file://$file", "r+"); flock($h, LOCK_EX); $GLOBALS["kept"] = $h;', 'fclose($GLOBALS["kept"]);'],
        'php://filter' => [
            '$h = fopen("php://filter/write=string.rot13/resource=$file", "r+"); flock($h, LOCK_EX); $GLOBALS["kept"] = $h;',
            'fclose($GLOBALS["kept"]);',
        ],
        'a relative path' => [
            'chdir(dirname($file)); $h = fopen("file", "r+"); chdir("/"); flock($h, LOCK_EX); $GLOBALS["kept"] = $h;',
            'flock($GLOBALS["kept"], LOCK_UN);',
        ],
        'the include path' => [
            'set_include_path(dirname($file)); $h = fopen("file", "r+", true); flock($h, LOCK_EX); $GLOBALS["kept"] = $h;',
            'flock($GLOBALS["kept"], LOCK_UN);',
        ],
        'a callback' => [
            '$h = fopen($file, "r+"); array_map("flock", [$h], [LOCK_EX]); $GLOBALS["kept"] = $h;',
            'call_user_func("flock", $GLOBALS["kept"], LOCK_UN);',
        ],
    ];

    /** @return iterable<string, array{string, string}> */
    public static function calls(): iterable
    {
        return self::CALLS;
    }

    /** @dataProvider calls */
    public function testItTakesTheClusterLock(string $lock, string $end): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, $this->replacing());
        $other = Handle::open($bob, $this->file, 'r+', 'flock');
        $alice->run($lock, file: $this->file);
        self::assertSame(
            [$alice->pid()],
            array_column($cluster->info($this->name)['holders'] ?? [], 'pid'),
            'Alice holds the lock of the file'
        );
        self::assertWouldBlock($other, LOCK_SH, 'Alice has it');
        $other->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 1);
        $alice->run($end);

        self::assertTrue($bob->end(), 'It is his turn');
        self::assertSame('content', file_get_contents($this->file), 'Locks change no file');
    }

    public function testItIsTheLockOfClusterFlock(): void
    {
        $cluster = Cluster::redis();
        $mine = Handle::open($cluster->actor($this->replacing()), $this->file, 'c+', 'flock');
        $other = Handle::open($cluster->actor(['cluster_lock.flock_mode' => 'replace']), $this->file);
        $mine->lock(LOCK_EX);
        self::assertWouldBlock($other, LOCK_EX, 'It is one lock');
        $mine->unlock();
        $other->lock(LOCK_EX);

        self::assertWouldBlock($mine, LOCK_EX, 'It is one lock');
    }

    public function testFlockAndClusterFlockAreOneLockOfOneHandle(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, $this->replacing());
        $mine = Handle::open($alice, $this->file);
        $other = Handle::open($bob, $this->file);
        self::assertTrue($mine->run('return flock($h, LOCK_EX) && cluster_flock($h, LOCK_EX);'), 'It has it already');
        self::assertTrue($mine->run('return flock($h, LOCK_UN);'), 'One unlocks what the other has locked');
        self::assertFreeFor($other, 'It is unlocked');
        self::assertTrue($mine->run('return cluster_flock($h, LOCK_SH) && flock($h, LOCK_EX);'), 'It is converted');
        self::assertWouldBlock($other, LOCK_SH, 'It is exclusive');
        self::assertTrue($mine->run('return cluster_flock($h, LOCK_UN);'), 'It is unlocked');

        self::assertFreeFor($other, 'It is unlocked');
    }

    public function testASharedLockIsShared(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, $this->replacing());
        $mine = Handle::open($alice, $this->file, 'r', 'flock');
        $other = Handle::open($bob, $this->file, 'r', 'flock');
        $mine->lock(LOCK_SH);
        self::assertGets($other, LOCK_SH, 'Readers share');
        self::assertSame('shared', $cluster->info($this->name)['mode'], 'The cluster knows');

        self::assertWouldBlock($other, LOCK_EX, 'Alice reads');
    }

    public function testTheTimeOutIsASilentFalse(): void
    {
        $cluster = Cluster::redis();
        $mine = Handle::open($cluster->actor($this->replacing()), $this->file, 'c+', 'flock');
        $settings = ['cluster_lock.timeout' => '0.2'] + $this->replacing();
        $other = Handle::open($cluster->actor($settings), $this->file, 'c+', 'flock');
        $mine->lock(LOCK_EX);
        $outcome = $other->try(LOCK_EX);

        self::assertFalse($outcome->value(), 'It was not to be had');
        self::assertGreaterThanOrEqual(0.2, $outcome->seconds, 'Bob has waited');
        self::assertSame([], $cluster->info($this->name)['waiters'], 'He does not wait any more');
    }

    public function testAWaitForThisVeryProcessFailsAtOnceWithAWarning(): void
    {
        $actor = Cluster::redis()->actor(['cluster_lock.timeout' => 'INF', 'cluster_lock.intercept' => $this->dir]);
        $first = Handle::open($actor, $this->file, 'c+', 'flock');
        $second = Handle::open($actor, $this->file, 'c+', 'flock');
        $first->lock(LOCK_EX);
        $outcome = $second->try(LOCK_EX);
        self::assertStringContainsString($this->file, $outcome->warning(), 'It names the file');
        self::assertSame(0, $second->wouldBlock(), 'It is a failure');

        $outcome = $actor->try('file_put_contents', $this->file, 'new', LOCK_EX);
        self::assertNull($outcome->thrown, 'PHP\'s functions do not throw');
        self::assertFalse($outcome->value, 'Nothing is written');
        self::assertStringContainsString($this->file, $outcome->messages(), 'It tells why');
        self::assertSame('content', file_get_contents($this->file), 'Nothing is lost');
    }

    public function testBadOperationsAreThoseOfPhp(): void
    {
        $handle = Handle::open(Cluster::redis()->actor($this->replacing()), $this->file, 'c+', 'flock');
        foreach ([0, 4, 8, 16] as $operation) {
            self::assertSame(
                'flock(): Argument #2 ($operation) must be one of LOCK_SH, LOCK_EX, or LOCK_UN',
                $handle->try($operation)->thrown('ValueError')->message,
                'PHP\'s own message'
            );
        }
    }

    /** @return array<string, string> */
    private function replacing(): array
    {
        return ['cluster_lock.intercept' => $this->dir, 'cluster_lock.flock_mode' => 'replace'];
    }
}
