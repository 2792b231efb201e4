<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Surface;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * A bad setting is refused when it is set, with a message that names it, the value and what is allowed.
 */
final class SettingsTest extends TestCase
{
    /** Changeable at run time: bad values, good values, what the message must speak of. */
    private const AT_RUN_TIME = [
        'timeout' => [['abc', '-1', 'nan', '1x', ''], ['0', '1.5', '300', 'INF'], '/second|0/'],
        'ttl' => [['abc', '0', '0.05', '-1', 'nan', ''], ['0.1', '10', '3600', '2.5'], '/0\.1/'],
        'auto_renew' => [['maybe', '2', '-1'], ['0', '1', 'on', 'off', 'yes', 'no', 'true', 'false'], '/on|off|0|1/i'],
        'max_hold' => [['abc', '-1', 'nan', '5 minutes'], ['0', '60', '0.5'], '/second|0/'],
        'slow_wait' => [['abc', '-1', 'nan'], ['0', '0.25', '5'], '/second|0/'],
        'report_call' => [['maybe', '2'], ['0', '1', 'on', 'off'], '/on|off|0|1/i'],
        'durable_writes' => [['maybe', '2'], ['0', '1', 'on', 'off'], '/on|off|0|1/i'],
        'confirmed_unlocks' => [['maybe', '2'], ['0', '1', 'on', 'off'], '/on|off|0|1/i'],
        'mount_point_writes' => [['in place', '1', ''], ['refuse', 'in_place', 'IN_PLACE'], '/refuse or in_place/'],
    ];

    /** php.ini only: bad values, good values. */
    private const AT_START = [
        'prefix' => [['a b', 'a{b', 'a}', 'a*'], ['app:', 'a-b_c.d/', '']],
        'connect_timeout' => [['abc', '-1', 'nan', '0'], ['0.5', '3']],
        'command_timeout' => [['abc', '-1', 'nan', '0'], ['0.5', '3']],
        'pool_size' => [['abc', '-1', '0', '1.5'], ['1', '64']],
        'retry_after' => [['abc', '-1', 'nan'], ['0', '0.5', '30']],
        'path_map' => [
            ['relative=/x', '/x', '/x=relative'],
            ['/mnt/a=/srv/www', '/mnt/a=/srv/www:/mnt/b=/srv/media', ''],
        ],
        'intercept' => [['relative/path', '@unknown'], ['/srv/www', '/srv/www:/srv/media', '@network', '']],
        'flock_mode' => [['none', 'GATES'], ['gate', 'replace']],
    ];

    /** @return iterable<string, array{string, string, string}> */
    public static function badAtRunTime(): iterable
    {
        foreach (self::AT_RUN_TIME as $name => [$bad, , $allowed]) {
            foreach ($bad as $value) {
                yield "$name = \"$value\"" => ["cluster_lock.$name", $value, $allowed];
            }
        }
    }

    /** @dataProvider badAtRunTime */
    public function testABadValueIsRefusedAtRunTime(string $name, string $value, string $allowed): void
    {
        $actor = Cluster::at('redis://127.0.0.1:1')->actor(['cluster_lock.slow_wait' => '1']);
        $before = $actor->call('ini_get', $name);
        $outcome = $actor->try('ini_set', $name, $value);

        self::assertFalse($outcome->value, "ini_set('$name', '$value') should be refused");
        self::assertSame($before, $actor->call('ini_get', $name), 'The old value stays');
        self::assertCount(1, $outcome->warnings, "One warning tells why, not: {$outcome->messages()}");
        self::assertSame(E_WARNING, $outcome->warnings[0][0], 'It is an E_WARNING');
        self::assertStringContainsString($name, $outcome->messages(), 'It names the setting');
        self::assertStringContainsString("\"$value\"", $outcome->messages(), 'It shows the value');
        self::assertMatchesRegularExpression($allowed, $outcome->messages(), 'It says what is allowed');
    }

