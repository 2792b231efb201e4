<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * The settings of the extension, by configure(), constants, the environment or php.ini.
 */
final class SettingsTest extends TestCase
{
    private const BOOTSTRAP = __DIR__ . '/../bootstrap.php';
    private const CONFIGURE = 'ClusterLock\Polyfill\configure([$name => $value]);';

    /** Bad values, good values, what the message must speak of. */
    private const VALUES = [
        'timeout' => [['abc', '-1', 'nan', '1x', ''], ['0', 1.5, 300, INF], '/second|0/'],
        'ttl' => [['abc', 0, '0.05', -1, 'nan', ''], ['0.1', 10, '3600', 2.5], '/0\.1/'],
        'auto_renew' => [['maybe', '2', '-1'], ['0', 'on', false, true, 'no'], '/on|off|0|1/i'],
        'max_hold' => [['abc', '-1', 'nan', '5 minutes'], ['0', 60, '0.5'], '/second|0/'],
        'slow_wait' => [['abc', '-1', 'nan'], ['0', '0.25', 5], '/second|0/'],
        'report_call' => [['maybe', '2'], [false, 'on'], '/on|off|0|1/i'],
        'durable_writes' => [['maybe', '2'], [false, 'on'], '/on|off|0|1/i'],
        'confirmed_unlocks' => [['maybe', '2'], [false, 'on'], '/on|off|0|1/i'],
        'mount_point_writes' => [['in place', '1', ''], ['refuse', 'in_place'], '/in_place/'],
        'prefix' => [['a b', 'a{b', 'a}', 'a*'], ['app:', 'a-b_c.d/', ''], '/blank|ASCII/'],
        'connect_timeout' => [['abc', '-1', '0'], ['0.5', 3], '/second/'],
        'command_timeout' => [['abc', '-1', '0'], ['0.5', 3], '/second/'],
        'pool_size' => [['abc', '-1', '0', '1.5'], [1, '64'], '/whole number/'],
        'retry_after' => [['abc', '-1'], ['0', 30], '/second/'],
        'node' => [["a\nb"], ['web-1', ''], '/control/'],
        'path_map' => [['relative=/x', '/x'], ['/mnt/a=/srv/www:/mnt/b=/srv/media', ''], '/absolute/'],
        'flock_mode' => [['none'], ['gate', 'replace'], '/gate/'],
        'intercept' => [['/srv/www', '@network'], [''], '/extension/'],
        'client' => [['mysql'], ['phpredis', 'predis', ''], '/predis/'],
        'dsn' => [['mysql://h', '', 'redis://', 'redis://h:99999'], ['redis://h', 'local:'], '/Allowed/'],
    ];

    public function testEachValueIsTakenOrRefusedWithWhatIsAllowed(): void
    {
        $actor = Sides::polyfill(Cluster::local(), 'phpredis');
        foreach (self::VALUES as $name => [$bad, $good, $allowed]) {
            foreach ($bad as $value) {
                $message = $actor->tryRun(self::CONFIGURE, name: $name, value: $value)->thrown('ValueError')->message;
                self::assertStringContainsString("cluster_lock.$name", $message, 'The message names the setting');
                self::assertMatchesRegularExpression($allowed, $message, 'and says what is allowed');
            }
            foreach ($good as $value) {
                $actor->run(self::CONFIGURE, name: $name, value: $value);
            }
        }
        self::assertStringContainsString(
            'no such setting',
            $actor->tryRun('ClusterLock\Polyfill\configure(["timeouts" => 1]);')->thrown('ValueError')->message
        );
    }

    public function testARefusedValueLeavesEverythingAsItWas(): void
    {
        $actor = Sides::polyfill(Cluster::local(), 'phpredis');
        $actor->tryRun('ClusterLock\Polyfill\configure(["flock_mode" => "replace", "ttl" => 0]);')
            ->thrown('ValueError');

        self::assertSame('gate', $actor->call('cluster_lock_status')['hook']['flock_mode'], 'Nothing is set');
    }

    public function testTheSettingsAndTheirDefaultsAreThoseOfTheExtension(): void
    {
        $process = Sides::process('', 'say(json_encode(ini_get_all("cluster_lock", false)));');
        self::assertSame(0, $process->wait(), $process->transcript());
        $theirs = json_decode($process->output(), true);
        $ours = json_decode(self::say('cluster_lock_status(); echo json_encode((new ReflectionClassConstant('
            . '"ClusterLock\Polyfill\Settings", "DEFAULTS"))->getValue());'), true);
        // Who speaks to the server is for the polyfill alone; where the extension has one by default, it takes the host's locks.
        unset($ours['client'], $ours['dsn'], $theirs['cluster_lock.dsn']);
        $ours = array_combine(array_map(static fn (string $name): string => "cluster_lock.$name", array_keys($ours)), $ours);
        ksort($ours);

        self::assertSame($theirs, $ours);
    }

