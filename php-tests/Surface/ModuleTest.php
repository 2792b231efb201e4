<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Surface;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TestCase;

/**
 * What PHP tells about the extension: module list, --re, --ri, phpinfo().
 */
final class ModuleTest extends TestCase
{
    private const SECRET = 's3cret-pa55';
    private const DSN = 'redis://worker:s3cret-pa55@127.0.0.1:6390/2';

    public function testItIsLoadedUnderItsName(): void
    {
        $process = PhpProcess::code('say(extension_loaded("cluster_lock")); say(phpversion("cluster_lock"));');
        $process->expect('true');

        self::assertMatchesRegularExpression('/^\d+\.\d+\.\d+/', $process->line(), 'It has a version');
        self::assertSame(0, $process->wait(), 'Loading it should change nothing else');
        self::assertSame('', $process->errors(), 'Loading it should be silent');
    }

    public function testTheVersionsAgree(): void
    {
        $versions = Cluster::local()->actor()->run(
            'return [phpversion("cluster_lock"), cluster_lock_status()["version"]];'
        );

        self::assertSame($versions[0], $versions[1], 'phpversion() and cluster_lock_status()');
        self::assertStringContainsString(
            'version = "' . $versions[0] . '"',
            (string) file_get_contents(dirname(__DIR__, 2) . '/Cargo.toml'),
            'The version of Cargo.toml'
        );
    }

    public function testReflectionOnTheCommandLineWorks(): void
    {
        $process = PhpProcess::command(['--re', 'cluster_lock']);

        self::assertSame(0, $process->wait(), 'php --re cluster_lock: ' . $process->transcript());
        self::assertStringContainsString(
            'Function [ <internal:cluster_lock> function cluster_lock ]',
            $process->output(),
            'Its functions'
        );
        self::assertStringContainsString('class ClusterLock', $process->output(), 'Its classes');
        self::assertStringContainsString('Entry [ cluster_lock.ttl <ALL> ]', $process->output(), 'Its settings');
    }

    public function testPhpInfoShowsTheTableOnTheCommandLine(): void
    {
        $process = PhpProcess::command(['--ri', 'cluster_lock'], ['cluster_lock.dsn' => self::DSN]);

        self::assertSame(0, $process->wait(), 'php --ri cluster_lock: ' . $process->transcript());
        self::assertStringContainsString('127.0.0.1:6390', $process->output(), 'It shows the server');
        self::assertMatchesRegularExpression(
            '/cluster_lock\.ttl => 10 => 10/',
            $process->output(),
            'It shows the settings'
        );
        self::assertStringNotContainsString(self::SECRET, $process->output(), 'It never shows the password');
    }

    public function testNothingShowsThePassword(): void
    {
        $process = PhpProcess::code(<<<'PHP'
            phpinfo();
            var_dump(ini_get('cluster_lock.dsn'), ini_get_all('cluster_lock'), ini_get_all(null, false), cluster_lock_status());
            var_dump(get_cfg_var('cluster_lock.nothing'));
            $lock = new ClusterLock('job');
            try { $lock->acquire(0); } catch (ClusterLockException $e) { echo $e; var_dump($e); }
            $locked = cluster_lock('job', 0);
            var_dump(error_get_last());
            echo new ReflectionExtension('cluster_lock');
            throw $e;
            PHP, ['cluster_lock.dsn' => self::DSN]);
        $process->wait();
        // phpinfo() also prints the environment and the command line, where this test itself put the
        // password: what counts is what comes from the extension.
        $said = preg_replace('/^.*(\$_SERVER|argv|\[\d+\] =>).*$/m', '', $process->output() . $process->errors());

        self::assertStringContainsString('cluster_lock', $said, 'There should be something to look at');
        self::assertStringNotContainsString(self::SECRET, $said, 'The password is a secret');
    }

    public function testIniGetHidesOnlyThePassword(): void
    {
        $process = PhpProcess::code('say(ini_get("cluster_lock.dsn"));', ['cluster_lock.dsn' => self::DSN]);

        self::assertMatchesRegularExpression(
            '~^redis://.*127\.0\.0\.1:6390/2$~',
            $process->line(),
            'The rest can be read'
        );
    }

    public function testPhpInfoIsATableInHtml(): void
    {
        Fpm::orSkip();
        $html = (new Fpm(['cluster_lock.dsn' => self::DSN]))->get('phpinfo(INFO_MODULES);');

        self::assertStringContainsString('module_cluster_lock', $html, 'It has a section');
        self::assertMatchesRegularExpression('~<td class="e">cluster_lock\.timeout</td>~', $html, 'with its settings');
        self::assertStringNotContainsString(self::SECRET, $html, 'and never shows the password');
    }
}
