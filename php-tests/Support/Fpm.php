<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\Assert;

/**
 * A php-fpm of the test's own, behind a unix socket: a fixed number of workers, unless $pool says otherwise.
 */
final class Fpm
{
    use FastCgi;

    private readonly ServerProcess $process;

    /**
     * @param array<string, string|int|float> $settings  php.ini
     * @param int                             $workers   as many as it begins with
     * @param array<string, string|int>       $pool      php-fpm.conf, section of the pool
     * @param list<string>                    $extensions
     * @param string|null                     $ini       a php.ini, for what is not a setting: its sections
     * @param array<string, string|int>       $global    php-fpm.conf, section of all pools
     */
    public function __construct(
        array $settings,
        int $workers = 1,
        array $pool = [],
        array $extensions = ['posix', 'pcntl'],
        ?string $ini = null,
        array $global = []
    ) {
        $dir = TempDir::forTest();
        $this->dir = $dir;
        $pool += [
            'listen' => $this->socket(),
            'pm' => 'static',
            'pm.max_children' => $workers,
            'clear_env' => 'no',
            // For MemoryReport: else what workers say goes nowhere.
            'catch_workers_output' => PHP_DEBUG ? 'yes' : 'no',
        ];
        $global += ['error_log' => "$dir/fpm.log", 'daemonize' => 'no'];
        $conf = '';
        foreach (['global' => $global, 'www' => $pool] as $section => $entries) {
            $conf .= "[$section]\n";
            foreach ($entries as $name => $value) {
                $conf .= "$name = $value\n";
            }
        }
        file_put_contents("$dir/fpm.conf", $conf);
        $ini = $ini === null ? [] : ['-c', $ini];
        $command = [self::binary(), '-F', '-R', '-y', "$dir/fpm.conf", ...$ini, ...Php::options($settings + [
            'display_errors' => 1,
            'auto_prepend_file' => dirname(__DIR__) . '/fixtures/prelude.php',
        ], $extensions)];
        // After its end.
        Cleanup::afterTest(static fn () => MemoryReport::refuse((string) @file_get_contents("$dir/fpm.log")));
        $this->process = new ServerProcess($command);
        Until::true(fn () => $this->isUp($workers), fn () => "php-fpm should listen: {$this->log()}");
    }

    /** Skips the test where no php-fpm of this PHP's version is. */
    public static function orSkip(): void
    {
        if (!is_executable(self::binary())) {
            Assert::markTestSkipped('There is no php-fpm of this version here.');
        }
    }

    /** @return list<int> */
    public function workers(): array
    {
        return $this->process->children();
    }

    /** Its workers finish what they are at, and others take their place, with the configuration as it is now. */
    public function reload(): void
    {
        $this->process->signal(SIGUSR2);
    }

    public function log(): string
    {
        return @file_get_contents("{$this->dir}/fpm.log") . $this->process->output();
    }

    public function stop(): void
    {
        $this->process->stop();
    }

    private function isUp(int $workers): bool
    {
        $socket = @stream_socket_client('unix://' . $this->socket());

        return $socket !== false && count($this->workers()) === $workers;
    }

    private static function binary(): string
    {
        return getenv('PHP_FPM') ?: sprintf('/usr/sbin/php-fpm%d.%d', PHP_MAJOR_VERSION, PHP_MINOR_VERSION);
    }
}
