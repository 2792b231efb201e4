<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Lock;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;

/**
 * A name is 1 to 1024 arbitrary bytes, and no name reaches another.
 */
final class BinaryNamesTest extends TestCase
{
    private const NAMES = [
        'NUL' => "a\0b",
        'only NUL' => "\0",
        'braces' => 'x{y}z',
        'open brace' => '{',
        'empty braces' => '{}x',
        'closing first' => '}{',
        'UTF-8' => 'Schlüssel 🔑',
        'not UTF-8' => "\xff\xfe\x80",
        'line breaks' => "a\r\nSET x 1\r\n",
        'glob' => '*?[a-z]\\*^!',
        'blank' => ' ',
        'quotes' => "it's \"quoted\" `here` \$x",
        'percent' => '100%41',
        'colons' => 'a:q:w:m:b',
        'path' => '/srv/www/a.css',
        'number' => '0',
    ];

    /** @return iterable<string, array{Cluster, string}> */
    public static function names(): iterable
    {
        $names = self::NAMES + [
            'longest' => str_repeat("\x01{*é", 204) . '1024',
            'all bytes' => implode('', array_map('chr', range(0, 255))),
        ];
        foreach ($names as $what => $name) {
            foreach (Cluster::backends() as $backend => [$cluster]) {
                yield "$what on $backend" => [$cluster, $name];
            }
        }
    }

    /** @dataProvider names */
    public function testAnyBytesMakeALock(Cluster $cluster, string $name): void
    {
        [$alice, $bob] = $cluster->actors(2);
        self::assertTrue($alice->call('cluster_lock', $name, 0), 'Any name can be locked');
        self::assertFalse($bob->call('cluster_lock', $name, 0), 'and excludes');
        self::assertSame(
            $name,
            $bob->call('cluster_lock_info', $name)['name'] ?? null,
            'cluster_lock_info() tells its bytes'
        );
        self::assertSame(
            [$name],
            array_column($bob->call('cluster_lock_list'), 'name'),
            'cluster_lock_list() tells its bytes'
        );
        $prefix = substr($name, 0, 1);
        self::assertSame(
            [$name],
            array_column($bob->call('cluster_lock_list', $prefix), 'name'),
            'It is found by its first byte'
        );
        self::assertIsInt($alice->call('cluster_lock_fence', $name), 'It has a fence');

        $bob->begin('cluster_lock', $name, 20);
        $cluster->awaitWaiters($name, 1);
        self::assertTrue($alice->call('cluster_unlock', $name), 'It can be unlocked');
        self::assertTrue($bob->end(), 'and waited for');
        self::assertTrue($alice->call('cluster_lock_break', $name), 'and broken');
        self::assertNull($alice->call('cluster_lock_info', $name), 'and then is free');
    }

    /** @dataProvider backends */
    public function testNamesDoNotCollide(Cluster $cluster): void
    {
        $alice = $cluster->actor();
        $pairs = [
            'a',
            'A',
            "a\0",
            "a\0b",
            'a*',
            'a{',
            'a{b}',
            'a}',
            '{a}',
            'a%00',
            'a ',
            ' a',
            'a:q',
            'a:w',
            '100%41',
            '100A',
            'é',
            "e\u{301}",
        ];
        $pairs = array_unique([...$pairs, ...array_values(self::NAMES)]);
        foreach ($pairs as $name) {
            self::assertTrue(
                $alice->call('cluster_lock', $name, 0),
                'No other name stands in its way: ' . addcslashes($name, "\0..\37")
            );
        }
        foreach ($pairs as $name) {
            self::assertTrue(
                $alice->call('cluster_unlock', $name),
                'None was touched by another: ' . addcslashes($name, "\0..\37")
            );
            self::assertNull(
                $alice->call('cluster_lock_info', $name),
                'Now it is free: ' . addcslashes($name, "\0..\37")
            );
        }
    }

    /** @dataProvider backends */
    public function testAWarningIsOneLineWhateverTheName(Cluster $cluster): void
    {
        $message = $cluster->actor()->try('cluster_unlock', "a\n[error] forged \x1b[31m\0")->warning();

        self::assertDoesNotMatchRegularExpression('/[\x00-\x1f\x7f]/', $message, 'A name cannot forge a log line');
        self::assertStringContainsString('[error] forged', $message, 'What is printable stays readable');
    }
}
