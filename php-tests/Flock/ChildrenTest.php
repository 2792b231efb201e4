<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\Plain;

/**
 * Programs that are started while a file is locked, and go on running: they have no part in the lock.
 */
final class ChildrenTest extends FlockTestCase
{
    /** Starts a program in the background, which says its pid and waits for the end of the test. */
    private const START = 'exec("sh -c \'echo \$\$ >$file.pid; exec sleep 600\' >/dev/null 2>&1 &");'
        . ' while (!@file_get_contents("$file.pid")) { usleep(2000); }';

    protected function tearDown(): void
    {
        $pid = (int) @file_get_contents("{$this->file}.pid");
        if ($pid > 1) {
            posix_kill($pid, SIGKILL);
        }
        parent::tearDown();
    }

    /** @return iterable<string, array{string, string, string}> mode, function, how the lock ends */
    public static function ends(): iterable
    {
        $ends = [
            'fclose()' => 'fclose($h);',
            'no variable' => '$h = null;',
            'LOCK_UN' => 'flock($h, LOCK_UN);',
            'exit' => 'exit;',
            'fatal error' => 'ini_set("display_errors", "0"); trigger_error("the end", E_USER_ERROR);',
        ];
        foreach (array_keys(self::modes()) as $mode) {
            foreach (['flock', 'cluster_flock'] as $function) {
                foreach ($ends as $name => $end) {
                    yield "$name, $function(), $mode" => [$mode, $function, $end];
                }
            }
        }
    }

    /** @dataProvider ends */
    public function testTheLockEndsWithItsOwner(string $mode, string $function, string $end): void
    {
        $cluster = Cluster::redis();
        $process = $cluster->process(
            '$file = ' . var_export($this->file, true) . '; $h = fopen($file, "c+");'
            . "say($function(\$h, LOCK_EX));" . self::START . "say('started'); hear(); $end say('over'); hear();",
            $this->settings($mode)
        );
        $process->expect('true');
        $process->expect('started');
        $next = Handle::open($cluster->actor($this->settings($mode)), $this->file, 'c+', 'flock');
        self::assertWouldBlock($next, LOCK_EX, 'It is locked');
        $process->tell('end');
        if (str_contains($end, '$h')) {
            $process->expect('over');
        } else {
            $process->wait();
        }

        self::assertGets($next, LOCK_EX, 'The program that still runs has no part in it');
        $next->unlock();
        self::assertFreeFor(Handle::open(Plain::actor(), $this->file, 'c+', 'flock'), 'The kernel says the same');
    }

    /** @return iterable<string, array{string, string}> */
    public static function ways(): iterable
    {
        foreach (array_keys(self::modes()) as $mode) {
            foreach (['flock', 'cluster_flock'] as $function) {
                yield "$function(), $mode" => [$mode, $function];
            }
        }
    }

    /** @dataProvider ways */
    public function testTheLockOfAKilledProcessEndsWithItsLease(string $mode, string $function): void
    {
        $cluster = Cluster::redis();
        $process = $cluster->process(
            '$file = ' . var_export($this->file, true) . '; $h = fopen($file, "c+");'
            . "say($function(\$h, LOCK_EX));" . self::START . "say('started'); hear();",
            $this->settings($mode) + ['cluster_lock.ttl' => '1']
        );
        $process->expect('true');
        $process->expect('started');
        $process->kill();
        $next = Handle::open($cluster->actor($this->settings($mode)), $this->file, 'c+', 'flock');
        $next->begin(LOCK_EX);

        self::assertTrue($next->actor->end(), 'The program that still runs has no part in it');
    }

    /** @dataProvider ways */
    public function testAStreamIsInheritedAgainWhenItIsUnlocked(string $mode, string $function): void
    {
        $process = Cluster::redis()->process(
            '$file = ' . var_export($this->file, true) . '; $h = fopen($file, "c+");'
            . '$inherits = static fn () => trim(shell_exec("ls -l /proc/self/fd | grep -c " . escapeshellarg("$file\$")));'
            . "say(\$inherits()); $function(\$h, LOCK_EX); say(\$inherits()); $function(\$h, LOCK_UN); say(\$inherits());",
            $this->settings($mode)
        );
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("1\n" . ($mode === 'gate' ? '0' : '1') . "\n1\n", $process->output());
    }

    /** @return array<string, string> */
    private function settings(string $mode): array
    {
        return ['cluster_lock.intercept' => $this->dir, 'cluster_lock.flock_mode' => $mode];
    }
}
