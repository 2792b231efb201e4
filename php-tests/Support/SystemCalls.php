<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\Assert;

/**
 * What an actor asks of the kernel, as strace tells it.
 */
final class SystemCalls
{
    /**
     * The calls of these kinds from now to the actor's end, one a line. The actor does the work and quits.
     *
     * @param callable(Actor): mixed $work
     */
    public static function of(Actor $actor, string $kinds, callable $work): string
    {
        if (!is_executable('/usr/bin/strace')) {
            Assert::markTestSkipped('There is no strace here.');
        }
        $log = TempDir::forTest() . '/strace';
        $strace = proc_open(
            ['strace', '-f', '-o', $log, '-e', "trace=$kinds", '-p', (string) $actor->pid()],
            [['file', '/dev/null', 'r'], ['file', '/dev/null', 'w'], ['file', "$log.err", 'w']],
            $pipes
        );
        Until::true(
            static fn () => str_contains((string) @file_get_contents("$log.err"), 'attached')
                || !proc_get_status($strace)['running'],
            'strace should attach'
        );
        if (!proc_get_status($strace)['running']) {
            Assert::markTestSkipped('strace may not attach here.');
        }
        $work($actor);
        $actor->quit();
        proc_close($strace);

        return (string) file_get_contents($log);
    }
}
