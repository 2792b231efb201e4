<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\Outcome;
use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\SystemCalls;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * cluster_lock.confirmed_unlocks = 0: an unlock is sent and not waited for. What came of it is told later; everything else is
 * as ever.
 */
final class UnconfirmedUnlockTest extends TestCase
{
    private const SETTINGS = ['cluster_lock.confirmed_unlocks' => '0', 'cluster_lock.ttl' => '60'];

    /** The first unlock on a connection waits. */
    private const WARM = 'foreach ([1, 2] as $i) { cluster_lock("warm") && cluster_unlock("warm") || exit("not warm"); }';

    /** Lost, and given back. */
    private const LOSE = self::WARM . 'cluster_lock("job", 0) && cluster_lock_break("job") && cluster_unlock("job")'
        . ' || exit("told too early");';

    private Cluster $cluster;

    protected function setUp(): void
    {
        parent::setUp();
        $this->cluster = Cluster::redis(RedisServer::own());
    }

    public function testALossIsToldByTheNextCallThatHasNothingElseToTell(): void
    {
        $calls = [
            'return cluster_lock("next", 0);',
            '$_ = cluster_lock("next", 0); return cluster_unlock("next");',
            '$h = fopen($file, "c"); return cluster_flock($h, LOCK_EX);',
        ];
        foreach ($calls as $call) {
            $alice = $this->actor();
            self::assertNull($alice->run(self::LOSE), "Nothing is known yet: $call");
            $outcome = $alice->tryRun($call, file: TempDir::forTest() . '/file');
            self::assertTrue($outcome->value, "The next call does what it is to: $call");
            $this->assertTellsTheLoss($outcome);
            self::assertSame(1, $alice->call('cluster_lock_status')['counters']['lost'], 'It is counted');
            $alice->quit();
        }
    }

    public function testWhatIsKnownToBeLostIsToldAtOnce(): void
    {
        $alice = $this->actor(['cluster_lock.auto_renew' => '0']);
        $alice->run(self::WARM . '$_ = cluster_lock("job", 0, LOCK_EX, 0.1); usleep(150000);');

        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/lease ran out/');
        self::assertWarns($alice->try('cluster_unlock', 'job'), 'cluster_unlock', '"job"', '/not held/');
    }

    public function testWhatThrowsWaits(): void
    {
        $alice = $this->actor();
        $alice->run(self::WARM);
        $lose = 'cluster_synchronized("job", fn () => cluster_lock_break("job"));';
        self::assertStringContainsString('"job"', $alice->tryRun($lose)->thrown('ClusterLockLostException')->message);
        $lose = '$lock = new ClusterLock("job"); $lock->acquire(0); cluster_lock_break("job"); $lock->release();';
        self::assertStringContainsString('"job"', $alice->tryRun($lose)->thrown('ClusterLockLostException')->message);
    }

    public function testWhatOneRequestDoesIsDoneInItsOrder(): void
    {
        $alice = $this->actor();
        $alice->run(self::WARM . <<<'PHP'
            $h = fopen($file, 'c');
            for ($i = 0; $i < 200; $i++) {
                cluster_lock('job', 0) || exit('its own unlock is in the way');
                $i % 7 || cluster_lock_info('job')['holders'][0]['pid'] === getmypid() || exit('not held');
                cluster_unlock('job') || exit('not unlocked');
                $i % 5 || cluster_lock_info('job') === null || exit('still held');
                $i % 11 || cluster_lock_list('job') === [] || exit('still listed');
                cluster_flock($h, LOCK_EX | LOCK_NB) || exit('the file is locked');
                cluster_flock($h, LOCK_UN) || exit('the file is not unlocked');
                $i % 3 || cluster_synchronized('job', fn () => true, 0) || exit('not synchronized');
            }
            PHP, file: TempDir::forTest() . '/file');
        $this->cluster->assertFree('job', 'All of it was given back');
    }