    /** @return iterable<string, array{string, string}> */
    public static function goodAtRunTime(): iterable
    {
        foreach (self::AT_RUN_TIME as $name => [, $good]) {
            foreach ($good as $value) {
                yield "$name = \"$value\"" => ["cluster_lock.$name", $value];
            }
        }
    }

    /** @dataProvider goodAtRunTime */
    public function testAGoodValueIsTakenAtRunTime(string $name, string $value): void
    {
        $actor = Cluster::at('redis://127.0.0.1:1')->actor();

        self::assertNotFalse($actor->call('ini_set', $name, $value), "ini_set('$name', '$value') should work");
        self::assertSame($value, $actor->call('ini_get', $name), 'The value is taken');
    }

    /** @return iterable<string, array{string, string}> */
    public static function badAtStart(): iterable
    {
        foreach (self::AT_START as $name => [$bad]) {
            foreach ($bad as $value) {
                yield "$name = \"$value\"" => ["cluster_lock.$name", $value];
            }
        }
        foreach (self::badAtRunTime() as $what => [$name, $value]) {
            if ($value !== '') {
                yield $what => [$name, $value];
            }
        }
    }

    /** @dataProvider badAtStart */
    public function testABadValueIsRefusedAtStart(string $name, string $value): void
    {
        self::skipUnlessThere($name);
        $read = "say(json_encode(ini_get('$name')));";
        $default = PhpProcess::code($read);
        $process = PhpProcess::code($read, [$name => $value]);
        $process->wait();
        $default->wait();

        self::assertSame($default->output(), $process->output(), 'The default should stand in for a bad value');
        self::assertStringContainsString($name, $process->errors(), 'A message names the setting');
        self::assertStringContainsString("\"$value\"", $process->errors(), 'and shows the value');
        self::assertSame(0, $process->wait(), 'PHP runs on');
    }

    /** @return iterable<string, array{string, string}> */
    public static function goodAtStart(): iterable
    {
        foreach (self::AT_START as $name => [, $good]) {
            foreach ($good as $value) {
                yield "$name = \"$value\"" => ["cluster_lock.$name", $value];
            }
        }
    }

    /** @dataProvider goodAtStart */
    public function testAGoodValueIsTakenAtStart(string $name, string $value): void
    {
        self::skipUnlessThere($name);
        $process = PhpProcess::code("say(json_encode(ini_get('$name')));", [$name => $value]);
        $process->wait();

        self::assertSame('', $process->errors(), 'A good value is taken in silence');
        self::assertSame($value, json_decode(trim($process->output())), 'The value is taken');
    }

    public function testSystemSettingsCannotBeChangedAtRunTime(): void
    {
        $actor = Cluster::at('redis://127.0.0.1:1')->actor();
        $names = ['dsn', 'prefix', 'connect_timeout', 'command_timeout', 'pool_size', 'retry_after', 'node',
            'path_map', 'intercept', 'intercept_exclude', 'flock_mode'];
        foreach ($names as $name) {
            $before = $actor->call('ini_get', "cluster_lock.$name");
            self::assertFalse($actor->try('ini_set', "cluster_lock.$name", '1')->value, "$name is for php.ini only");
            self::assertSame($before, $actor->call('ini_get', "cluster_lock.$name"), "$name should be unchanged");
        }
    }

    /** @return array<string, array{string}> */
    public static function badDsns(): array
    {
        return [
            'no scheme' => ['127.0.0.1:6379'],
            'unknown scheme' => ['mysql://127.0.0.1'],
            'nothing' => [''],
            'no host' => ['redis://'],
            'bad port' => ['redis://127.0.0.1:99999'],
            'bad database' => ['redis://127.0.0.1/first'],
            'local, relative' => ['local://relative'],
            'unknown option' => ['redis://127.0.0.1?nonsense=1'],
            'unix without path' => ['redis+unix://'],
        ];
    }

