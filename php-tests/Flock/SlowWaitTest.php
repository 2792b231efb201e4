<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Flock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\Plain;
use ClusterLock\Tests\Support\Until;

/**
 * A wait for a file that exceeds cluster_lock.slow_wait is one line in PHP's error log.
 */
final class SlowWaitTest extends FlockTestCase
{
    private string $log;
    private Cluster $cluster;

    protected function setUp(): void
    {
        parent::setUp();
        $this->log = "{$this->dir}/php_errors";
        $this->cluster = Cluster::redis();
    }

    public function testItNamesTheFileAndTheHolder(): void
    {
        $alice = Handle::open($this->cluster->actor(['cluster_lock.node' => 'node-a']), $this->file);
        $bob = Handle::open($this->cluster->actor($this->logging()), $this->file);
        $alice->lock(LOCK_EX);
        self::assertWouldBlock($bob, LOCK_EX, 'Alice has it');
        self::assertFileDoesNotExist($this->log, 'Who does not wait does not wait long');
        $bob->begin(LOCK_EX);
        $this->awaitSlowness();
        $alice->unlock();
        self::assertTrue($bob->actor->end(), 'It is his turn');

        $line = $this->line();
        self::assertStringContainsString($this->name, $line, 'It names the lock');
        self::assertMatchesRegularExpression('/\d\.\d+ s/', $line, 'It tells the seconds');
        self::assertStringContainsString('node-a', $line, 'It names the node of the holder');
        self::assertStringContainsString("pid {$alice->actor->pid()}", $line, 'It names the process');
        self::assertStringContainsString('actor.php', $line, 'It names the script');
    }

    public function testItNamesTheRequestOfTheHolder(): void
    {
        $bob = Handle::open($this->cluster->actor($this->logging()), $this->file);
        $fpm = new Fpm($this->cluster->settings());
        $request = $fpm->begin(
            '$h = fopen($_GET["file"], "r+"); cluster_flock($h, LOCK_EX); echo "locked"; flush(); await_file($_GET["go"]);',
            ['file' => $this->file, 'go' => "{$this->dir}/go"]
        );
        $request->awaitText('locked');
        $bob->begin(LOCK_SH);
        $this->awaitSlowness();
        touch("{$this->dir}/go");
        self::assertTrue($bob->actor->end(), 'It is his turn');

        self::assertStringContainsString('/page/', $this->line(), 'It names the request');
    }

    public function testAWaitInVainIsOneLineToo(): void
    {
        $alice = Handle::open($this->cluster->actor(), $this->file);
        $bob = Handle::open($this->cluster->actor(['cluster_lock.timeout' => '0.2'] + $this->logging()), $this->file);
        $alice->lock(LOCK_EX);
        self::assertFalse($bob->lock(LOCK_EX), 'Alice has it');

        self::assertStringContainsString($this->name, $this->line(), 'It names the lock');
    }

    public function testAWaitForAPlainProcessIsOneLineToo(): void
    {
        $plain = Handle::open(Plain::actor(), $this->file, 'c+', 'flock');
        $bob = Handle::open($this->cluster->actor(['cluster_lock.timeout' => '0.2'] + $this->logging()), $this->file);
        $plain->lock(LOCK_EX);
        self::assertFalse($bob->lock(LOCK_EX), 'The plain process has it');

        self::assertStringContainsString($this->name, $this->line(), 'It names the lock');
    }

    public function testAnInterceptedWaitIsOneLineToo(): void
    {
        $settings = ['cluster_lock.intercept' => $this->dir];
        $alice = Handle::open($this->cluster->actor($settings), $this->file, 'c+', 'flock');
        $bob = Handle::open($this->cluster->actor($settings + $this->logging()), $this->file, 'c+', 'flock');
        $alice->lock(LOCK_EX);
        $bob->begin(LOCK_EX);
        $this->awaitSlowness();
        $alice->unlock();
        self::assertTrue($bob->actor->end(), 'It is his turn');

        $line = $this->line();
        self::assertStringContainsString($this->name, $line, 'It names the lock');
        self::assertStringContainsString("pid {$alice->actor->pid()}", $line, 'and the holder');
    }

    /** @return array<string, string|int> */
    private function logging(): array
    {
        return ['cluster_lock.slow_wait' => '0.05', 'log_errors' => 1, 'error_log' => $this->log];
    }

    private function awaitSlowness(): void
    {
        $this->cluster->awaitWaiters($this->name, 1);
        Until::true(
            fn () => microtime(true) - $this->cluster->info($this->name)['waiters'][0]['since'] > 0.15,
            'time should pass'
        );
    }

    private function line(): string
    {
        Until::true(fn () => is_file($this->log), 'there should be a line in the log');
        $lines = file($this->log, FILE_IGNORE_NEW_LINES);
        self::assertCount(1, $lines, 'One line for one wait');

        return $lines[0];
    }
}
