<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\PhpProcess;

/**
 * Settings of the interception that are wrong are refused, each as a whole, and say what is allowed.
 */
final class SettingsTest extends FlockTestCase
{
    /** @return array<string, array{string, string, string}> setting, value, what the message speaks of */
    public static function bad(): array
    {
        return [
            'a relative path' => ['intercept', 'www', '/absolute|\//'],
            'a relative path among others' => ['intercept', '/srv/www:media', '/"media"|absolute/'],
            'a dot' => ['intercept', './www', '/absolute|\//'],
            'an unknown @' => ['intercept', '@everything', '/@network/'],
            'an unknown @ among others' => ['intercept', '@network:@local', '/@network/'],
            'a list of another kind' => ['intercept', 'www,/srv/media', '/absolute|\//'],
            'an unknown mode' => ['flock_mode', 'kernel', '/gate.*replace/'],
            'two modes' => ['flock_mode', 'gate,replace', '/gate.*replace/'],
            'no mode' => ['flock_mode', '', '/gate.*replace/'],
            'a broken glob' => ['intercept_exclude', '[a', '/glob/'],
        ];
    }

    /** @dataProvider bad */
    public function testItIsRefusedWithAMessage(string $setting, string $value, string $speaksOf): void
    {
        $name = "cluster_lock.$setting";
        $default = PhpProcess::code("echo ini_get('$name');");
        $process = PhpProcess::code("echo ini_get('$name');", [$name => $value]);
        $default->wait();
        self::assertSame(0, $process->wait(), 'PHP runs on');

        self::assertSame($default->output(), $process->output(), 'The default stands in for it');
        self::assertStringContainsString($name, $process->errors(), 'The message names the setting');
        self::assertStringContainsString("\"$value\"", $process->errors(), 'It shows the value');
        self::assertMatchesRegularExpression($speaksOf, $process->errors(), 'It says what is allowed');
    }

    public function testWhatIsRefusedInterceptsNothing(): void
    {
        $cluster = Cluster::redis();
        $handle = Handle::open($cluster->actor(['cluster_lock.intercept' => "{$this->dir}:media"]), $this->file, 'c+', 'flock');
        $handle->lock(LOCK_EX);

        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'Half a setting is none');
    }

    public function testAScriptCannotChangeThem(): void
    {
        $actor = Cluster::redis()->actor(['cluster_lock.intercept' => $this->dir]);
        foreach (['intercept' => '', 'intercept_exclude' => '*', 'flock_mode' => 'replace'] as $name => $value) {
            $before = $actor->call('ini_get', "cluster_lock.$name");
            self::assertFalse($actor->call('ini_set', "cluster_lock.$name", $value), "$name is for php.ini");
            self::assertSame($before, $actor->call('ini_get', "cluster_lock.$name"), "$name is as before");
        }
    }

    public function testAPoolOfFpmCan(): void
    {
        $cluster = Cluster::redis();
        $fpm = new Fpm(
            $cluster->settings(['cluster_lock.intercept' => $this->dir]),
            1,
            ['php_admin_value[cluster_lock.flock_mode]' => 'replace']
        );

        self::assertSame(
            'replace',
            $fpm->get('echo ini_get("cluster_lock.flock_mode"), ini_get("cluster_lock.intercept") ? "" : "?";'),
            'php_admin_value may'
        );
        self::assertSame('false', $fpm->get('echo json_encode(ini_set("cluster_lock.flock_mode", "gate"));'), 'A script may not');
    }
}
