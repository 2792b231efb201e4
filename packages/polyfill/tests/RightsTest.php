<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * The rights that the README gives to the extension are enough.
 */
final class RightsTest extends TestCase
{
    /** @return array<string, array{string}> */
    public static function clients(): array
    {
        return array_map(static fn (string $client): array => [$client], Sides::clients());
    }

    /** @dataProvider clients */
    public function testTheRightsOfTheReadmeSuffice(string $client): void
    {
        $readme = (string) file_get_contents(dirname(__DIR__, 3) . '/README.md');
        self::assertSame(1, preg_match('/^ACL SETUSER cluster_lock (on .*)$/m', $readme, $line), 'It gives the rights');
        $server = RedisServer::own();
        $rights = explode(' ', str_replace('>PASSWORD', '>pw', $line[1]));
        $server->client()->do('ACL', 'SETUSER', 'cluster_lock', ...$rights);
        $server->client()->do('ACL', 'SETUSER', 'default', 'off');
        $cluster = Cluster::at("redis://cluster_lock:pw@{$server->address()}/0");
        [$alice, $bob] = [Sides::polyfill($cluster, $client), Sides::polyfill($cluster, $client)];

        self::assertTrue($alice->call('cluster_lock', 'job', 0), 'lock');
        $bob->begin('cluster_lock', 'job', 30, LOCK_SH);
        self::assertTrue($alice->run(<<<'PHP'
            while (count(cluster_lock_info('job')['waiters']) === 0);
            return cluster_unlock('job');
            PHP), 'info, unlock and hand over');
        self::assertTrue($bob->end(), 'wait');
        self::assertFalse($bob->run('return (new ClusterLock("job"))->acquire(0);'), 'one try');
        self::assertTrue($bob->call('cluster_lock', 'job', 5), 'convert');
        self::assertSame(['job'], array_column($alice->call('cluster_lock_list'), 'name'), 'list');
        self::assertNull($alice->call('cluster_lock_servers')[0]['error'], 'servers');
        self::assertTrue($alice->call('cluster_lock_break', 'job'), 'break');
        self::assertTrue(
            $alice->run('$l = new ClusterLock("job"); $l->acquire(); $l->refresh(); $l->release(); return true;'),
            'refresh'
        );
    }
}
