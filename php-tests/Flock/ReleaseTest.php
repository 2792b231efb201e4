<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\Until;

/**
 * What ends a lock: unlock, the end of the handle, the end of the request, the end of the lease.
 */
final class ReleaseTest extends FlockTestCase
{
    /** Opens "$file" as $h and holds it in a way of its own => ends that. */
    private const ENDS_OF_HANDLES = [
        'unlock' => ['$GLOBALS["h"] = $open();', 'cluster_flock($GLOBALS["h"], LOCK_UN);'],
        'fclose' => ['$GLOBALS["h"] = $open();', 'fclose($GLOBALS["h"]);'],
        'unset' => ['$GLOBALS["h"] = $open();', 'unset($GLOBALS["h"]);'],
        'another value' => ['$GLOBALS["h"] = $open();', '$GLOBALS["h"] = 1;'],
        'the last of two references' => [
            '$GLOBALS["h"] = $GLOBALS["i"] = $open(); unset($GLOBALS["h"]);',
            'unset($GLOBALS["i"]);',
        ],
        'the end of an object' => ['$GLOBALS["o"] = (object) ["h" => $open()];', '$GLOBALS["o"] = null;'],
        'the end of a cycle' => [
            '$o = (object) ["h" => $open()]; $o->o = $o; unset($o);',
            'gc_collect_cycles();',
        ],
        'the end of a generator' => [
            '$GLOBALS["g"] = (static function () use ($open) { $h = $open(); yield; })(); $GLOBALS["g"]->current();',
            'unset($GLOBALS["g"]);',
        ],
    ];

    private const OPEN = <<<'PHP'
        $open = static function () use ($file) {
            $h = fopen($file, 'r+');
            cluster_flock($h, LOCK_EX);
            return $h;
        };
        PHP;

    /** @return iterable<string, array{string, string, string}> */
    public static function endsOfHandles(): iterable
    {
        foreach (self::ENDS_OF_HANDLES as $what => [$hold, $end]) {
            foreach (array_keys(self::modes()) as $mode) {
                yield "$what, $mode" => [$mode, $hold, $end];
            }
        }
    }

    /** @dataProvider endsOfHandles */
    public function testTheEndOfAHandleIsTheEndOfItsLock(string $mode, string $hold, string $end): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.flock_mode' => $mode]);
        $other = Handle::open($bob, $this->file);
        $alice->run(self::OPEN . $hold, file: $this->file);
        self::assertWouldBlock($other, LOCK_EX, 'Alice has it');
        $alice->run($end);

