<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Outcome;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * Passwords, users, and the least rights that suffice.
 */
final class AuthTest extends TestCase
{
    private const SECRET = 'S3cret-of-the-server';

    public function testTheRightPasswordWorks(): void
    {
        $server = RedisServer::own([], 'p@ss/w:rd?#%');
        foreach (['redis://:%s@%s', 'redis://default:%s@%s'] as $dsn) {
            $actor = Cluster::at(sprintf($dsn, rawurlencode('p@ss/w:rd?#%'), $server->address()))->actor();
            self::assertTrue($actor->call('cluster_lock', 'job', 0), 'A password may contain any character, %-encoded');
            self::assertTrue($actor->call('cluster_unlock', 'job'), 'and works');
        }
    }

    public function testAWrongPasswordIsToldAndNotShown(): void
    {
        $server = RedisServer::own([], self::SECRET);
        $actor = Cluster::at('redis://:wrong-' . self::SECRET . '@' . $server->address())->actor();
        $outcome = $actor->try('cluster_lock', 'job', 0);

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/',
            '/WRONGPASS|password|authenticat/i'
        );
        self::assertSilentAbout('wrong-', $outcome);
        foreach (['(new ClusterLock("job"))->acquire();', 'cluster_synchronized("job", "pi");'] as $code) {
            $outcome = $actor->tryRun($code);
            self::assertNotNull($outcome->thrown, "$code should throw");
            self::assertStringStartsWith('ClusterLock', $outcome->thrown->class, $outcome->thrown->full);
            self::assertSilentAbout('wrong-', $outcome);
            self::assertMatchesRegularExpression(
                '/WRONGPASS|password|authenticat/i',
                $outcome->thrown->message,
                'It says why'
            );
        }
    }

    public function testAMissingPasswordIsTold(): void
    {
        $server = RedisServer::own([], self::SECRET);
        $outcome = Cluster::at($server->dsn())->actor()->try('cluster_lock', 'job', 0);

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/',
            '/NOAUTH|authentication/i'
        );
    }

    public function testAnUnknownUserIsTold(): void
    {
        $server = RedisServer::own();
        $outcome = Cluster::at('redis://nobody:' . self::SECRET . '@' . $server->address())->actor()->try(
            'cluster_lock',
            'job',
            0
        );

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/',
            '/WRONGPASS|password|authenticat/i'
        );
        self::assertSilentAbout(self::SECRET, $outcome);
    }

    public function testTheRightsOfTheReadmeSuffice(): void
    {
        $server = RedisServer::own();
        $line = str_replace('SECRET', self::SECRET, self::aclLine());
        $server->client()->do(...preg_split('/\s+/', $line));
        $user = preg_split('/\s+/', $line)[2];
        $cluster = Cluster::at("redis://$user:" . self::SECRET . '@' . $server->address() . '/0');
        $server->client()->do('ACL', 'SETUSER', 'default', 'off');
        [$alice, $bob, $carol] = $cluster->actors(3, ['cluster_lock.ttl' => '0.6']);

        self::assertTrue($alice->call('cluster_lock', 'job', 0), 'lock');
        $bob->begin('cluster_lock', 'job', 30, LOCK_SH);
        $cluster->awaitWaiters('job', 1);
        self::assertFalse($carol->call('cluster_lock', 'job', 0.8), 'time out, while Alice renews');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'unlock and hand over');
        self::assertTrue($bob->end(), 'wait');
        self::assertTrue($carol->call('cluster_lock', 'job', 0, LOCK_SH), 'share');
        self::assertCount(2, $alice->call('cluster_lock_info', 'job')['holders'], 'info');
        self::assertSame(['job'], array_column($alice->call('cluster_lock_list'), 'name'), 'list');
        self::assertFalse($bob->call('cluster_lock', 'job', 0.7, LOCK_EX), 'convert, in vain, while Carol renews');
        self::assertTrue($carol->call('cluster_unlock', 'job'), 'unlock a shared lock');
        self::assertTrue($carol->call('cluster_lock', 'job', 0), 'lock once more');
        self::assertTrue($alice->call('cluster_lock_break', 'job'), 'break');
        $carol->try('cluster_unlock', 'job')->warning();
        $bob->try('cluster_unlock', 'job');
        self::assertTrue($alice->run('return cluster_synchronized("job", static fn () => true);'), 'synchronized');
        self::assertTrue(
            $alice->run('$l = new ClusterLock("job"); $l->acquire(); $l->refresh(); $l->release(); return true;'),
            'object'
        );
        $dead = $cluster->actor(['cluster_lock.ttl' => '0.6']);
        $dead->call('cluster_lock', 'job', 0, LOCK_SH);
        $dead->kill();
        self::assertTrue($alice->call('cluster_lock', 'job', 10), 'take over from a dead reader');
    }

    public function testTheRightsOfTheReadmeReachNothingElse(): void
    {
        $server = RedisServer::own();
        $line = str_replace('SECRET', self::SECRET, self::aclLine());
        $server->client()->do(...preg_split('/\s+/', $line));
        $actor = Cluster::at('redis://cluster_lock:' . self::SECRET . '@' . $server->address())->actor(
            ['cluster_lock.prefix' => 'elsewhere:']
        );

        self::assertWarns($actor->try('cluster_lock', 'job', 0), 'cluster_lock', '"job"', '/NOPERM|permission/i');
        self::assertSame([], $server->client()->do('KEYS', '*'), 'Nothing was written');
    }

    /** The line that the README tells administrators to use. */
    private static function aclLine(): string
    {
        $readme = (string) file_get_contents(dirname(__DIR__, 2) . '/README.md');
        self::assertSame(1, preg_match('/ACL SETUSER cluster_lock .*/', $readme, $line), 'The README gives the rights');

        return preg_replace('/>\S+/', '>SECRET', $line[0]);
    }

    private static function assertSilentAbout(string $secret, Outcome $outcome): void
    {
        $said = $outcome->messages() . $outcome->thrown?->full . $outcome->thrown?->trace;
        self::assertStringNotContainsString($secret, $said, 'A password is a secret');
    }
}
