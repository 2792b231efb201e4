<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\TempDir;

/**
 * A stream that is left open and locked at the end of a request is flushed and closed first, and then unlocked.
 */
final class RequestEndTest extends FlockTestCase
{
    /** The filter keeps the last bytes to itself until the stream is closed. */
    private const LOCK = <<<'PHP'
        $GLOBALS['kept'] = fopen($file, 'w');
        flock($GLOBALS['kept'], LOCK_EX);
        stream_filter_append($GLOBALS['kept'], 'convert.base64-encode', STREAM_FILTER_WRITE);
        fwrite($GLOBALS['kept'], 'abcd');
        $cycle = new stdClass();
        $cycle->self = $cycle;
        $cycle->file = new SplFileObject("$file.spl", 'w');
        $cycle->file->flock(LOCK_SH);
        PHP;

    /** @return iterable<string, array{string, string}> mode, how the request ends */
    public static function ends(): iterable
    {
        foreach (array_keys(self::modes()) as $mode) {
            yield "return, $mode" => [$mode, 'return;'];
            yield "exit, $mode" => [$mode, 'exit(3);'];
            yield "exception, $mode" => [$mode, 'throw new Exception("nobody catches this");'];
            yield "fatal error, $mode" => [$mode, 'trigger_error("the end", E_USER_ERROR);'];
            yield "memory limit, $mode" => [$mode, 'ini_set("memory_limit", "8M"); str_repeat("x", 50_000_000);'];
            yield "time limit, $mode" => [$mode, 'set_time_limit(1); while (true) { md5("busy"); }'];
        }
    }

    /** @dataProvider ends */
    public function testOfACommand(string $mode, string $end): void
    {
        [$cluster, $next] = $this->cluster($mode);
        $process = $cluster->process(
            '$file = ' . var_export($this->file, true) . ';' . self::LOCK
            . 'say("written"); hear(); ini_set("display_errors", "0");' . $end,
            $this->settings($mode)
        );
        $process->expect('written');
        $next->beginRun('return flock($h, LOCK_SH) ? stream_get_contents($h) : false;');
        $cluster->awaitWaiters($this->name, 1);
        $process->tell('end');

        self::assertSame('YWJjZA==', $next->actor->end(), 'Flushed first, then released');
        $process->wait();
        self::assertNull($cluster->info("{$this->name}.spl"), 'No other lock stays');
        self::assertSame('', $process->errors(), 'There is nothing to warn of');
        self::assertNull($process->endedBy(), 'It did not crash');
    }

    /** @dataProvider ends */
    public function testOfARequestToFpm(string $mode, string $end): void
    {
        [$cluster, $next] = $this->cluster($mode);
        $fpm = new Fpm($cluster->settings($this->settings($mode)));
        for ($round = 1; $round <= 2; $round++) {
            $go = TempDir::forTest() . '/go';
            $request = $fpm->begin(
                '$file = $_GET["file"];' . self::LOCK . 'echo "written"; flush(); await_file($_GET["go"]);' . $end,
                ['file' => $this->file, 'go' => $go]
            );
            $request->awaitText('written');
            $next->beginRun('rewind($h); return flock($h, LOCK_SH) ? stream_get_contents($h) : false;');
            $cluster->awaitWaiters($this->name, 1);
            touch($go);

            self::assertSame('YWJjZA==', $next->actor->end(), 'Flushed first, then released');
            $next->unlock();
            $request->body();
            self::assertNull($cluster->info("{$this->name}.spl"), 'No other lock stays');
        }
        self::assertStringNotContainsString('exited', $fpm->log(), 'The worker should have survived');
    }

    /** @dataProvider modes */
    public function testRequestsToFpmFollowOneAnother(string $mode): void
    {
        $cluster = Cluster::redis();
        $fpm = new Fpm($cluster->settings($this->settings($mode)), 3);
        file_put_contents($this->file, '0');
        // Each leaves its stream open and locked.
        $code = <<<'PHP'
            $h = fopen($_GET['file'], 'r+');
            flock($h, LOCK_EX) || exit('not locked');
            $n = (int) fgets($h);
            rewind($h);
            fwrite($h, (string) ($n + 1));
            echo 'ok';
            PHP;
        for ($round = 0; $round < 25; $round++) {
            $requests = [];
            for ($i = 0; $i < 4; $i++) {
                $requests[] = $fpm->begin($code, ['file' => $this->file]);
            }
            foreach ($requests as $request) {
                self::assertSame('ok', $request->body(), 'Each request should get its turn');
            }
        }

        self::assertSame('100', file_get_contents($this->file), 'No change is lost');
    }

    /** @dataProvider modes */
    public function testAKilledProcessIsOutlivedByItsLease(string $mode): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, $this->settings($mode) + ['cluster_lock.ttl' => '1']);
        Handle::open($alice, $this->file, 'c+', 'flock')->lock(LOCK_EX);
        $next = Handle::open($bob, $this->file, 'c+', 'flock');
        $next->begin(LOCK_EX);
        $cluster->awaitWaiters($this->name, 1);
        $alice->kill();

        self::assertTrue($bob->end(), 'A lease runs out');
    }

    /** @return array{Cluster, Handle} and the next who wants the file, to read */
    private function cluster(string $mode): array
    {
        $cluster = Cluster::redis();

        return [$cluster, Handle::open($cluster->actor($this->settings($mode)), $this->file, 'r', 'flock')];
    }

    /** @return array<string, string> */
    private function settings(string $mode): array
    {
        return ['cluster_lock.intercept' => $this->dir, 'cluster_lock.flock_mode' => $mode];
    }
}
