<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * `local:` is one for all processes of a user on a machine, whatever their php.ini says and hides.
 */
final class LocalMachineTest extends TestCase
{
    /** Longer than any test: whoever gets in did not wait for the end of a lease. */
    private const TTL = ['cluster_lock.ttl' => '600'];

    public function testProcessesThatMayNotLookAtTheMachineAreKeptOutAndKeepOut(): void
    {
        $directory = TempDir::forTest();
        $sides = self::allSides(Cluster::at("local://$directory"), $directory);
        $fence = 0;
        foreach ($sides as $first => $holder) {
            foreach ($sides as $second => $other) {
                if ($holder === $other) {
                    continue;
                }
                self::assertTrue($holder->call('cluster_lock', 'job', 0), "$first before $second: it is free");
                self::assertFalse($other->call('cluster_lock', 'job', 0), "$first holds it, and not $second");
                self::assertFalse($other->run('return (new ClusterLock("job", LOCK_SH))->acquire(0);'));
                self::assertSame($holder->pid(), $other->call('cluster_lock_info', 'job')['holders'][0]['pid']);
                self::assertGreaterThan($fence, $fence = $holder->call('cluster_lock_fence', 'job'), 'One series');
                self::assertTrue($holder->call('cluster_unlock', 'job'), "$first held it throughout, beside $second");
            }
        }
    }

    public function testWhatOneOfThemHoldsIsLeftAloneByAThirdAfterTheOtherHasLooked(): void
    {
        $directory = TempDir::forTest();
        $sides = self::allSides(Cluster::at("local://$directory"), $directory);
        // A record of an earlier boot, in which somebody holds the lock.
        $sides['extension']->call('cluster_lock', 'job', 0);
        [$record] = glob("$directory/*.lock");
        $old = preg_replace('/"boot":"[^"]*"/', '"boot":"an earlier one"', file_get_contents($record));
        file_put_contents($record, $old);
        self::assertFalse($sides['restricted']->call('cluster_lock', 'job', 0), 'Who cannot know leaves it as it is');
        self::assertTrue($sides['polyfill']->call('cluster_lock', 'job', 0), 'Who knows sees that it is over');
        file_put_contents($record, $old);

        self::assertTrue($sides['extension']->call('cluster_lock', 'job', 0), 'as does the extension');
    }

    public function testTheDefaultDirectoryDependsOnNoSetting(): void
    {
        $elsewhere = TempDir::forTest();
        // It is one for all on this machine: others may test there, too.
        $name = 'test of the default directory ' . bin2hex(random_bytes(8));
        $plain = Cluster::at('local:');
        $before = getenv('TMPDIR');
        $sides = [
            'extension' => Sides::extension($plain),
            'polyfill' => Sides::polyfill($plain, 'phpredis'),
            'sys_temp_dir' => Sides::polyfill($plain, 'phpredis', ['sys_temp_dir' => $elsewhere]),
        ];
        putenv("TMPDIR=$elsewhere");
        try {
            $sides['extension in TMPDIR'] = Sides::extension($plain);
            $sides['polyfill in TMPDIR'] = Sides::polyfill($plain, 'phpredis');
        } finally {
            putenv($before === false ? 'TMPDIR' : "TMPDIR=$before");
        }
        foreach ($sides as $who => $holder) {
            self::assertTrue($holder->call('cluster_lock', $name, 0), "$who: it is free");
            foreach ($sides as $whom => $other) {
                $told = $other->call('cluster_lock_info', $name)['holders'][0]['pid'] ?? null;
                self::assertSame($holder->pid(), $told, "$whom knows that $who has it");
            }
            self::assertTrue($holder->call('cluster_unlock', $name));
        }
        self::assertSame([], glob("$elsewhere/cluster_lock*"), 'Nothing is anywhere else');
    }

    /** Shared hosting: neither the extension posix nor /proc can be had. */
    public function testTheUserIsKnownWithoutPosixAndProc(): void
    {
        $directory = TempDir::forTest();
        $cluster = Cluster::at("local://$directory");
        $actor = self::restricted($cluster, $directory, ['disable_functions' => 'posix_geteuid,posix_getpid']);

        self::assertTrue($actor->call('cluster_lock', 'job', 0));
        self::assertFalse(Sides::extension($cluster)->call('cluster_lock', 'job', 0));
        self::assertTrue($actor->call('cluster_unlock', 'job'));
    }

    /** @return array<string, Actor> */
    private static function allSides(Cluster $cluster, string $directory): array
    {
        return [
            'restricted' => self::restricted($cluster, $directory),
            'extension' => Sides::extension($cluster, self::TTL),
            'polyfill' => Sides::polyfill($cluster, 'phpredis', self::TTL),
        ];
    }

    /** @param array<string, string> $settings */
    private static function restricted(Cluster $cluster, string $directory, array $settings = []): Actor
    {
        $open = $directory . ':' . dirname(__DIR__, 3) . '/php-tests';
        $actor = Sides::polyfill($cluster, 'phpredis', $settings + self::TTL + ['open_basedir' => $open]);
        $hidden = $actor->run('return !@is_readable("/proc/uptime") && !@is_readable("/proc/sys/kernel/random/boot_id");');
        self::assertTrue($hidden, 'open_basedir hides the machine');

        return $actor;
    }
}
