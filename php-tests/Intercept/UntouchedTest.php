<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\Plain;
use ClusterLock\Tests\Support\RedisServer;

/**
 * What is not intercepted has nothing to do with the extension: nobody connects, only the kernel's locks count.
 */
final class UntouchedTest extends FlockTestCase
{
    private RedisServer $server;

    protected function setUp(): void
    {
        parent::setUp();
        $this->server = RedisServer::own();
    }

    /** @return array<string, array{string}> code that sees $dir: intercepted, but nothing is locked; or not intercepted */
    public static function code(): array
    {
        return [
            'reading and writing' => ['file_put_contents("$dir/a", "x"); return file_get_contents("$dir/a");'],
            'opening and closing' => ['$h = fopen("$dir/a", "c+"); fwrite($h, "x"); rewind($h); fread($h, 9); fclose($h);'],
            'including' => ['file_put_contents("$dir/a.php", "<?php return 1;"); include "$dir/a.php"; require "$dir/a.php";'],
            'appending' => ['file_put_contents("$dir/a", "x", FILE_APPEND);'],
            'stat' => ['touch("$dir/a"); chmod("$dir/a", 0600); stat("$dir/a"); copy("$dir/a", "$dir/b"); unlink("$dir/b");'],
            'directories' => ['$d = opendir($dir); readdir($d); flock($d, LOCK_SH); closedir($d); scandir($dir);'],
            'asking whether it can be locked' => ['$h = fopen("$dir/a", "c+"); return stream_supports_lock($h);'],
            'unlocking what is not locked' => ['$h = fopen("$dir/a", "c+"); return flock($h, LOCK_UN);'],
            'memory' => ['$h = fopen("php://memory", "r+"); flock($h, LOCK_EX); $h = fopen("php://temp", "r+"); flock($h, LOCK_EX);'],
            'a socket' => ['[$h] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0); flock($h, LOCK_EX);'],
            'a pipe' => ['$h = popen("true", "r"); flock($h, LOCK_EX);'],
            'a fifo in the directory' => ['posix_mkfifo("$dir/fifo", 0600); $h = fopen("$dir/fifo", "r+"); flock($h, LOCK_EX);'],
            'a device' => ['$h = fopen("/dev/null", "r+"); flock($h, LOCK_EX); fclose($h); file_put_contents("/dev/null", "x", LOCK_EX);'],
            'a temporary file elsewhere' => ['$h = tmpfile(); flock($h, LOCK_EX);'],
            'another file' => ['$h = fopen(dirname($dir) . "/cluster_lock-other", "c+"); unlink(dirname($dir) . "/cluster_lock-other"); flock($h, LOCK_EX);'],
            'a log' => ['$h = fopen("$dir/a.log", "c+"); flock($h, LOCK_EX); file_put_contents("$dir/b.log", "x", LOCK_EX);'],
            'a session' => [
                'session_save_path($dir); ini_set("session.use_cookies", "0"); ini_set("session.cache_limiter", "");'
                . 'session_start(); $_SESSION["x"] = 1; session_write_close();',
            ],
            'a bad operation' => ['$h = fopen("$dir/a", "c+"); try { flock($h, 0); } catch (ValueError) { }'],
        ];
    }

    /** @dataProvider code */
    public function testNobodyConnects(string $code): void
    {
        if (str_contains($code, 'session_') && !extension_loaded('session')) {
            self::markTestSkipped('There are no sessions here.');
        }
        $actor = $this->actor(['cluster_lock.intercept' => $this->dir]);
        $actor->run($code, dir: $this->dir);
        $status = $actor->call('cluster_lock_status');

        self::assertSame([], $this->server->client()->clients(), 'The server has seen nobody');
        self::assertSame(0, $status['pool']['created'], 'There was no connection');
        self::assertSame(0, $status['counters']['acquired'], 'There was no lock');
    }

    public function testAFileElsewhereIsThatOfTheKernel(): void
    {
        $mine = Handle::open($this->actor(['cluster_lock.intercept' => "{$this->dir}/a"]), $this->file, 'c+', 'flock');
        $plain = Handle::open(Plain::actor(), $this->file, 'c+', 'flock');
        $mine->lock(LOCK_EX);
        self::assertWouldBlock($plain, LOCK_SH, 'As ever');
        $mine->close();
        $plain->lock(LOCK_EX);
        $mine = Handle::open($mine->actor, $this->file, 'c+', 'flock');
        self::assertWouldBlock($mine, LOCK_SH, 'As ever');
        $plain->actor->quit();

        self::assertGets($mine, LOCK_EX, 'As ever');
    }

    public function testTheServerMayBeGoneForWhatIsNotIntercepted(): void
    {
        $this->server->kill();
        $actor = $this->actor(['cluster_lock.intercept' => "{$this->dir}/a", 'cluster_lock.flock_mode' => 'replace']);
        $handle = Handle::open($actor, $this->file, 'c+', 'flock');
        self::assertTrue($handle->lock(LOCK_EX), 'Nobody asks it');
        self::assertTrue($handle->unlock(), 'Nobody asks it');

        self::assertSame(3, $actor->call('file_put_contents', "{$this->dir}/new", 'new', LOCK_EX), 'Nobody asks it');
    }

    /** @param array<string, string> $settings */
    private function actor(array $settings): Actor
    {
        return Cluster::redis($this->server)->actor($settings);
    }
}