    /** @dataProvider badDsns */
    public function testWithABadDsnTheExtensionLoadsAndEveryCallFailsWithTheReason(string $dsn): void
    {
        $process = PhpProcess::code('say(function_exists("cluster_lock"));', ['cluster_lock.dsn' => $dsn]);
        $process->wait();
        self::assertSame("true\n", $process->output(), 'The extension loads');

        $actor = Cluster::at($dsn)->actor();
        foreach (['cluster_lock', 'cluster_lock_break'] as $function) {
            $warning = $actor->try($function, 'job')->warning();
            self::assertStringContainsString('cluster_lock.dsn', $warning, "$function() names the setting");
        }
        foreach (['cluster_lock_info' => null, 'cluster_lock_list' => []] as $function => $value) {
            $outcome = $actor->try($function, 'job');
            self::assertSame($value, $outcome->value, "$function() knows nothing");
            self::assertStringContainsString('cluster_lock.dsn', $outcome->messages(), "$function() names the setting");
        }
        $thrown = $actor->tryRun('(new ClusterLock("job"))->acquire();')->thrown;
        self::assertNotNull($thrown, 'Objects throw');
        self::assertStringStartsWith('ClusterLock', $thrown->class, 'a ClusterLockException');
        self::assertStringContainsString('cluster_lock.dsn', $thrown->message, 'that names the setting');
    }

    public function testABadDsnDoesNotShowItsPassword(): void
    {
        $bad = ['redis://user:s3cret@', 'redis://:s3cret@host:99999', 'mysql://u:s3cret@h', 'redis://u:s3cret@h/first',
            'u:s3cret@h', 'redis://u:s3c@s3cret@h:x', 'redis://u:s3cret@h?x=1', 'redis:/u:s3cret@h'];
        foreach ($bad as $dsn) {
            $process = PhpProcess::code(<<<'PHP'
                $locked = cluster_lock('job', 0);
                phpinfo(INFO_MODULES);
                var_dump(ini_get('cluster_lock.dsn'), cluster_lock_status());
                (new ClusterLock('job'))->acquire();
                PHP, ['cluster_lock.dsn' => $dsn]);
            $process->wait();
            $said = $process->output() . $process->errors();
            self::assertStringContainsString('cluster_lock.dsn', $said, 'It fails with a message');
            self::assertStringNotContainsString('s3cret', $said, "The password is a secret, also in the bad DSN $dsn");
        }
    }

    public function testAnEnvironmentVariableCanBeUsed(): void
    {
        $dir = TempDir::forTest();
        file_put_contents("$dir/php.ini", 'cluster_lock.node = "${CLUSTER_LOCK_TEST_NODE}"' . "\n");
        $command = sprintf(
            'CLUSTER_LOCK_TEST_NODE=from-env PHP_INI_SCAN_DIR= %s -c %s -d extension=%s -r %s',
            PHP_BINARY,
            escapeshellarg("$dir/php.ini"),
            escapeshellarg(Php::library()),
            escapeshellarg('echo ini_get("cluster_lock.node");')
        );

        self::assertSame('from-env', exec($command), '${ENV} works as for every setting');
    }

    public function testValkeyIsAnotherNameForRedis(): void
    {
        $server = RedisServer::shared();
        $actor = Cluster::at('valkey://' . $server->address())->actor(['cluster_lock.prefix' => 'valkey:']);

        self::assertTrue($actor->call('cluster_lock', 'job', 0), 'valkey:// speaks to the same server');
        self::assertTrue($actor->call('cluster_unlock', 'job'), 'It works');
    }

    public function testKeysBeginWithThePrefix(): void
    {
        $server = RedisServer::own();
        $actor = Cluster::redis($server)->actor(['cluster_lock.prefix' => 'my-app:']);
        $actor->call('cluster_lock', 'job');
        $actor->call('cluster_lock', 'shared', 0, LOCK_SH);
        foreach ($server->client()->do('KEYS', '*') as $key) {
            self::assertStringStartsWith('my-app:', $key, 'Every key begins with cluster_lock.prefix');
        }
    }

