<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests;

use ClusterLock\Symfony\Tests\Support\Application;
use ClusterLock\Symfony\Tests\Support\StoreTestCase;
use ClusterLock\Tests\Support\Cluster;
use Symfony\Component\Lock\Exception\UnserializableKeyException;

/**
 * What symfony/lock expects of every store, and of one that shares and blocks.
 */
final class ContractTest extends StoreTestCase
{
    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testAKeyIsStoredFromSaveToDelete(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        [$store, $key] = [$app->store(), $app->key('job')];

        self::assertFalse($store->exists($key), 'A new key holds nothing');
        $store->save($key);
        self::assertTrue($store->exists($key), 'It was saved');
        $cluster->assertHeld('job', 'It was saved');
        $store->delete($key);
        self::assertFalse($store->exists($key), 'It was deleted');
        $cluster->assertFree('job', 'It was deleted');
        $store->delete($key);
        self::assertFalse($store->exists($key), 'Deleting again does nothing');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testResourcesAreIndependent(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        [$store, $a, $b] = [$app->store(), $app->key('a'), $app->key('b')];
        $store->save($a);
        self::assertFalse($store->exists($b), 'Only a is stored');
        $store->delete($b);
        self::assertTrue($store->exists($a), 'Deleting b does nothing to a');
        $store->save($b);
        $store->delete($a);

        self::assertFalse($store->exists($a), 'a is gone');
        self::assertTrue($store->exists($b), 'b is still there');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testTwoKeysOfOneResourceExcludeEachOther(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        [$store, $first, $second] = [$app->store(), $app->key('job'), $app->key('job')];
        $store->save($first);

        self::assertConflict(static fn () => $store->save($second), 'The first has it');
        self::assertTrue($store->exists($first), 'A failed attempt changes nothing');
        self::assertFalse($store->exists($second), 'The second has nothing');
        $store->delete($second);
        self::assertTrue($store->exists($first), 'The second cannot give back what the first holds');
        $store->delete($first);
        $store->save($second);
        self::assertFalse($store->exists($first), 'The first has given it back');
        self::assertTrue($store->exists($second), 'The second has it now');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testProcessesExcludeEachOther(Cluster $cluster, array $options): void
    {
        [$alice, $bob] = [new Application($cluster, $options), new Application($cluster, $options)];
        [$hers, $his] = [$alice->key('job'), $bob->key('job')];
        $alice->store()->save($hers);

        self::assertConflict(static fn () => $bob->store()->save($his), 'Another process has it');
        self::assertConflict(static fn () => $bob->store()->saveRead($his), 'also for readers');
        $alice->store()->delete($hers);
        $bob->store()->save($his);
        self::assertTrue($bob->store()->exists($his), 'Then it is free');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testAKeyIsSavedAgain(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        [$store, $key] = [$app->store(), $app->key('job')];
        $store->save($key);
        $store->save($key);
        self::assertTrue($store->exists($key), 'It is stored still');
        $store->delete($key);

        $cluster->assertFree('job', 'One delete is enough');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testReadersShare(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        [$store, $a, $b, $writer] = [$app->store(), $app->key('job'), $app->key('job'), $app->key('job')];
        $store->saveRead($a);
        $store->saveRead($b);
        self::assertTrue($store->exists($a) && $store->exists($b), 'Both read');
        self::assertConflict(static fn () => $store->save($writer), 'Nobody writes meanwhile');
        self::assertTrue($store->exists($a) && $store->exists($b), 'A failed attempt changes nothing');
        $store->delete($a);
        self::assertFalse($store->exists($a), 'The first has gone');
        self::assertConflict(static fn () => $store->save($writer), 'One reader is left');
        $store->delete($b);
        $store->save($writer);

        self::assertConflict(static fn () => $store->saveRead($a), 'Nobody reads while somebody writes');
        self::assertTrue($store->exists($writer), 'The writer has it');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testTheOnlyReaderIsPromoted(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        [$store, $key, $other] = [$app->store(), $app->key('job'), $app->key('job')];
        $store->saveRead($key);
        $store->save($key);

        self::assertConflict(static fn () => $store->saveRead($other), 'It is exclusive now');
        self::assertTrue($store->exists($key), 'and held');
        $store->delete($key);
        $store->saveRead($other);
        self::assertFalse($store->exists($key), 'Nothing of it remains');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testOneOfTwoReadersIsNotPromotedAndGoesOnReading(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        [$store, $a, $b] = [$app->store(), $app->key('job'), $app->key('job')];
        $store->saveRead($a);
        $store->saveRead($b);
        self::assertConflict(static fn () => $store->save($a), 'The other one reads');

        self::assertTrue($store->exists($a) && $store->exists($b), 'Both still read');
        $store->delete($b);
        $store->save($a);
        self::assertSame('exclusive', $cluster->info('job')['mode'], 'Then there is nobody in the way');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testAWriterIsDemoted(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        [$store, $key, $other] = [$app->store(), $app->key('job'), $app->key('job')];
        $store->save($key);
        $store->saveRead($key);
        $store->saveRead($other);

        self::assertTrue($store->exists($key) && $store->exists($other), 'Both read');
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testAKeyThatHoldsALockIsNotSerialised(Cluster $cluster, array $options): void
    {
        $app = new Application($cluster, $options);
        $key = $app->key('job');
        self::assertIsString($app->call('remote_serialize', $key), 'Before it holds anything a key can be serialised');
        $app->store()->save($key);

        self::assertThrows(
            UnserializableKeyException::class,
            static fn () => $app->call('remote_serialize', $key),
            'A lock belongs to its process'
        );
    }

    /**
     * @dataProvider stores
     *
     * @param array<string, mixed> $options
     */
    public function testAWaiterIsServedWhenTheLockIsDeleted(Cluster $cluster, array $options): void
    {
        [$alice, $bob] = [new Application($cluster, $options), new Application($cluster, $options)];
        [$hers, $his] = [$alice->key('job'), $bob->key('job')];
        $alice->store()->save($hers);
        $bob->store()->begin('waitAndSave', $his);
        $cluster->awaitWaiters('job', 1);
        self::assertFalse($bob->actor->isDone(), 'It is held');
        $alice->store()->delete($hers);
        $bob->end();

        self::assertTrue($bob->store()->exists($his), 'The waiter has it now');
        $alice->store()->begin('waitAndSaveRead', $hers);
        $cluster->awaitWaiters('job', 1);
        $bob->store()->delete($his);
        $alice->end();
        self::assertSame('shared', $cluster->info('job')['mode'], 'Readers wait as well');
    }
}