    public function testTheOrderOfTheSources(): void
    {
        $shown = 'echo cluster_lock_status()["dsn"], "\n";';
        $ini = ['-d', 'cluster_lock.dsn=redis://ini'];
        $constant = 'define("CLUSTER_LOCK_DSN", "redis://constant");';
        $configure = 'ClusterLock\Polyfill\configure(["dsn" => "redis://given"]);';

        self::assertSame('local:', self::say($shown));
        self::assertSame('redis://ini:6379', self::say($shown, $ini));
        self::assertSame('redis://environment:6379', self::say($shown, $ini, 'redis://environment'));
        self::assertSame('redis://constant:6379', self::say("$constant $shown", $ini, 'redis://environment'));
        self::assertSame('redis://given:6379', self::say("$constant $configure $shown", $ini, 'redis://environment'));
    }

    public function testALoaderMayFillTheSuperglobalsOnly(): void
    {
        $shown = 'echo cluster_lock_status()["dsn"], "\n";';
        foreach (['$_ENV', '$_SERVER'] as $where) {
            $code = "{$where}['CLUSTER_LOCK_DSN'] = 'redis://loaded'; {$where}['CLUSTER_LOCK_NODE'] = false; $shown";
            self::assertSame('redis://loaded:6379', self::say($code), "$where is read");
            self::assertSame('redis://environment:6379', self::say($code, [], 'redis://environment'), "behind getenv()");
        }
    }

    public function testAnErrorHandlerThatThrowsEndsOneCallOnly(): void
    {
        $said = self::say(
            'set_error_handler(static fn ($level, $message) => throw new ErrorException($message));'
            . 'try { cluster_lock("job", 0); } catch (ErrorException $e) { echo $e->getMessage(), "\n"; }'
            . 'restore_error_handler(); var_dump(cluster_lock("job", 0), cluster_unlock("job"));',
            ['-d', 'cluster_lock.flock_mode=gates', '-d', 'cluster_lock.ttl=0']
        );

        self::assertSame(
            'cluster_lock: cluster_lock.ttl: "0" is refused: a number of seconds from 0.1 to 31536000 is allowed'
                . "\nbool(true)\nbool(true)",
            $said
        );
    }

    public function testABadValueOfPhpIniIsToldOnceAndTheDefaultStandsInForIt(): void
    {
        $said = self::say(
            'set_error_handler(static function ($level, $message) { echo "$level $message\n"; return true; });'
            . 'cluster_lock("job", 0) && cluster_lock("job", 0) || exit(1); echo cluster_lock_status()["hook"]["flock_mode"], "\n";',
            ['-d', 'cluster_lock.flock_mode=gates', '-d', 'cluster_lock.dsn=local://' . TempDir::forTest()]
        );

        self::assertSame(
            E_USER_WARNING . ' cluster_lock: cluster_lock.flock_mode: "gates" is refused: gate or replace is allowed'
                . "\ngate",
            $said
        );
    }

    public function testWhatIsHeldSurvivesANewConfiguration(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $actor = Sides::polyfill($cluster, 'phpredis');
        $actor->call('cluster_lock', 'job');
        $actor->run('ClusterLock\Polyfill\configure(["dsn" => "local:", "prefix" => "other:"]);');

        self::assertTrue($actor->call('cluster_unlock', 'job'), 'It is given back where it was taken');
        self::assertNull(Sides::extension($cluster)->call('cluster_lock_info', 'job'), 'and is free there');
    }

    /** @param list<string> $options */
    private static function say(string $code, array $options = [], ?string $environment = null): string
    {
        $env = $environment === null ? [] : ["CLUSTER_LOCK_DSN=$environment"];
        $code = sprintf('require %s; %s', var_export(self::BOOTSTRAP, true), $code);
        $process = PhpProcess::program(['/usr/bin/env', ...$env, PHP_BINARY, '-n', ...$options, '-r', $code]);
        self::assertSame(0, $process->wait(), $process->transcript());

        return rtrim($process->output());
    }
}
