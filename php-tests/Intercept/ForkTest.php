<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\PhpProcess;

/**
 * A forked child inherits its parent's streams, but not their cluster locks.
 */
final class ForkTest extends FlockTestCase
{
    /** @return iterable<string, array{string, string, string}> */
    public static function ends(): iterable
    {
        $ends = [
            'exit' => 'exit(0);',
            'return' => 'return;',
            'exception' => 'ini_set("display_errors", "0"); throw new Exception("the end");',
            'fclose' => 'fclose($h); exit(0);',
            'unset' => 'unset($h); exit(0);',
            'kill' => 'posix_kill(getmypid(), SIGKILL);',
        ];
        foreach ($ends as $name => $end) {
            foreach (array_keys(self::modes()) as $mode) {
                foreach (['flock', 'cluster_flock'] as $function) {
                    yield "$name, $mode, $function()" => [$mode, $function, $end];
                }
            }
        }
    }

    /** @dataProvider ends */
    public function testTheEndOfAChildReleasesNothing(string $mode, string $function, string $end): void
    {
        [$cluster, $other] = $this->cluster($mode);
        $process = $this->process($cluster, $mode, <<<PHP
            \$h = fopen(\$file, 'r+');
            $function(\$h, LOCK_EX);
            if (pcntl_fork() === 0) {
                $end
            }
            pcntl_wait(\$status);
            say('child ended');
            hear();
            say(fwrite(\$h, 'parent') && $function(\$h, LOCK_UN));
            hear();
            PHP);
        $process->expect('child ended');
        self::assertWouldBlock($other, LOCK_SH, 'The parent has it');
        self::assertSame(
            [$process->pid()],
            array_column($cluster->info($this->name)['holders'], 'pid'),
            'The parent is the holder'
        );
        $process->tell('unlock');
        $process->expect('true');
        self::assertGets($other, LOCK_EX, 'The parent has unlocked');
        self::assertSame('', $process->errors(), 'There is nothing to warn of');
    }

    /** @dataProvider modes */
    public function testAChildThatOpensTheFileItselfIsExcluded(string $mode): void
    {
        [$cluster] = $this->cluster($mode);
        $process = $this->process($cluster, $mode, <<<'PHP'
            $h = fopen($file, 'r+');
            flock($h, LOCK_EX);
            if (pcntl_fork() === 0) {
                $mine = fopen($file, 'r+');
                say(flock($mine, LOCK_EX | LOCK_NB, $wouldBlock));
                say($wouldBlock);
                say(flock($mine, LOCK_EX));
                fwrite($mine, 'child');
                exit(0);
            }
            hear();
            fwrite($h, 'parent');
            flock($h, LOCK_UN);
            pcntl_wait($status);
            say($status);
            say(flock($h, LOCK_EX | LOCK_NB));
            rewind($h);
            say(fgets($h));
            PHP);
        $process->expect('false');
        $process->expect('1');
        $cluster->awaitWaiters($this->name, 1);
        $process->tell('unlock');
        $process->expect('true');
        $process->expect('0');
        $process->expect('true');
        $process->expect('childtt');
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame('', $process->errors(), 'There is nothing to warn of');
    }

    /** @dataProvider modes */
    public function testAChildLocksWithAConnectionOfItsOwn(string $mode): void
    {
        [$cluster, $other] = $this->cluster($mode);
        $process = $this->process($cluster, $mode, <<<'PHP'
            $h = fopen("$file.parent", 'w');
            flock($h, LOCK_EX);
            if (pcntl_fork() === 0) {
                $mine = fopen($file, 'r+');
                say(flock($mine, LOCK_EX));
                hear();
                exit(0);
            }
            pcntl_wait($status);
            say(flock($h, LOCK_UN));
            PHP);
        $process->expect('true');
        self::assertWouldBlock($other, LOCK_EX, 'The child has it');
        self::assertNotSame($process->pid(), $cluster->info($this->name)['holders'][0]['pid'], 'It is the child\'s');
        $process->tell('end');
        $process->expect('true');
        self::assertSame(0, $process->wait(), $process->transcript());

        self::assertGets($other, LOCK_EX, 'The child has ended');
    }

    /** @return array{Cluster, Handle} and another process that has the file open */
    private function cluster(string $mode): array
    {
        $cluster = Cluster::redis();
        $settings = ['cluster_lock.intercept' => $this->dir, 'cluster_lock.flock_mode' => $mode];

        return [$cluster, Handle::open($cluster->actor($settings), $this->file, 'r+', 'flock')];
    }

    private function process(Cluster $cluster, string $mode, string $code): PhpProcess
    {
        return $cluster->process(
            '$file = ' . var_export($this->file, true) . ';' . $code,
            ['cluster_lock.intercept' => $this->dir, 'cluster_lock.flock_mode' => $mode]
        );
    }
}
