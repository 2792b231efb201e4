<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Security;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * No PHP code can read the password of the lock server, wherever php.ini and its like give it.
 */
final class SecretsTest extends TestCase
{
    /** Everything that PHP tells about its configuration and about us, in one string. */
    private const EVERYTHING = <<<'PHP'
        ob_start();
        phpinfo();
        ini_get_all();
        var_dump(ini_get_all(), ini_get_all('cluster_lock'), ini_get('cluster_lock.dsn'));
        foreach (['cluster_lock.dsn', 'one.example', 'two.example', '/srv/one', 'HOST=one.example'] as $name) {
            var_dump(get_cfg_var($name));
        }
        var_dump(cluster_lock_status(), new ClusterLock('job'));
        set_error_handler(static function (int $level, string $message): bool {
            echo $message;
            debug_print_backtrace();
            return true;
        });
        $locked = cluster_lock('job', 0);
        try {
            (new ClusterLock('job'))->acquire(0);
        } catch (Throwable $thrown) {
            echo $thrown;
            var_dump($thrown);
        }
        echo ob_get_clean();
        PHP;

    public function testSectionsOfPhpIniAreNotShown(): void
    {
        $ini = $this->ini(<<<'INI'
            cluster_lock.dsn = "redis://main:s3cret-main@127.0.0.1:1"
            [HOST=one.example]
            cluster_lock.dsn = "redis://one:s3cret-one@127.0.0.1:1"
            [HOST=two.example]
            cluster_lock.dsn = "mysql://two:s3cret-two@127.0.0.1:1"
            [PATH=/srv/one]
            cluster_lock.dsn = "redis://one:s3cret-path@127.0.0.1:1"
            INI);
        $code = TempDir::forTest() . '/code.php';
        file_put_contents($code, "<?php\n" . self::EVERYTHING);
        $command = sprintf(
            '%s -c %s %s %s 2>&1',
            escapeshellarg(PHP_BINARY),
            escapeshellarg($ini),
            implode(' ', array_map('escapeshellarg', Php::options([]))),
            escapeshellarg($code)
        );
        $said = (string) shell_exec($command);

        self::assertStringContainsString('redis://one:***@127.0.0.1:1', $said, 'The sections are there');
        self::assertStringContainsString('mysql://***', $said, 'also the one with a mistake');
        self::assertStringNotContainsString('s3cret', $said, 'without the passwords');
    }

    public function testEachVirtualHostUsesItsOwnServerAndShowsNoPassword(): void
    {
        // The same host, port and user: nothing but the password tells them apart.
        $server = RedisServer::own();
        foreach (['one', 'two'] as $site) {
            $server->client()->do('ACL', 'SETUSER', 'site', 'on', ">s3cret-$site", '~*', '+@all');
        }
        $dsn = fn (string $site) => "redis://site:s3cret-$site@" . $server->address();
        $ini = $this->ini(<<<INI
            cluster_lock.dsn = "{$dsn('wrong')}"
            [HOST=one.example]
            cluster_lock.dsn = "{$dsn('one')}"
            cluster_lock.prefix = "one:"
            [HOST=two.example]
            cluster_lock.dsn = "{$dsn('two')}"
            cluster_lock.prefix = "two:"
            INI);
        $fpm = new Fpm(['cluster_lock.slow_wait' => 0], ini: $ini);
        $try = 'echo getmypid(), " ", json_encode(@cluster_lock("job", 0)), " ", error_get_last()["message"] ?? "";';
        $keys = 'echo implode(",", array_column(cluster_lock_list(), "name"));';
        $worker = $fpm->workers()[0];
        for ($turn = 0; $turn < 2; $turn++) {
            foreach (['one', 'two'] as $site) {
                $said = $fpm->get($try, [], ['SERVER_NAME' => "$site.example"]);
                self::assertStringStartsWith("$worker true", $said, "$site has its password, in the same process");
            }
            self::assertStringContainsString('WRONGPASS', $fpm->get($try), 'The main configuration has its own, too');
        }
        foreach (['one', 'two'] as $site) {
            $name = ['SERVER_NAME' => "$site.example"];
            $server->client()->do('ACL', 'SETUSER', 'site', 'on', "<s3cret-$site");
            $server->client()->do('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
            self::assertStringContainsString('WRONGPASS', $fpm->get($try, [], $name), "$site uses its own password");
            $server->client()->do('ACL', 'SETUSER', 'site', 'on', ">s3cret-$site");
        }
        foreach ([[], ['SERVER_NAME' => 'one.example'], ['SERVER_NAME' => 'two.example']] as $name) {
            $said = $fpm->get(self::EVERYTHING, [], $name);
            self::assertStringContainsString('redis://site:***@', $said, 'The setting is shown');
            self::assertStringNotContainsString('s3cret', $said, 'without its password');
        }
    }

    public function testTwoPrefixesInOneProcessAreTwoNamespaces(): void
    {
        $server = RedisServer::own();
        $ini = $this->ini(<<<INI
            cluster_lock.dsn = "{$server->dsn()}"
            [HOST=one.example]
            cluster_lock.prefix = "one:"
            [HOST=two.example]
            cluster_lock.prefix = "two:"
            INI);
        $fpm = new Fpm(['cluster_lock.slow_wait' => 0], 2, ini: $ini);
        $hold = 'cluster_lock("job"); echo implode(",", array_column(cluster_lock_list(), "name")), "."; flush();
            await_file($_GET["go"]);';
        $go = TempDir::forTest() . '/go';
        $one = $fpm->begin($hold, ['go' => $go], ['SERVER_NAME' => 'one.example']);
        $one->awaitText('job.');
        $two = $fpm->begin($hold, ['go' => $go], ['SERVER_NAME' => 'two.example']);
        $two->awaitText('job.');
        $keys = $server->client()->do('KEYS', '*');
        touch($go);
        $one->body();
        $two->body();

        sort($keys);
        self::assertSame(['one:{job}', 'two:{job}'], $keys, 'Each host has its own lock of that name');
    }

    public function testAPoolsDsnIsNotShown(): void
    {
        $fpm = new Fpm([], pool: ['php_admin_value[cluster_lock.dsn]' => '"redis://pool:s3cret@127.0.0.1:1"']);
        for ($request = 0; $request < 2; $request++) {
            $said = $fpm->get(self::EVERYTHING);
            self::assertStringContainsString('redis://pool:***@', $said, 'The setting is shown');
            self::assertStringNotContainsString('s3cret', $said, 'without its password');
        }
    }

    public function testWhatWasHiddenIsNoDsn(): void
    {
        $outcome = Cluster::at('redis://user:***@127.0.0.1:1')->actor()->try('cluster_lock', 'job', 0);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/cluster_lock\.dsn/', '/write the password itself/');
    }

    public function testAUserWithoutAPasswordIsNotTheDefaultUser(): void
    {
        $server = RedisServer::own();
        $outcome = Cluster::at('redis://tenant@' . $server->address())->actor()->try('cluster_lock', 'job', 0);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/cluster_lock\.dsn/', '/password/');
        self::assertSame([], $server->client()->do('KEYS', '*'), 'Nothing was sent as another user');
    }

    private function ini(string $text): string
    {
        $file = TempDir::forTest() . '/php.ini';
        file_put_contents($file, $text . "\n");

        return $file;
    }
}
