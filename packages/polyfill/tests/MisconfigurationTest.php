<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * What cannot work is told, and never replaced by locks of this host alone; no message has a secret.
 */
final class MisconfigurationTest extends TestCase
{
    private const SECRET = 'hunter2-s3cret';

    /** @return array<string, array{string, string}> DSN, what is told */
    public static function unusable(): array
    {
        return [
            'sentinels' => ['redis+sentinel://a,b,c/m', '/redis\+sentinel:\/\/ needs the extension cluster_lock/'],
            'a cluster' => ['redis+cluster://a,b', '/redis\+cluster:\/\/ needs the extension cluster_lock/'],
            'a quorum' => ['redis+quorum://a,b,c', '/redis\+quorum:\/\/ needs the extension cluster_lock/'],
            'several hosts' => ['redis://a,b', '/several hosts/'],
            'nothing' => ['', '/no scheme/'],
            'a user without a password' => ['redis://u@h', '/no password/'],
            'a password twice' => ['redis://:p@h?password_file=/f', '/one of them/'],
            'a password file anywhere' => ['redis://h?password_file=f', '/absolute path/'],
            'too short a grace period' => ['redis://h?grace=4', '/5 to 3600/'],
            'a grace period on this host' => ['local:?grace=5', '/local:/'],
            'a name to prove without TLS' => ['redis://h?tls_name=a', '/rediss:/'],
            'a name to prove that is none' => ['rediss://h?tls_name=', "/a host's name/"],
            'a server that is down' => ['redis://127.0.0.1:1', '/redis:\/\/127\.0\.0\.1:1: Connection refused/'],
        ];
    }

    /** @dataProvider unusable */
    public function testItFailsAndLocksNothing(string $dsn, string $told): void
    {
        foreach (Sides::clients() as $client) {
            $name = 'job ' . bin2hex(random_bytes(8));
            $process = Sides::process($client, sprintf(<<<'PHP'
                set_error_handler(static function (int $level, string $message): bool {
                    say("$level $message");
                    return true;
                });
                say(cluster_lock('%1$s', 0));
                try {
                    cluster_synchronized('%1$s', static fn () => say('called'));
                } catch (ClusterLockException $e) {
                    say($e->getMessage());
                }
                PHP, $name), ['cluster_lock.dsn' => $dsn]);
            self::assertSame(0, $process->wait(), $process->transcript());
            [$warning, $returned, $thrown] = explode("\n", $process->output());

            self::assertMatchesRegularExpression('/^512 cluster_lock\(\): Lock "job \w+": .*/', $warning, 'A warning');
            self::assertMatchesRegularExpression($told, $warning, 'says why');
            self::assertSame('false', $returned, 'and nothing is held');
            self::assertMatchesRegularExpression($told, $thrown, 'An exception says the same');
            $local = sprintf('/tmp/cluster_lock-%d/%s.lock', posix_geteuid(), sha1("cluster_lock:\0$name"));
            self::assertFileDoesNotExist($local, 'No lock of this host stands in for it');
        }
    }

    public function testWithoutAClientLibraryItSaysWhatToInstall(): void
    {
        $process = PhpProcess::program([PHP_BINARY, '-n', '-d', 'cluster_lock.dsn=redis://127.0.0.1', '-r', sprintf(
            'require %s; var_dump(cluster_lock("job", 0));',
            var_export(dirname(__DIR__) . '/bootstrap.php', true)
        )]);
        $process->wait();

        self::assertStringContainsString('neither the extension redis (phpredis) nor Predis', $process->output());
        self::assertStringContainsString('bool(false)', $process->output(), 'and nothing is held');
    }

    public function testTheDirectoryOfLocalLocksMustBeOursAlone(): void
    {
        $directory = TempDir::forTest();
        chmod($directory, 0777);
        $process = Sides::process('phpredis', '$locked = cluster_lock("job", 0);', ['cluster_lock.dsn' => "local://$directory"]);
        $process->wait();

        self::assertStringContainsString('nobody else can write to', $process->errors());
        self::assertSame([], array_diff(scandir($directory), ['.', '..']), 'Nothing is written there');
    }

    /** @return array<string, array{string}> */
    public static function secrets(): array
    {
        $secret = self::SECRET;

        return [
            'wrong' => ["redis://:$secret@%s"],
            'of an unknown user' => ["redis://user:$secret@%s"],
            'down' => ["redis://user:$secret@127.0.0.1:1"],
            'bad host' => ["redis://user:$secret@"],
            'bad port' => ["redis://user:$secret@h:99999"],
            'bad database' => ["redis://user:$secret@h/first"],
            'bad scheme' => ["mysql://user:$secret@h"],
            'no scheme' => ["user:$secret@h"],
            'with a slash' => ["redis://user:a/$secret@h"],
            'sentinels' => ["redis+sentinel://user:$secret@h/m"],
        ];
    }

