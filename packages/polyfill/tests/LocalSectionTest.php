<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * The part of `local:` that one process at a time is in: nothing of the caller's runs inside, whoever dies in it leaves
 * it, and nobody waits for it without an end.
 */
final class LocalSectionTest extends TestCase
{
    /** Longer than any test: what is not given back is found to be held. */
    private const TTL = ['cluster_lock.ttl' => '600'];

    public function testTheGarbageCollectorMayDestroyLocksAtAnyTime(): void
    {
        $cluster = Cluster::local();
        $process = self::process($cluster, <<<'PHP'
            $held = 0;
            for ($turn = 0; $turn < 60; $turn++) {
                $garbage = new stdClass;
                $garbage->itself = $garbage;
                $garbage->lock = new ClusterLock("garbage $turn");
                $held += (int) $garbage->lock->acquire(0);
                // It is collected when there are 10,000 of it: a little later each time.
                while (gc_status()['roots'] < 9999 - 2 * $turn) {
                    $garbage = new stdClass;
                    $garbage->itself = $garbage;
                }
                $held += (int) (cluster_lock('job', 0) && cluster_unlock('job'));
                gc_collect_cycles();
            }
            say($held);
            say(gc_status()['runs'] > 0);
            say(gc_enabled());
            PHP);

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("120\ntrue\ntrue\n", $process->output(), 'All were free, and garbage was collected');
        self::assertSame('', $process->errors(), 'in silence');
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'None is left');
    }

    public function testASignalsHandlerMayAskAtAnyTime(): void
    {
        $cluster = Cluster::local();
        $process = self::process($cluster, <<<'PHP'
            pcntl_async_signals(true);
            $ran = $seen = 0;
            pcntl_signal(SIGUSR1, static function () use (&$ran, &$seen): void {
                $ran++;
                $seen += (int) (cluster_lock_info('always') !== null);
                cluster_lock('of the handler', 0) && cluster_unlock('of the handler');
            });
            cluster_lock('always', 0);
            $me = getmypid();
            $sender = pcntl_fork();
            if ($sender === 0) {
                while (posix_getppid() === $me && posix_kill($me, SIGUSR1)) {
                    usleep(300);
                }
                posix_kill(getmypid(), SIGKILL);
            }
            $held = 0;
            while ($ran < 300) {
                $held += cluster_lock('job', 0) && cluster_unlock('job') ? 0 : 1;
            }
            posix_kill($sender, SIGKILL);
            pcntl_waitpid($sender, $status);
            say($held);
            say($ran === $seen);
            say(pcntl_async_signals());
            PHP);

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("0\ntrue\ntrue\n", $process->output(), 'Neither disturbs the other');
        self::assertSame('', $process->errors(), 'in silence');
    }

    public function testASignalThatComesInsideIsHandledAfterIt(): void
    {
        $cluster = Cluster::local();
        $actor = Sides::polyfill($cluster, 'phpredis', self::TTL);
        $actor->run(<<<'PHP'
            pcntl_async_signals(true);
            pcntl_signal(SIGUSR1, static function (): void {
                $GLOBALS['ran'] = true;
                flock($GLOBALS['lock'], LOCK_UN);
            });
            // It is the handler that ends the wait.
            $GLOBALS['lock'] = fopen("$dir/lock", 'c+');
            flock($GLOBALS['lock'], LOCK_EX);
            return true;
            PHP, dir: self::directory($cluster));
        $actor->begin('cluster_lock', 'job', 0);
        $actor->process()->signal(SIGUSR1);

        self::assertTrue($actor->end(), 'The handler has run while it waited to get in');
        self::assertTrue($actor->run('return $GLOBALS["ran"];'));
    }

    public function testWhoDiesInsideStillGivesBackWhatItHolds(): void
    {
        $cluster = Cluster::local();
        $observer = $cluster->observer();
        $observer->call('cluster_lock', 'large', 0);
        $large = self::records($cluster)[0];
        // More than the process has memory for: it dies of reading it.
        file_put_contents($large, str_repeat(' ', 20_000_000), FILE_APPEND);
        $process = self::process($cluster, <<<'PHP'
            ini_set('memory_limit', '8M');
            register_shutdown_function(static fn () => say(cluster_unlock('first')));
            cluster_lock('first', 0) && cluster_lock('second', 0) && say('held');
            cluster_lock_info('large');
            say('alive');
            PHP);

        self::assertSame(255, $process->wait(), $process->transcript());
        self::assertSame("held\ntrue\n", $process->output(), 'A shutdown function can lock and unlock');
        self::assertStringContainsString('Allowed memory size', $process->errors());
        $cluster->assertFree('first', 'It was given back by the script');
        $cluster->assertFree('second', 'It was given back by the end of the request');
    }

    /** @return array<string, array{bool}> */
    public static function sides(): array
    {
        return ['extension' => [false], 'polyfill' => [true]];
    }

    /** @dataProvider sides */
    public function testWhoStandsStillInsideIsNamedAndNotWaitedForWithoutEnd(bool $polyfill): void
    {
        $cluster = Cluster::local();
        $impatient = self::TTL + ['cluster_lock.command_timeout' => '0.2'];
        $actor = $polyfill
            ? Sides::polyfill($cluster, 'phpredis', $impatient)
            : Sides::extension($cluster, $impatient);
        $actor->call('cluster_lock', 'mine', 0);
        $lock = fopen(self::directory($cluster) . '/lock', 'c+');
        self::assertTrue(flock($lock, LOCK_EX));
        foreach ([['cluster_lock', 'job', 30], ['cluster_unlock', 'mine'], ['cluster_lock_info', 'job']] as $call) {
            $outcome = $actor->try(...$call);
            self::assertFalse((bool) $outcome->value, "$call[0] fails");
            self::assertMatchesRegularExpression(
                '~"(job|mine)": .*cannot lock /\S+/lock: for 0\.2 s .*pid ' . getmypid() . '\b~',
                $outcome->messages(),
                'and says who is in the way'
            );
        }
        flock($lock, LOCK_UN);

        self::assertTrue($actor->call('cluster_lock', 'job', 0), 'It goes on when that has gone on');
    }

    private static function process(Cluster $cluster, string $code): PhpProcess
    {
        return Sides::process('phpredis', $code, $cluster->settings(self::TTL));
    }

    private static function directory(Cluster $cluster): string
    {
        return substr((string) $cluster->settings()['cluster_lock.dsn'], strlen('local://'));
    }

    /** @return list<string> */
    private static function records(Cluster $cluster): array
    {
        return glob(self::directory($cluster) . '/*.lock');
    }
}
