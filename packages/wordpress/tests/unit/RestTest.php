<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * The REST routes, with a real server and the real extension: see fixtures/rest.php.
 */
final class RestTest extends TestCase
{
    public function testAHolderWhoCameBetweenLookAndBreakKeepsTheLock(): void
    {
        $server = RedisServer::own();
        $settings = ['cluster_lock.dsn' => "redis://{$server->address()}", 'cluster_lock.node' => 'web2'];
        $process = PhpProcess::file(__DIR__ . '/fixtures/rest.php', $settings);
        self::assertSame(0, $process->wait(), $process->transcript());
        [$data, $message, $fence] = json_decode($process->output(), true, 8, JSON_THROW_ON_ERROR);

        self::assertSame(['status' => 409], $data);
        self::assertMatchesRegularExpression("/new holder.*not broken.*web2, process {$process->pid()},.*$fence/", $message);
    }
}