    public function testOthersGetItAtOnceAndInTurn(): void
    {
        [$alice, $bob] = [$this->actor(), $this->actor()];
        $alice->run(self::WARM);
        $bob->run(self::WARM);
        $alice->call('cluster_lock', 'job', 0);
        for ($round = 0; $round < 10; $round++) {
            $bob->begin('cluster_lock', 'job', 30);
            $this->cluster->awaitWaiters('job', 1);
            self::assertTrue($alice->call('cluster_unlock', 'job'));
            self::assertTrue($bob->end());
            [$alice, $bob] = [$bob, $alice];
        }
        $alice->call('cluster_unlock', 'job');
        $this->cluster->assertFree('job', 'The last one has given it back');
    }

    public function testAForkedChildReadsNothingOfItsParents(): void
    {
        $alice = $this->actor();
        $alice->run(self::WARM . <<<'PHP'
            for ($i = 0; $i < 20; $i++) {
                cluster_lock('job', 0) && cluster_unlock('job') || exit('not locked');
                $child = pcntl_fork();
                if ($child === 0) {
                    $fine = cluster_lock('job', 5) && cluster_unlock('job') && cluster_lock('left', 5);
                    posix_kill(getmypid(), $fine ? SIGKILL : SIGTERM);
                }
                cluster_lock('mine', 0) && cluster_unlock('mine') || exit('the child has read it');
                pcntl_waitpid($child, $status);
                pcntl_wtermsig($status) === SIGKILL || exit('the child has failed');
                cluster_lock_break('left');
            }
            PHP);
        $this->cluster->assertFree('mine', 'The parent has given it back');
    }

    /** @return array<string, array{string, string}> */
    public static function handlers(): array
    {
        return [
            'none' => ['', '/Warning: .*Lock "job": was lost before it was released: it was broken/'],
            'says it' => ['say("told: $m"); return true;', '/^told: .*Lock "job": was lost/m'],
            'throws' => ['throw new Exception("thrown: $m");', '/thrown: .*Lock "job": was lost/'],
            'exits' => ['say("told: $m"); exit(3);', '/^told: .*Lock "job": was lost/m'],
            'locks' => [
                'say("told: $m"); $_ = cluster_lock("job", 0); cluster_lock_break("job"); return cluster_unlock("job");',
                '/^told: .*Lock "job": was lost/m',
            ],
        ];
    }

    /** @dataProvider handlers */
    public function testALossIsToldAtTheEndOfTheRequest(string $handler, string $told): void
    {
        $sessions = TempDir::forTest();
        $handle = $handler === '' ? '' : "set_error_handler(function (\$l, \$m) { $handler });";
        // An extension that ends after us, where there is one.
        $session = function_exists('session_start')
            ? "session_save_path('$sessions'); session_id('abc'); session_start(); \$_SESSION['x'] = 'kept';" : '';
        $code = $session . $handle . 'ini_set("display_errors", "1");' . self::WARM
            . '$_ = cluster_lock("left", 0);' . self::LOSE . 'say("all done");';
        $process = $this->cluster->process($code, self::SETTINGS + ['session.use_cookies' => '0', 'session.use_strict_mode' => '0']);
        $process->wait();
        $said = $process->output() . $process->errors();

        self::assertStringContainsString('all done', $said, $process->transcript());
        self::assertMatchesRegularExpression($told, $said);
        $session === '' || self::assertStringContainsString(
            'kept',
            (string) file_get_contents("$sessions/sess_abc"),
            'PHP has ended as ever'
        );
        $this->cluster->assertFree('job', 'It is given back');
        $this->cluster->assertFree('left', 'and what was held to the end');
    }

