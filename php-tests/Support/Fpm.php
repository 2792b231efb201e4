<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use RuntimeException;

/**
 * A php-fpm of the test's own: a fixed number of workers behind a unix socket.
 */
final class Fpm
{
    /** @var resource */
    private $process;

    private readonly string $dir;
    private readonly int $pid;

    /**
     * @param array<string, string|int|float> $settings  php.ini
     * @param array<string, string|int>       $pool      php-fpm.conf, section of the pool
     * @param list<string>                    $extensions
     * @param string|null                     $ini       a php.ini, for what is not a setting: its sections
     */
    public function __construct(
        array $settings,
        int $workers = 1,
        array $pool = [],
        array $extensions = ['posix', 'pcntl'],
        ?string $ini = null
    ) {
        $dir = TempDir::forTest();
        $this->dir = $dir;
        $pool += [
            'listen' => "$dir/fpm.sock",
            'pm' => 'static',
            'pm.max_children' => $workers,
            'clear_env' => 'no',
            // For MemoryReport: else what workers say goes nowhere.
            'catch_workers_output' => PHP_DEBUG ? 'yes' : 'no',
        ];
        $conf = "[global]\nerror_log = $dir/fpm.log\ndaemonize = no\n[www]\n";
        foreach ($pool as $name => $value) {
            $conf .= "$name = $value\n";
        }
        file_put_contents("$dir/fpm.conf", $conf);
        $ini = $ini === null ? [] : ['-c', $ini];
        $command = [self::binary(), '-F', '-R', '-y', "$dir/fpm.conf", ...$ini, ...Php::options($settings + [
            'display_errors' => 1,
            'auto_prepend_file' => dirname(__DIR__) . '/fixtures/prelude.php',
        ], $extensions)];
        $null = ['file', '/dev/null', 'r'];
        $log = ['file', "$dir/out", 'a'];
        $process = proc_open(Php::mortal($command), [$null, $log, $log], $pipes);
        $this->process = $process ?: throw new RuntimeException('Cannot start php-fpm');
        $this->pid = proc_get_status($process)['pid'];
        Cleanup::afterTest(function (): void {
            $this->stop();
            MemoryReport::refuse($this->log());
        });
        Until::true(fn () => $this->isUp($workers), fn () => "php-fpm should listen: {$this->log()}");
    }

    /** Whether a php-fpm of this PHP's version is here. */
    public static function isAvailable(): bool
    {
        return is_executable(self::binary());
    }

    /**
     * Sends a request for a script with this code, which sees $arguments as $_GET.
     *
     * @param array<string, string|int> $arguments
     * @param array<string, string>     $server    more of what the web server tells
     */
    public function begin(string $code, array $arguments = [], array $server = []): FastCgiRequest
    {
        // A file for each code, so that no cache can mix them up.
        $file = sprintf('%s/%s.php', $this->dir, md5($code));
        if (!is_file($file)) {
            file_put_contents($file, "<?php\n" . $code);
        }

        return $this->beginFile($file, $arguments, $server);
    }

    /**
     * @param array<string, string|int> $arguments
     * @param array<string, string>     $server
     */
    public function beginFile(string $file, array $arguments = [], array $server = []): FastCgiRequest
    {
        $query = http_build_query($arguments);

        return new FastCgiRequest("{$this->dir}/fpm.sock", $server + [
            'SCRIPT_FILENAME' => $file,
            'SCRIPT_NAME' => '/' . basename($file),
            'REQUEST_METHOD' => 'GET',
            'REQUEST_URI' => '/page/' . basename($file, '.php') . ($query === '' ? '' : "?$query"),
            'QUERY_STRING' => $query,
            'SERVER_PROTOCOL' => 'HTTP/1.1',
            'GATEWAY_INTERFACE' => 'CGI/1.1',
            'REMOTE_ADDR' => '127.0.0.1',
        ]);
    }

    /**
     * The whole way: request, response.
     *
     * @param array<string, string|int> $arguments
     * @param array<string, string>     $server
     */
    public function get(string $code, array $arguments = [], array $server = []): string
    {
        return $this->begin($code, $arguments, $server)->body();
    }

    /** @return list<int> */
    public function workers(): array
    {
        $children = (string) @file_get_contents("/proc/{$this->pid}/task/{$this->pid}/children");

        return array_map('intval', preg_split('/\s+/', $children, -1, PREG_SPLIT_NO_EMPTY));
    }

    public function log(): string
    {
        return @file_get_contents("{$this->dir}/fpm.log") . @file_get_contents("{$this->dir}/out");
    }

    public function stop(): void
    {
        if (!is_resource($this->process)) {
            return;
        }
        // SIGTERM lets the master end its workers; they outlive a SIGKILL of it.
        $workers = $this->workers();
        posix_kill($this->pid, SIGTERM);
        $deadline = Until::now() + 5.0;
        while (proc_get_status($this->process)['running'] && Until::now() < $deadline) {
            usleep(3000);
        }
        foreach ([...$workers, $this->pid] as $pid) {
            if (self::isMine($pid, $this->pid)) {
                posix_kill($pid, SIGKILL);
            }
        }
        proc_close($this->process);
    }

    private static function isMine(int $pid, int $master): bool
    {
        return $pid === $master ? is_dir("/proc/$pid")
            : str_contains((string) @file_get_contents("/proc/$pid/cmdline"), 'php-fpm: pool www');
    }

    private function isUp(int $workers): bool
    {
        $socket = @stream_socket_client("unix://{$this->dir}/fpm.sock");

        return $socket !== false && count($this->workers()) === $workers;
    }

    private static function binary(): string
    {
        return getenv('PHP_FPM') ?: sprintf('/usr/sbin/php-fpm%d.%d', PHP_MAJOR_VERSION, PHP_MINOR_VERSION);
    }
}
