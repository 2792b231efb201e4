<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * A server that is not there, does not answer, or talks nonsense: fail soon, say why, recover.
 */
final class UnavailableTest extends TestCase
{
    private const IMPATIENT = [
        'cluster_lock.connect_timeout' => '0.5',
        'cluster_lock.command_timeout' => '0.5',
        'cluster_lock.retry_after' => '0.5',
    ];

    public function testAServerThatIsDownIsAWarningThatNamesLockServerAndCause(): void
    {
        $server = RedisServer::down();
        $outcome = Cluster::redis($server)->actor()->try('cluster_lock', 'job', Until::TOO_LONG);

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/',
            '/refused/i'
        );
    }

    public function testTheSecondCallFailsAtOnceAndTheServerIsFoundAgain(): void
    {
        $server = RedisServer::down();
        $actor = Cluster::redis($server)->actor(self::IMPATIENT);
        $actor->try('cluster_lock', 'job')->warning();
        for ($i = 0; $i < 5; $i++) {
            $outcome = $actor->try('cluster_lock', 'job');
            self::assertWarns($outcome, 'cluster_lock', '"job"', '/' . preg_quote($server->address(), '/') . '/');
        }
        $server->start();
        Until::true(static fn () => $actor->try('cluster_lock', 'job', 0)->value, 'the server should be found again');

        self::assertTrue($actor->call('cluster_unlock', 'job'), 'All is well again');
    }

    public function testTheBreakerDoesNotKnockWhileItIsOpen(): void
    {
        $server = RedisServer::down();
        $actor = Cluster::redis($server)->actor(['cluster_lock.retry_after' => '60']);
        $actor->try('cluster_lock', 'job')->warning();
        $server->start();
        $actor->try('cluster_lock', 'job')->warning();

        self::assertSame([], $server->client()->clients(), 'Before retry_after is over nothing is tried');
    }

    public function testObjectsThrow(): void
    {
        $server = RedisServer::down();
        $actor = Cluster::redis($server)->actor();
        foreach (['(new ClusterLock("job"))->acquire();', 'cluster_synchronized("job", "pi");'] as $code) {
            $outcome = $actor->tryRun($code);
            $message = $outcome->thrown('ClusterLockConnectionException')->message;
            self::assertStringContainsString('"job"', $message, 'The message names the lock');
            self::assertStringContainsString($server->address(), $message, 'The message names the server');
            self::assertSame([], $outcome->warnings, 'An exception comes without a warning');
        }
    }

    public function testAConnectionThatIsNeverMadeFailsAfterTheConnectTimeOut(): void
    {
        // A full backlog: the kernel drops further attempts, as a firewall does.
        $context = stream_context_create(['socket' => ['backlog' => 0]]);
        $listener = stream_socket_server(
            'tcp://127.0.0.1:0',
            $code,
            $message,
            STREAM_SERVER_BIND | STREAM_SERVER_LISTEN,
            $context
        );
        $address = stream_socket_get_name($listener, false);
        $fillers = [];
        for ($i = 0; $i < 4; $i++) {
            $fillers[] = stream_socket_client(
                "tcp://$address",
                $code,
                $message,
                0.1,
                STREAM_CLIENT_CONNECT | STREAM_CLIENT_ASYNC_CONNECT
            );
        }
        $outcome = Cluster::at("redis://$address")->actor(self::IMPATIENT)->try('cluster_lock', 'job');

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($address, '/') . '/',
            '/timed? ?-?out|within/i'
        );
        self::assertTook(0.4, $outcome->seconds, 'A connect time-out of 0.5 s');
    }

    public function testAServerThatNeverAnswersFailsAfterTheCommandTimeOut(): void
    {
        $listener = stream_socket_server('tcp://127.0.0.1:0');
        $address = stream_socket_get_name($listener, false);
        $outcome = Cluster::at("redis://$address")->actor(self::IMPATIENT)->try('cluster_lock', 'job');

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($address, '/') . '/',
            '/timed? ?-?out|within|no answer/i'
        );
        self::assertTook(0.4, $outcome->seconds, 'Connect and command time-outs of 0.5 s');
    }

    public function testAServerThatStallsIsGivenUpAndFoundAgain(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $actor = $cluster->actor(self::IMPATIENT);
        $actor->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        $server->signal(SIGSTOP);
        $outcome = $actor->try('cluster_lock', 'other', 0, LOCK_EX, 1);
        self::assertWarns($outcome, 'cluster_lock', '"other"', '/' . preg_quote($server->address(), '/') . '/');
        $server->signal(SIGCONT);

        Until::true(static fn () => $actor->try('cluster_lock', 'third', 0)->value, 'the server should be found again');
        self::assertTrue($actor->call('cluster_unlock', 'job'), 'The lock was held throughout');
        // The stalled server may have let it in when it woke up, but nobody keeps that alive.
        self::assertTrue(
            $cluster->actor()->call('cluster_lock', 'other', 3),
            'A lock that nobody was told of may not outlive its lease'
        );
    }

    public function testAFailedUnlockSaysSoAndTheLeaseRunsOut(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $actor = $cluster->actor(self::IMPATIENT + ['cluster_lock.ttl' => '1']);
        $actor->call('cluster_lock', 'job');
        $server->signal(SIGSTOP);
        self::assertWarns(
            $actor->try('cluster_unlock', 'job'),
            'cluster_unlock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/'
        );
        $server->signal(SIGCONT);

        self::assertTrue($cluster->actor()->call('cluster_lock', 'job', 20), 'The lease runs out');
    }

    public function testARequestEndsInTimeThoughTheServerIsGone(): void
    {
        $server = RedisServer::own();
        $process = Cluster::redis($server)->process(<<<'PHP'
            for ($i = 0; $i < 40; $i++) {
                cluster_lock("job $i", 0) || exit('not locked');
            }
            say('held');
            hear();
            PHP, ['cluster_lock.connect_timeout' => 4, 'cluster_lock.command_timeout' => 4]);
        $process->expect('held');
        $server->signal(SIGSTOP);
        $process->tell('end');

        // Forty locks to release must not take forty time-outs: this waits for fifteen.
        self::assertSame(0, $process->wait(), $process->transcript());
    }

    /** @return array<string, array{string}> what the server says, as PHP code */
    public static function nonsense(): array
    {
        return [
            'another protocol' => ['"HTTP/1.1 400 Bad Request\r\n\r\n"'],
            'half a reply' => ['"*2\r\n$5\r\nhe"'],
            'a huge length' => ['"$99999999999999\r\nx"'],
            'a huge array' => ['"*2147483647\r\n"'],
            'a negative length' => ['"$-7\r\n"'],
            'nothing' => ['""'],
            'wrong types' => ['"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n"'],
            'binary' => ['str_repeat("\xff\0", 5000)'],
            'no line end' => ['str_repeat("+", 100000)'],
            'deep nesting' => ['str_repeat("*1\r\n", 100000)'],
        ];
    }

    /** @dataProvider nonsense */
    public function testNonsenseIsAWarning(string $reply): void
    {
        $server = PhpProcess::code(<<<PHP
            \$listener = stream_socket_server('tcp://127.0.0.1:0');
            say(stream_socket_get_name(\$listener, false));
            while (true) {
                if (\$client = @stream_socket_accept(\$listener, 60)) {
                    fread(\$client, 8192);
                    fwrite(\$client, $reply);
                    fclose(\$client);
                }
            }
            PHP);
        $address = $server->line();
        $outcome = Cluster::at("redis://$address")->actor(self::IMPATIENT + ['memory_limit' => '64M'])->try(
            'cluster_lock',
            'job',
            0
        );

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/' . preg_quote($address, '/') . '/');
    }
}