    public function testAWorkerGivesBackAllAndTellsTheRequestThatLostIt(): void
    {
        Fpm::orSkip();
        $fpm = new Fpm($this->cluster->settings(self::SETTINGS));
        $fpm->get(self::WARM);
        $clients = null;
        for ($request = 1; $request <= 10; $request++) {
            $body = $fpm->get(<<<'PHP'
                for ($i = 0; $i < 5; $i++) {
                    cluster_lock("many$i", 0) || exit('taken');
                }
                for ($i = 0; $i < 3; $i++) {
                    cluster_unlock("many$i") || exit('not unlocked');
                }
                $object = new ClusterLock('object');
                $object->acquire(0) || exit('taken');
                echo 'held';
                PHP);
            self::assertSame('held', $body, "Request $request");
            foreach (['many0', 'many1', 'many2', 'many3', 'many4', 'object'] as $name) {
                $this->cluster->assertFree($name, "after request $request");
            }
            $clients ??= $fpm->get('echo json_encode(cluster_lock_status()["pool"]["created"]);');
        }
        self::assertSame($clients, $fpm->get('echo json_encode(cluster_lock_status()["pool"]["created"]);'), 'No new ones');
        self::assertMatchesRegularExpression('/"job": was lost before/', $fpm->get(self::LOSE), 'Its own response tells it');
        self::assertSame('', $fpm->get(self::WARM), 'and no other');
    }

    public function testAStreamThatPhpClosesAtTheEndTellsTheLogAndNotTheNextRequest(): void
    {
        Fpm::orSkip();
        $log = TempDir::forTest() . '/php_errors';
        $file = TempDir::forTest() . '/file';
        $fpm = new Fpm($this->cluster->settings(self::SETTINGS + ['log_errors' => '1', 'error_log' => $log]));
        $lose = self::WARM . '$h = fopen($_GET["file"], "c"); cluster_flock($h, LOCK_EX) || exit("not locked");'
            . ' cluster_lock_break("file:" . $_GET["file"]) || exit("not broken");';
        self::assertSame('', $fpm->get($lose, ['file' => $file]), 'Its response is over by then');
        self::assertSame('', $fpm->get(self::WARM), 'Another request is told nothing');

        self::assertStringContainsString("Lock \"file:$file\": was lost before it was released", (string) @file_get_contents($log));
    }

    public function testHoweverManyAreHeldAtTheEndFewAnswersAreWaitedFor(): void
    {
        $alice = $this->actor();
        $alice->run(self::WARM);
        // What the background keeps in mind in case that no answer comes is a thousand.
        $calls = SystemCalls::of($alice, 'poll,recvfrom', static fn () => $alice->run(
            'for ($i = 0; $i < 2500; $i++) { cluster_lock("many $i", 0) || exit("taken"); }'
        ));

        self::assertLessThan(4000, substr_count($calls, '('), 'Each has an answer, and of the releases few are waited for alone');
        $this->cluster->assertFree('many 0', 'The first');
        $this->cluster->assertFree('many 2499', 'and the last');
    }

    public function testAServerThatStandsStillCostsARequestOneTimeOutAtItsEnd(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $process = $cluster->process(self::WARM . <<<'PHP'
            for ($i = 0; $i < 5; $i++) {
                cluster_lock("job$i", 0) || exit('taken');
            }
            say('held');
            hear();
            for ($i = 0; $i < 5; $i++) {
                cluster_unlock("job$i") || exit('not unlocked');
            }
            say('given back');
            PHP, self::SETTINGS + ['cluster_lock.command_timeout' => '0.5', 'display_errors' => '1']);
        $process->expect('held');
        $server->signal(SIGSTOP);
        $process->tell('go on');
        $process->expect('given back');
        $process->wait();
        $server->signal(SIGCONT);

        $said = $process->output() . $process->errors();
        for ($i = 0; $i < 5; $i++) {
            self::assertStringContainsString("Lock \"job$i\": not given back", $said, 'It is told');
            self::assertTrue($cluster->observer()->call('cluster_lock', "job$i", 30), 'What the server reads later frees it');
        }
    }

    private function actor(array $settings = []): Actor
    {
        return $this->cluster->actor($settings + self::SETTINGS);
    }

    private function assertTellsTheLoss(Outcome $outcome): void
    {
        self::assertNull($outcome->thrown);
        self::assertCount(1, $outcome->warnings, $outcome->messages());
        self::assertSame(Php::warning(), $outcome->warnings[0][0]);
        self::assertMatchesRegularExpression(
            '/Lock "job": was lost before it was released: it was broken/',
            $outcome->messages()
        );
    }
}
