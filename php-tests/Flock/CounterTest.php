<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Plain;

/**
 * Many processes change one file: no change is lost, whatever the idiom.
 */
final class CounterTest extends FlockTestCase
{
    private const PROCESSES = 5;
    private const TIMES = 60;

    private const IDIOMS = [
        'opened for each lock' => <<<'PHP'
            for ($i = 0; $i < $times; $i++) {
                $h = fopen($file, 'c+');
                $lock($h, LOCK_EX) || throw new Exception('not locked');
                $n = (int) fgets($h);
                rewind($h);
                ftruncate($h, 0);
                fwrite($h, (string) ($n + 1));
                fclose($h);
            }
            PHP,
        'kept open' => <<<'PHP'
            $h = fopen($file, 'c+');
            for ($i = 0; $i < $times; $i++) {
                $lock($h, LOCK_EX) || throw new Exception('not locked');
                rewind($h);
                $n = (int) fgets($h);
                rewind($h);
                ftruncate($h, 0);
                fwrite($h, (string) ($n + 1));
                fflush($h);
                $lock($h, LOCK_UN);
            }
            PHP,
        'read, then converted' => <<<'PHP'
            $h = fopen($file, 'c+');
            for ($i = 0; $i < $times; $i++) {
                $lock($h, LOCK_SH) || throw new Exception('not locked');
                $lock($h, LOCK_EX) || throw new Exception('not converted');
                rewind($h);
                $n = (int) fgets($h);
                rewind($h);
                ftruncate($h, 0);
                fwrite($h, (string) ($n + 1));
                $lock($h, $i % 2 ? LOCK_UN : LOCK_SH);
                if ($i % 2 === 0) {
                    rewind($h);
                    (int) fgets($h) >= $n + 1 || throw new Exception('torn');
                    $lock($h, LOCK_UN);
                }
            }
            PHP,
        'one try after the other' => <<<'PHP'
            $h = fopen($file, 'c+');
            for ($i = 0; $i < $times; $i++) {
                while (!$lock($h, LOCK_EX | LOCK_NB, $wouldBlock)) {
                    $wouldBlock === 1 || throw new Exception('failed');
                    usleep(500);
                }
                rewind($h);
                $n = (int) fgets($h);
                rewind($h);
                ftruncate($h, 0);
                fwrite($h, (string) ($n + 1));
                $lock($h, LOCK_UN);
            }
            PHP,
    ];

    /** @return iterable<string, array{string, string, string}> */
    public static function idioms(): iterable
    {
        foreach (self::IDIOMS as $name => $code) {
            foreach (array_keys(self::modes()) as $mode) {
                foreach (['cluster_flock', 'flock'] as $function) {
                    yield "$name, $mode, $function()" => [$code, $mode, $function];
                }
            }
        }
    }

    /** @dataProvider idioms */
    public function testNoChangeIsLost(string $code, string $mode, string $function): void
    {
        $settings = ['cluster_lock.flock_mode' => $mode, 'cluster_lock.timeout' => '60'];
        $settings += $function === 'flock' ? ['cluster_lock.intercept' => $this->dir] : [];
        $actors = Cluster::redis()->actors(self::PROCESSES, $settings);
        if ($mode === 'gate') {
            $actors[0] = Plain::actor();
        }
        foreach ($actors as $i => $actor) {
            $actor->beginRun(
                $code,
                lock: $mode === 'gate' && $i === 0 ? 'flock' : $function,
                file: $this->file,
                times: self::TIMES
            );
        }
        foreach ($actors as $actor) {
            $actor->end(60);
        }

        self::assertSame((string) (self::PROCESSES * self::TIMES), file_get_contents($this->file), 'No change is lost');
    }
}
