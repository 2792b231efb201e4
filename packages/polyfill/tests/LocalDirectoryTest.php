<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * What idle locks leave in the directory of `local:`.
 */
final class LocalDirectoryTest extends TestCase
{
    public function testItIsLookedThroughOnceAMinuteAndNotForEachNewName(): void
    {
        $dir = TempDir::forTest() . '/locks';
        $actor = Sides::polyfill(Cluster::at("local://$dir"), 'phpredis');
        self::takeAndGiveBack($actor, 'first');
        $left = glob("$dir/*.lock");
        self::assertCount(1, $left, 'An idle lock leaves a file');
        self::age($left[0]);

        self::takeAndGiveBack($actor, 'second');
        self::assertFileExists($left[0], 'The first name has looked through it');
        self::age("$dir/swept");
        self::takeAndGiveBack($actor, 'third');
        self::assertFileDoesNotExist($left[0], 'That was a minute ago');
        self::assertCount(2, glob("$dir/*.lock"), 'The others are young');
    }

    private static function takeAndGiveBack(Actor $actor, string $name): void
    {
        self::assertTrue($actor->call('cluster_lock', $name, 0));
        self::assertTrue($actor->call('cluster_unlock', $name));
    }

    private static function age(string $file): void
    {
        self::assertTrue(touch($file, time() - 3600));
    }
}
