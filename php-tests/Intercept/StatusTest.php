<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Handle;
use ClusterLock\Tests\Support\PhpProcess;

/**
 * What is intercepted can be seen in cluster_lock_status() and phpinfo().
 */
final class StatusTest extends FlockTestCase
{
    public function testTheStateOfTheHook(): void
    {
        $actor = Cluster::redis()->actor([
            'cluster_lock.intercept' => "{$this->dir}:/srv/www",
            'cluster_lock.flock_mode' => 'replace',
        ]);
        $hook = $actor->call('cluster_lock_status')['hook'];

        self::assertTrue($hook['active'], 'It is on');
        $text = json_encode($hook, JSON_UNESCAPED_SLASHES);
        foreach ([$this->dir, '/srv/www', '*.log', 'replace'] as $part) {
            self::assertStringContainsString($part, $text, 'It tells what is intercepted, and how');
        }
    }

    public function testTheStateOfTheHookWhenNothingIsIntercepted(): void
    {
        $hook = Cluster::redis()->actor()->call('cluster_lock_status')['hook'];

        self::assertFalse($hook['active'], 'It is off');
    }

    public function testWhatIsInterceptedIsCounted(): void
    {
        $actor = Cluster::redis()->actor(['cluster_lock.intercept' => $this->dir]);
        $counters = static fn () => $actor->call('cluster_lock_status')['counters'];
        self::assertSame(0, $counters()['intercepted'], 'Nothing yet');
        $handle = Handle::open($actor, $this->file, 'c+', 'flock');
        $handle->lock(LOCK_EX);
        self::assertSame(1, $counters()['intercepted'], 'flock()');
        $handle->unlock();
        $actor->call('file_put_contents', $this->file, 'x', LOCK_EX);
        self::assertSame(2, $counters()['intercepted'], 'file_put_contents()');
        $actor->call('file_put_contents', "{$this->dir}/x.log", 'x', LOCK_EX);
        $actor->call('file_put_contents', $this->file, 'x');
        self::assertSame(2, $counters()['intercepted'], 'What is left to PHP does not count');
        self::assertSame(2, $counters()['acquired'], 'Each was a lock');
        Handle::open($actor, $this->file)->lock(LOCK_EX);

        self::assertSame(2, $counters()['intercepted'], 'cluster_flock() is not intercepted');
    }

    public function testItIsInPhpinfo(): void
    {
        $process = PhpProcess::command(['--ri', 'cluster_lock'], ['cluster_lock.intercept' => '/srv/www:/srv/media']);
        self::assertSame(0, $process->wait(), $process->transcript());

        foreach (['cluster_lock.intercept', '/srv/www:/srv/media', 'cluster_lock.intercept_exclude', '*.log',
            'cluster_lock.flock_mode', 'gate'] as $part) {
            self::assertStringContainsString($part, $process->output(), 'It is shown');
        }
    }
}
