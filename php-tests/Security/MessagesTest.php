<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Security;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * Whoever chooses a name, a path or what another node reports can forge no line of a log and no mark-up.
 */
final class MessagesTest extends TestCase
{
    /** Begins a line, drives a terminal, turns the direction of writing, closes a page's element. */
    private const HOSTILE = "a\nPHP Fatal error:  forged\r\n\x1b[2J\u{9b}31m\u{202e}\u{2028}</td><script>x</script>";

    public function testAHolderOfAnotherNodeCanForgeNothing(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $log = TempDir::forTest() . '/php_errors';
        $alice = $cluster->actor(['cluster_lock.auto_renew' => 0]);
        $bob = $cluster->actor(['cluster_lock.slow_wait' => '0.05', 'log_errors' => 1, 'error_log' => $log]);
        $alice->call('cluster_lock', 'job', 0, LOCK_EX, 60);
        $key = $server->client()->do('KEYS', '*')[0];
        $hostile = str_repeat(self::HOSTILE, 20_000);
        $identity = json_encode(['n' => $hostile, 'p' => 1, 'i' => $hostile, 's' => $hostile, 'u' => $hostile]);
        $record = $server->client()->do('GET', $key);
        $server->client()->do('SET', $key, substr($record, 0, strpos($record, '{')) . $identity, 'KEEPTTL');

        $outcome = $bob->tryRun('return cluster_synchronized("job", "pi", 0.1);');
        self::assertNotNull($outcome->thrown, 'Alice has it');
        $lines = file($log, FILE_IGNORE_NEW_LINES);
        self::assertCount(1, $lines, 'One line for one wait');
        foreach ([$lines[0], $outcome->thrown->message] as $text) {
            self::assertStringContainsString('held by node', $text, 'It names the holder');
            $hidden = '/[\x00-\x1f\x7f\x{80}-\x9f\x{2028}\x{202e}]/u';
            self::assertDoesNotMatchRegularExpression($hidden, $text, 'escaped');
            self::assertLessThan(5000, strlen($text), 'and cut');
        }
        self::assertSame($hostile, $bob->call('cluster_lock_info', 'job')['holders'][0]['node'], 'A report is exact');
    }

    public function testALongRequestIsCut(): void
    {
        $server = RedisServer::own();
        $cluster = Cluster::redis($server);
        $fpm = new Fpm($cluster->settings());
        $go = TempDir::forTest() . '/go';
        $request = $fpm->begin('cluster_lock("job"); echo "locked"; flush(); await_file($_GET["go"]);', ['go' => $go], [
            'REQUEST_URI' => '/' . str_repeat('é', 20_000) . '?secret',
        ]);
        $request->awaitText('locked');
        $length = $server->client()->do('STRLEN', $server->client()->do('KEYS', '*')[0]);
        $uri = $cluster->info('job')['holders'][0]['request_uri'];
        touch($go);
        $request->body();

        self::assertLessThan(3000, $length, 'What clients choose does not fill the server');
        self::assertStringStartsWith('/ééé', $uri, 'It is told');
    }

    public function testAPathCanForgeNothing(): void
    {
        $dir = TempDir::forTest() . "/d\nPHP Fatal error:  forged";
        mkdir($dir);
        mkdir("$dir/directory");
        file_put_contents("$dir/file", 'old');
        symlink('loop', "$dir/loop");
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2);
        $messages = [];
        foreach (['directory', 'loop', 'no/such', 'file/file', str_repeat('x', 300)] as $name) {
            $messages[] = $alice->try('cluster_file_put_contents', "$dir/$name", 'new')->warning();
        }
        $messages[] = $alice->try('cluster_file_put_contents', "$dir/file", 'new', 0, "a\nb")->warning();
        $alice->call('cluster_lock', "a\nb");
        $bob->call('cluster_lock_break', "a\nb");
        $messages[] = $alice->try('cluster_file_put_contents', "$dir/file", 'new', 0, "a\nb")->warning();
        $bob->call('cluster_lock', "file:$dir/file");
        $alice->call('ini_set', 'cluster_lock.timeout', '0');
        $messages[] = $alice->try('cluster_file_put_contents', "$dir/file", 'new', LOCK_EX)->warning();

        foreach ($messages as $message) {
            self::assertDoesNotMatchRegularExpression('/[\x00-\x1f]/', $message, 'Escaped');
        }
        self::assertStringContainsString('is unchanged', $messages[6], 'Also where the lock was found to be lost');
        self::assertSame('old', file_get_contents("$dir/file"), 'Nothing was written');
    }

    public function testPhpinfoHasNoMarkUpOfOthers(): void
    {
        $hostile = '/srv/<script>alert(1)</script>&"';
        $fpm = new Fpm(['cluster_lock.intercept' => $hostile, 'cluster_lock.node' => '<b>node</b>']);
        $page = $fpm->get('phpinfo(INFO_MODULES);');

        self::assertStringContainsString('&lt;script&gt;alert(1)', $page, 'It is shown');
        self::assertStringNotContainsString('<script>alert(1)', $page, 'as text');
        self::assertStringNotContainsString('<b>node', $page, 'as text');
    }

    public function testHugeInputsCostNothing(): void
    {
        if (getenv('ASAN_OPTIONS') !== false) {
            self::markTestSkipped('A sanitizer keeps what was freed.');
        }
        $actor = Cluster::redis()->actor(['memory_limit' => '1G']);
        $actor->call('cluster_lock', 'job');
        $before = self::peak($actor);
        $huge = '$huge = str_repeat("x", 200_000_000);';
        self::assertSame([], $actor->run("$huge return cluster_lock_list(\$huge);"), 'No name is that long');
        foreach (['cluster_lock($huge)', 'cluster_lock_info($huge)', 'new ClusterLock($huge)'] as $call) {
            self::assertSame('ValueError', $actor->tryRun("$huge return $call;")->thrown?->class, $call);
        }
        $outcome = $actor->tryRun("$huge return cluster_file_put_contents(\$huge, '');");

        self::assertFalse($outcome->value, 'Nor is a path');
        self::assertLessThan(20_000, strlen($outcome->messages()), 'It is not repeated');
        self::assertLessThan($before + 300_000, self::peak($actor), 'kB: nothing but the value itself');
    }

    private static function peak(Actor $actor): int
    {
        preg_match('/VmHWM:\s+(\d+) kB/', (string) file_get_contents("/proc/{$actor->pid()}/status"), $match);

        return (int) $match[1];
    }
}
