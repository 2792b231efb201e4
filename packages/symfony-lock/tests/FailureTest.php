<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests;

use ClusterLock\Symfony\Tests\Support\Application;
use ClusterLock\Symfony\Tests\Support\StoreTestCase;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\Until;
use Symfony\Component\Lock\Exception\InvalidArgumentException;
use Symfony\Component\Lock\Exception\InvalidTtlException;
use Symfony\Component\Lock\Exception\LockAcquiringException;
use Symfony\Component\Lock\Exception\LockReleasingException;
use Symfony\Component\Lock\Exception\LockStorageException;

/**
 * What goes wrong is told by Symfony's exceptions, with the extension's messages: which lock, which server, why.
 */
final class FailureTest extends StoreTestCase
{
    public function testAKilledHolderIsInTheWayForItsTtl(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = [new Application($cluster), new Application($cluster)];
        $alice->lock('job', 2.0)->acquire();
        $lock = $bob->lock('job');
        $lock->begin('acquire', true);
        $cluster->awaitWaiters('job', 1);
        $alice->actor->kill();

        self::assertTrue($bob->end(), 'The ttl of a dead holder runs out');
        $lock->release();
        $cluster->assertClean($alice->actor);
    }

    public function testAServerThatIsDownIsNamed(): void
    {
        $server = RedisServer::down();
        $app = new Application(Cluster::redis($server));
        foreach (['acquire', 'acquireRead'] as $acquire) {
            foreach ([false, true] as $blocking) {
                $message = self::assertThrows(
                    LockAcquiringException::class,
                    static fn () => $app->lock('job')->$acquire($blocking),
                    'The server is down'
                );
                self::assertStringContainsString(LockStorageException::class, $message, 'The cause comes before it');
                self::assertStringContainsString('"job"', $message, 'The lock is named');
                self::assertStringContainsString($server->address(), $message, 'The server is named');
            }
        }
        $key = $app->key('job');
        self::assertFalse($app->store()->exists($key), 'It was not stored');
        self::assertIsString($app->call('remote_serialize', $key), 'It holds nothing');
    }

    public function testAServerThatGoesAwayMeanwhile(): void
    {
        $server = RedisServer::own();
        $app = new Application(Cluster::redis($server));
        [$lock, $other] = [$app->lock('job', 30.0), $app->lock('other', 2.0)];
        $lock->acquire();
        $other->acquire();
        $server->kill();

        self::assertTrue($lock->isAcquired(), 'The lease goes on, and nobody else can get it');
        $message = self::assertThrows(
            LockAcquiringException::class,
            static fn () => $lock->refresh(60.0),
            'It cannot be put off'
        );
        self::assertStringContainsString(LockStorageException::class, $message, 'The cause comes before it');
        self::assertStringContainsString($server->address(), $message, 'The server is named');
        self::assertWithin(0.0, 30.0, $lock->getRemainingLifetime(), 'The lifetime is that of the lease it has');
        $message = self::assertThrows(
            LockReleasingException::class,
            static fn () => $lock->release(),
            'It cannot be given back'
        );
        self::assertStringContainsString($server->address(), $message, 'The server is named');
        self::assertStringContainsString('its lease runs out', $message, 'What comes of it is told');
        self::assertFalse($lock->isAcquired(), 'It is not used any more');
        Until::true(static fn () => !$other->isAcquired(), 'a lease should run out without the server as well');
        self::assertTrue($other->isExpired(), 'A lease runs out without the server as well');
    }

    public function testAWaitThatCouldOnlyDeadlockIsRefused(): void
    {
        $app = new Application(Cluster::redis(), ['renew' => true]);
        [$lock, $same] = [$app->lock('job'), $app->lock('job')];
        $lock->acquire();
        $message = self::assertThrows(
            LockAcquiringException::class,
            static fn () => $same->acquire(true),
            'Nobody but this request could release it'
        );

        self::assertStringContainsString('deadlock', $message, 'The cause is told');
        self::assertTrue($lock->isAcquired(), 'What is held stays as it is');
    }

    public function testAResourceThatIsNoNameIsRefused(): void
    {
        $app = new Application(Cluster::redis());
        foreach (['', str_repeat('x', 1025)] as $resource) {
            $key = $app->key($resource);
            self::assertThrows(
                InvalidArgumentException::class,
                static fn () => $app->store()->save($key),
                'Names have 1 to 1024 bytes'
            );
        }
        $binary = $app->lock("\0\xff" . str_repeat('x', 1022));
        self::assertTrue($binary->acquire(), 'any bytes');
    }

    /** @return array<string, array{array<string, mixed>, class-string<\Throwable>}> */
    public static function badOptions(): array
    {
        return [
            'no ttl' => [['initialTtl' => 0.0], InvalidTtlException::class],
            'a ttl too short' => [['initialTtl' => 0.05], InvalidTtlException::class],
            'a ttl too long' => [['initialTtl' => INF], InvalidTtlException::class],
            'no number' => [['initialTtl' => NAN], InvalidTtlException::class],
            'a negative time-out' => [['timeout' => -1.0], InvalidArgumentException::class],
            'no time-out' => [['timeout' => NAN], InvalidArgumentException::class],
        ];
    }

    /**
     * @dataProvider badOptions
     *
     * @param array<string, mixed>      $options
     * @param class-string<\Throwable> $exception
     */
    public function testBadOptionsAreRefused(array $options, string $exception): void
    {
        $app = new Application(Cluster::redis(), $options);

        self::assertThrows($exception, static fn () => $app->store(), 'It is refused');
    }

    public function testASettingThatCannotBeChangedIsTold(): void
    {
        $app = new Application(Cluster::redis(), [], ['disable_functions' => 'ini_set']);
        $message = self::assertThrows(
            LockAcquiringException::class,
            static fn () => $app->lock('job')->acquire(),
            'It would be renewed beyond its ttl'
        );
        self::assertStringContainsString('cluster_lock.auto_renew', $message, 'The setting is named');
        $renewed = new Application(Cluster::redis(), ['renew' => true], ['disable_functions' => 'ini_set']);

        self::assertTrue($renewed->lock('job')->acquire(), 'Here it is as it should be');
    }
}
