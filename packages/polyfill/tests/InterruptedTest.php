<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * The user's code runs in the middle of a command (a signal's handler, the garbage collector's destructors): it never
 * meets the command that is under way, nor does that meet what it leaves behind.
 */
final class InterruptedTest extends TestCase
{
    private const ASYNC = 'pcntl_async_signals(true);';

    /** @return array<string, array{string}> */
    public static function clients(): array
    {
        return array_map(static fn (string $client): array => [$client], Sides::clients());
    }

    /** @dataProvider clients */
    public function testAHandlersCommandAndTheMainProgramsAreTwo(string $client): void
    {
        [$server, $cluster] = self::held();
        $process = $this->interrupted($server, $cluster, $client, <<<'PHP'
            pcntl_signal(SIGUSR1, static function () {
                say(cluster_lock('other', 0));
                say(cluster_lock_fence('other') === (cluster_lock_info('other')['fence'] ?? null));
                say(cluster_unlock('other'));
            });
            PHP, <<<'PHP'
            say(cluster_lock('job', 0));
            say(cluster_lock_fence('job') === null);
            say(cluster_lock('third', 0) && cluster_unlock('third'));
            PHP);

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("ready\ntrue\ntrue\ntrue\nfalse\ntrue\ntrue\n", $process->output(), $process->transcript());
        self::assertSame('', $process->errors(), 'Nothing is amiss');
    }

    public function testASignalDuringTheFirstCallMeetsNothingHalfLoaded(): void
    {
        // Each process loads once, and signals come all the time while it does.
        $cluster = Cluster::local();
        for ($i = 0; $i < 10; $i++) {
            $process = Sides::process('phpredis', self::ASYNC . <<<'PHP'
                $handled = 0;
                pcntl_signal(SIGUSR1, static function () use (&$handled) {
                    $handled++;
                    // The main program's call is the first.
                    count(debug_backtrace()) > 1 && cluster_lock_info('job');
                });
                $parent = getmypid();
                if (($child = pcntl_fork()) === 0) {
                    pcntl_signal(SIGUSR1, SIG_DFL);
                    for ($sent = 0; $sent < 1000 && posix_kill($parent, SIGUSR1); $sent++) {
                        usleep(30);
                    }
                    posix_kill(getmypid(), SIGKILL);
                }
                while ($handled === 0);
                say(cluster_lock('job', 0));
                say(cluster_unlock('job'));
                pcntl_waitpid($child, $status);
                PHP, $cluster->settings());

            self::assertSame(0, $process->wait(), $process->transcript());
            self::assertSame("true\ntrue\n", $process->output(), $process->transcript());
            self::assertSame('', $process->errors(), 'Nothing is amiss');
        }
    }

    /** @dataProvider clients */
    public function testAWaitIsNotWhatAHandlerTakesForItsLock(string $client): void
    {
        [$server, $cluster] = self::held();
        $cluster->observer()->call('cluster_lock', 'busy', 0);
        $process = $this->interrupted($server, $cluster, $client, <<<'PHP'
            pcntl_signal(SIGUSR1, static fn () => say(cluster_lock('busy', 0)));
            PHP, 'say(cluster_lock("job", 0.2)); say(cluster_lock_status()["held"] === []);');

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("ready\nfalse\nfalse\ntrue\n", $process->output(), 'Both are held elsewhere');
    }

    /** @dataProvider clients */
    public function testAConnectionThatAnExceptionWentThroughIsNotUsedAgain(string $client): void
    {
        [$server, $cluster] = self::held();
        $process = $this->interrupted($server, $cluster, $client, <<<'PHP'
            pcntl_signal(SIGUSR1, static fn () => throw new DomainException('enough'));
            PHP, <<<'PHP'
            try {
                cluster_lock('job', 30);
            } catch (DomainException $e) {
                say($e->getMessage());
            }
            say(cluster_lock('third', 0));
            say(cluster_lock_fence('third') === cluster_lock_info('third')['fence']);
            say(cluster_unlock('third'));
            PHP);

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("ready\nenough\ntrue\ntrue\ntrue\n", $process->output(), $process->transcript());
        self::assertSame('', $process->errors(), 'Nothing is amiss');
    }

    /** @dataProvider clients */
    public function testAnExitInTheMiddleOfACommandGivesAllBack(string $client): void
    {
        [$server, $cluster] = self::held();
        $process = $this->interrupted(
            $server,
            $cluster,
            $client,
            'cluster_lock("mine", 0); pcntl_signal(SIGUSR1, static fn () => exit(7));',
            'cluster_lock("job", 30); say("not reached");'
        );

        self::assertSame(7, $process->wait(), $process->transcript());
        self::assertNull($cluster->info('mine'), 'What it held is free');
        self::assertSame([], $cluster->info('job')['waiters'], 'and it waits no more');
    }

    /**
     * What a handler does while our own warnings are silenced is its own: it is seen and thrown as ever.
     *
     * @dataProvider clients
     */
    public function testAHandlersWarningsAndExceptionsAreItsOwn(string $client): void
    {
        $class = $client === 'predis' ? 'Predis\ClientException' : 'RedisException';
        [$server, $cluster] = self::held();
        $process = $this->interrupted($server, $cluster, $client, <<<PHP
            set_error_handler(static function (int \$level, string \$message) { say(\$message); return true; });
            pcntl_signal(SIGUSR1, static function () {
                trigger_error('the handler warns');
                throw new $class('the handler throws');
            });
            PHP, <<<PHP
            try {
                say(cluster_lock('job', 0));
            } catch ($class \$e) {
                say(\$e->getMessage());
            }
            trigger_error('the program warns');
            PHP);

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame(
            "ready\nthe handler warns\nthe handler throws\nthe program warns\n",
            $process->output(),
            $process->transcript()
        );
    }

    /** @return array{RedisServer, Cluster} where somebody else holds "job" */
    private static function held(): array
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $cluster->observer()->call('cluster_lock', 'job', 0);

        return [$server, $cluster];
    }

    /** Runs $prepare, and sends it SIGUSR1 in the middle of the first command of $work: the server has it, and no reply. */
    private function interrupted(
        RedisServer $server,
        Cluster $cluster,
        string $client,
        string $prepare,
        string $work
    ): PhpProcess {
        // The connection is there, and the scripts are known.
        $code = self::ASYNC . 'cluster_lock("known", 0); cluster_unlock("known");' . "$prepare say('ready'); hear(); $work";
        $process = Sides::process($client, $code, $cluster->settings());
        $process->expect('ready');
        $server->client()->do('CLIENT', 'PAUSE', '60000', 'WRITE');
        $process->tell('go on');
        Until::true(
            static fn (): bool => preg_match('/ flags=b .* cmd=evalsha /', $server->client()->do('CLIENT', 'LIST')) === 1,
            'the server should have the command'
        );
        $process->signal(SIGUSR1);
        $server->client()->do('CLIENT', 'UNPAUSE');

        return $process;
    }
}