        self::assertGets($other, LOCK_EX, 'Alice has it no longer');
        self::assertSame([], $alice->call('cluster_lock_status')['held'], 'She knows');
    }

    public function testTheEndOfAScopeIsTheEndOfItsLocks(): void
    {
        [$alice, $bob] = Cluster::redis()->actors(2);
        $other = Handle::open($bob, $this->file);
        $alice->run(self::OPEN . '$h = $open(); return cluster_flock($h, LOCK_SH);', file: $this->file);
        self::assertGets($other, LOCK_EX, 'The function has returned');
        $other->unlock();
        $alice->tryRun(self::OPEN . '$h = $open(); throw new Exception("on the way");', file: $this->file);

        self::assertGets($other, LOCK_EX, 'The exception is gone');
    }

    /** @return array<string, array{string, int}> how it ends, exit code */
    public static function endsOfRequests(): array
    {
        return [
            'return' => ['return;', 0],
            'exit' => ['exit(3);', 3],
            'exit in a function' => ['(static function () { exit(3); })();', 3],
            'exception' => ['throw new Exception("the end");', 255],
            'fatal error' => ['trigger_error("the end", E_USER_ERROR);', 255],
            'memory limit' => ['ini_set("memory_limit", "4M"); str_repeat("x", 50_000_000);', 255],
        ];
    }

    /** @dataProvider endsOfRequests */
    public function testTheEndOfACommandIsTheEndOfItsLocks(string $end, int $code): void
    {
        $cluster = Cluster::redis();
        $other = Handle::open($cluster->actor(), $this->file);
        $process = $cluster->process(
            '$h = fopen(' . var_export($this->file, true) . ', "r+"); cluster_flock($h, LOCK_EX); '
            . '$o = new stdClass(); $o->o = $o; $o->h = fopen($other = __DIR__ . "/other", "w"); cluster_flock($o->h, LOCK_SH); '
            . 'say("locked"); hear(); ini_set("display_errors", "0");' . $end
        );
        $process->expect('locked');
        self::assertWouldBlock($other, LOCK_EX, 'The process has it');
        $process->tell('end');

        self::assertSame($code, $process->wait(), $process->transcript());
        self::assertSame('', $process->errors(), 'There is nothing to warn of');
        self::assertGets($other, LOCK_EX, 'It has ended');
        self::assertCount(1, $cluster->observer()->call('cluster_lock_list'), 'No other lock stays');
    }

    /** @dataProvider modes */
    public function testTheEndOfARequestToFpmIsTheEndOfItsLocks(string $mode): void
    {
        $cluster = Cluster::redis();
        $fpm = new Fpm($cluster->settings(['cluster_lock.flock_mode' => $mode]));
        $other = Handle::open($cluster->actor(['cluster_lock.flock_mode' => $mode]), $this->file);
        for ($request = 1; $request <= 3; $request++) {
            $body = $fpm->get(
                '$GLOBALS["h"] = fopen($_GET["file"], "r+"); echo json_encode(cluster_flock($GLOBALS["h"], LOCK_EX));',
                ['file' => $this->file]
            );
            self::assertSame('true', $body, "Request $request should get the lock");
            self::assertFreeFor($other, "Request $request has ended");
        }
        self::assertStringNotContainsString('exited', $fpm->log(), 'The worker should have survived');
    }

    public function testDataThatIsFlushedAtTheEndIsThereForTheNextHolder(): void
    {
        $cluster = Cluster::redis();
        $other = Handle::open($cluster->actor(['cluster_lock.flock_mode' => 'replace']), $this->file, 'r');
        // The filter keeps the last bytes to itself until the stream is closed.
        $process = $cluster->process(
            '$h = fopen(' . var_export($this->file, true) . ', "w"); cluster_flock($h, LOCK_EX);'
            . 'stream_filter_append($h, "convert.base64-encode", STREAM_FILTER_WRITE); fwrite($h, "abcd");'
            . 'say("written"); hear();',
            ['cluster_lock.flock_mode' => 'replace']
        );
        $process->expect('written');
        $other->beginRun('return cluster_flock($h, LOCK_SH) ? stream_get_contents($h) : false;');
        $cluster->awaitWaiters($this->name, 1);
        $process->tell('end');

        self::assertSame('YWJjZA==', $other->actor->end(), 'Flushed first, then released');
    }

    /** @dataProvider modes */
    public function testTheLockOfAKilledProcessIsFreeWhenItsLeaseIsOver(string $mode): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.flock_mode' => $mode, 'cluster_lock.ttl' => '1']);
        $cluster->observer();
        $other = Handle::open($bob, $this->file);
        Handle::open($alice, $this->file)->lock(LOCK_EX);
        $other->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 1);
        $alice->kill();

        self::assertTrue($other->actor->end(), 'A lease runs out');
    }

    public function testTheLeaseIsKeptAliveWhileItIsLocked(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.flock_mode' => 'replace', 'cluster_lock.ttl' => '1.5']);
        $mine = Handle::open($alice, $this->file);
        $other = Handle::open($bob, $this->file);
        $mine->lock(LOCK_EX);
        Until::true(
            static fn () => $alice->call('cluster_lock_status')['counters']['renewals'] >= 3,
            'the lease should be renewed'
        );

        self::assertWouldBlock($other, LOCK_SH, 'The first lease would be over by now');
        self::assertTrue($mine->unlock(), 'It was held throughout');
    }

    /** @dataProvider modes */
    public function testALockThatAnAdministratorBreaksCanBeHadAgain(string $mode): void
    {
        $cluster = Cluster::redis();
        $alice = $cluster->actor(['cluster_lock.flock_mode' => $mode]);
        $mine = Handle::open($alice, $this->file);
        $mine->lock(LOCK_EX);
        self::assertTrue($cluster->observer()->call('cluster_lock_break', $this->name), 'It was held');
        $outcome = $mine->try(LOCK_UN);
        self::assertNull($outcome->thrown, 'Functions do not throw');
        self::assertCount(1, $outcome->warnings, 'What was lost is told');
        self::assertStringContainsString($this->file, $outcome->messages(), 'It names the lock');

        self::assertFreeFor($mine, 'Nobody has it');
    }
}