    /** @dataProvider secrets */
    public function testNoMessageTraceOrDumpHasThePassword(string $dsn): void
    {
        $server = RedisServer::own([], 'another');
        $dsn = sprintf($dsn, $server->address());
        foreach (Sides::clients() as $client) {
            $process = Sides::process($client, sprintf(<<<'PHP'
                // Whatever a curious error handler can find.
                set_error_handler(static function (int $level, string $message): bool {
                    echo $message, "\n";
                    debug_print_backtrace();
                    return true;
                });
                try {
                    ClusterLock\Polyfill\configure(['dsn' => base64_decode('%s')]);
                } catch (ValueError $e) {
                    echo $e, "\n";
                    var_dump($e->getPrevious());
                }
                $locked = cluster_lock('job', 0);
                var_dump(cluster_lock_status(), cluster_lock_info('job'), cluster_lock_list());
                $lock = new ClusterLock('job');
                try {
                    $lock->acquire(0);
                } catch (ClusterLockException $e) {
                    echo $e, "\n";
                    var_dump($e, $lock);
                }
                (new ClusterLock('job'))->acquire(0);
                PHP, base64_encode($dsn)), ['cluster_lock.dsn' => $dsn]);
            $process->wait();
            $said = $process->output() . $process->errors();

            self::assertStringContainsString('Lock "job"', $said, 'It fails with a message');
            self::assertStringNotContainsString(self::SECRET, $said, 'in which the password is not');
        }
    }

    /** @return array<string, array{string}> */
    public static function someSecrets(): array
    {
        return array_intersect_key(self::secrets(), ['wrong' => 0, 'bad host' => 0, 'bad port' => 0]);
    }

    /**
     * Not what an attribute hides, which PHP 8.1 does not know: what is among the arguments at all.
     *
     * @dataProvider someSecrets
     */
    public function testNoFrameHasThePasswordAmongItsArguments(string $dsn): void
    {
        $server = RedisServer::own([], 'another');
        $dsn = sprintf($dsn, $server->address());
        foreach (Sides::clients() as $client) {
            $process = Sides::process($client, sprintf(<<<'PHP'
                /** How to come to a string in which the password is. */
                function way(mixed $value, array $seen = []): ?string
                {
                    if ($value instanceof SensitiveParameterValue) {
                        return way($value->getValue(), $seen);
                    }
                    if (is_string($value)) {
                        return str_contains($value, base64_decode('%1$s')) ? 'here' : null;
                    }
                    if ((!is_array($value) && !is_object($value)) || in_array($value, $seen, true)) {
                        return null;
                    }
                    foreach ($value instanceof Closure ? (new ReflectionFunction($value))->getStaticVariables() : (array) $value as $key => $inner) {
                        $way = way($inner, is_object($value) ? [...$seen, $value] : $seen);
                        if ($way !== null) {
                            return str_replace(chr(0), '', get_debug_type($value) . "[$key] $way");
                        }
                    }
                    return null;
                }
                function report(array $trace): void
                {
                    foreach ($trace as $frame) {
                        $way = way($frame['args'] ?? []);
                        $way === null || say("{$frame['function']}(): $way");
                    }
                    say('looked');
                }
                set_error_handler(static function (): bool {
                    report(debug_backtrace());
                    return true;
                });
                // From a base64, so that the call of configure() itself is the only one that can have it.
                try {
                    ClusterLock\Polyfill\configure(['ttl' => 5, 'dsn' => base64_decode('%2$s'), 'node' => chr(1)]);
                } catch (ValueError $e) {
                    report($e->getTrace());
                }
                cluster_lock('job', 0);
                try {
                    (new ClusterLock('job'))->acquire(0);
                } catch (ClusterLockException $e) {
                    report($e->getTrace());
                }
                PHP, base64_encode(self::SECRET), base64_encode($dsn)), [
                    'cluster_lock.dsn' => $dsn,
                    'cluster_lock.slow_wait' => 'bad',
                    'zend.exception_ignore_args' => '0',
                ]);
            self::assertSame(0, $process->wait(), $process->transcript());

            self::assertSame(str_repeat("looked\n", 4), $process->output(), 'Nobody is handed it');
        }
    }

    public function testTheTokenOfALockIsNowhereToBeSeen(): void
    {
        $server = RedisServer::own();
        $actor = Sides::polyfill(Cluster::redis($server), 'phpredis');
        $actor->call('cluster_lock', 'job');
        preg_match('/^X. (\S{32}) /', $server->client()->do('GET', $server->client()->do('KEYS', '*')[0]), $match);
        self::assertArrayHasKey(1, $match, 'The server has it');
        $shown = $actor->run(<<<'PHP'
            $lock = new ClusterLock('other');
            $lock->acquire();
            ob_start();
            var_dump(cluster_lock_info('job'), cluster_lock_list(), cluster_lock_status(), $lock);
            return ob_get_clean();
            PHP);

        self::assertStringNotContainsString($match[1], $shown);
    }
}