    /** The settings of stream interception come in a later step. */
    private static function skipUnlessThere(string $name): void
    {
        if (preg_match('/\.(intercept|flock_mode)/', $name)) {
            $process = PhpProcess::code("say(ini_get('$name') === false);");
            if ($process->line() === 'true') {
                self::markTestSkipped("$name comes in a later step.");
            }
        }
    }

    public function testWhatAPoolIsRefusedIsLoggedWithItsFirstRequestAndShown(): void
    {
        Fpm::orSkip();
        $dsn = 'redis://worker:s3cret-pa55@127.0.0.1:1/99999999999';
        $fpm = new Fpm(['log_errors' => 1, 'cluster_lock.ttl' => 5], 1, [
            'php_admin_value[cluster_lock.intercept]' => 'wp-content',
            'php_admin_value[cluster_lock.dsn]' => "\"$dsn\"",
            'php_value[cluster_lock.ttl]' => '10s',
            'php_value[cluster_lock.timeout]' => '5',
        ]);
        $ask = 'ini_set("cluster_lock.ttl", 7); phpinfo(INFO_MODULES);'
            . 'echo "#answer#", json_encode([cluster_lock_status()["refused"], ini_get("cluster_lock.ttl")]);';
        $logs = $said = [];
        foreach ([1, 2] as $ignored) {
            $request = $fpm->begin($ask);
            $said[] = $request->body();
            $logs[] = $request->errors();
        }

        foreach ([$logs[0], ...$said] as $text) {
            self::assertMatchesRegularExpression('/cluster_lock\.intercept: \S*wp-content/', $text, 'The setting and the value');
            self::assertStringContainsString('is neither an absolute path nor @network', $text, 'what is allowed');
            self::assertMatchesRegularExpression('/cluster_lock\.ttl: \S*10s/', $text, 'and the other one');
            self::assertStringNotContainsString('s3cret-pa55', $text, 'No password');
        }
        self::assertSame(3, substr_count($logs[0], 'cluster_lock.'), "Each once: $logs[0]");
        self::assertSame('', $logs[1], 'The second request repeats nothing');
        [$refused, $ttl] = json_decode(explode('#answer#', $said[1])[1], true);
        self::assertSame('7', $ttl, 'What is set by code applies');
        self::assertSame(
            ['cluster_lock.dsn', 'cluster_lock.intercept', 'cluster_lock.ttl'],
            self::sorted(array_column($refused, 'setting')),
            'and the pool is wrong all the same'
        );
        self::assertSame(['setting', 'value', 'message'], array_keys($refused[0]), 'The keys of the stub');
    }

    public function testAPoolThatIsRightMendsWhatPhpIniSays(): void
    {
        Fpm::orSkip();
        $settings = ['cluster_lock.flock_mode' => 'both', 'cluster_lock.ttl' => '10s'];
        $fpm = new Fpm($settings, 1, ['php_admin_value[cluster_lock.flock_mode]' => 'gate']);

        self::assertSame(
            '["cluster_lock.ttl"]',
            $fpm->get('echo json_encode(array_column(cluster_lock_status()["refused"], "setting"));')
        );
    }

    public function testWhatIsRefusedAtTheStartIsInTheStatus(): void
    {
        $process = PhpProcess::code(
            'ini_set("cluster_lock.timeout", "x"); say(json_encode(array_column(cluster_lock_status()["refused"], "value")));',
            ['cluster_lock.pool_size' => '0', 'display_startup_errors' => 0]
        );

        self::assertSame(0, $process->wait());
        self::assertStringContainsString('["0"]', $process->output(), 'Code is told, and has nothing to mend elsewhere');
    }

    /**
     * @param list<string> $list
     *
     * @return list<string>
     */
    private static function sorted(array $list): array
    {
        sort($list);

        return $list;
    }
}
