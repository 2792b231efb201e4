<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * The end of a request whose shutdown functions, destructors and output callbacks go their own ways: the locks are there as
 * long as anybody may use them, and then free.
 */
final class RequestEndTest extends TestCase
{
    private const KEEP = 'final class Keep { public static $all = []; }
        class Last { public function __construct(private $do) {} public function __destruct() { ($this->do)(); } }';

    /** @return array<string, array{string, int, string}> code that locks "job", its exit code, what it says */
    public static function ends(): array
    {
        $lock = 'cluster_lock("job", 0) || say("not free");';
        $held = 'say(cluster_lock_fence("job") !== null);';

        return [
            'another shutdown function exits' => ["$lock register_shutdown_function(static fn () => exit(3));", 3, ''],
            'one that was registered before exits' => [
                "register_shutdown_function(static fn () => exit(3)); $lock",
                3,
                '',
            ],
            'another shutdown function throws' => [
                "$lock register_shutdown_function(static fn () => throw new Exception('mine'));",
                255,
                '',
            ],
            'one that is registered by one that is registered by one' => [
                "$lock \$last = static function () { $held };"
                    . 'register_shutdown_function(static fn () => register_shutdown_function('
                    . 'static fn () => register_shutdown_function(static fn () => register_shutdown_function($last))));',
                0,
                "true\n",
            ],
            'the first lock is taken by a global destructor' => ["\$o = new Last(static function () { $lock });", 0, ''],
            'the first lock is taken by a destructor of a static' => [
                "Keep::\$all[] = new Last(static function () { $lock });",
                0,
                '',
            ],
            'the first lock is taken by a shutdown function that exits' => [
                "register_shutdown_function(static function () { $lock exit(3); });",
                3,
                '',
            ],
            'a destructor still has what was locked before' => [
                "Keep::\$all[] = new Last(static function () { $held }); $lock",
                0,
                "true\n",
            ],
            'so has one of an object that is younger than all' => [
                "$lock register_shutdown_function(static fn () => Keep::\$all[] = new Last(static function () {"
                    . "$held Keep::\$all[] = new Last(static function () { $held }); }));",
                0,
                "true\ntrue\n",
            ],
            'a lock is older than the object that uses it' => [
                '$lock = new ClusterLock("job"); $lock->acquire(0); Keep::$all[] = $lock;'
                    . 'Keep::$all[] = new Last(static function () use ($lock) { say($lock->isHeld()); $lock->release(); });'
                    . 'unset($lock);',
                0,
                "true\n",
            ],
            'it is not given back by the one that uses it' => [
                '$lock = new ClusterLock("job"); $lock->acquire(0); Keep::$all[] = $lock;'
                    . 'Keep::$all[] = new Last(static function () use ($lock) { say($lock->isHeld()); }); unset($lock);',
                0,
                "true\n",
            ],
            'one that holds nothing is there for a destructor, too' => [
                '$lock = new ClusterLock("job"); Keep::$all[] = $lock;'
                    . 'Keep::$all[] = new Last(static function () use ($lock) {'
                    . 'say($lock->isHeld()); say($lock->acquire(0)); }); unset($lock);',
                0,
                "false\ntrue\n",
            ],
            'who destroys a lock in a destructor has given it back' => [
                'Keep::$all[] = new Last(static function () { unset(Keep::$all["lock"]);'
                    . 'say(cluster_lock_info("job") === null); });'
                    . 'Keep::$all["lock"] = new ClusterLock("job"); Keep::$all["lock"]->acquire(0);',
                0,
                "true\n",
            ],
            'a global lock is gone before a destructor takes it' => [
                '$lock = new ClusterLock("job"); $lock->acquire(0);'
                    . 'Keep::$all[] = new Last(static function () { say((new ClusterLock("job"))->acquire(0)); });',
                0,
                "true\n",
            ],
            'an output callback locks and unlocks' => [
                "ob_start(static function (string \$out): string { $lock cluster_unlock('job'); return \$out; });",
                0,
                '',
            ],
        ];
    }

    /** @dataProvider ends */
    public function testNoLockIsLeftAndNoneGoesTooEarly(string $code, int $exitCode, string $said): void
    {
        foreach (Cluster::backends() as $backend => [$cluster]) {
            $process = Sides::process('phpredis', self::KEEP . $code, $cluster->settings(['cluster_lock.ttl' => '60']));

            self::assertSame($exitCode, $process->wait(), "$backend: " . $process->transcript());
            self::assertSame($said, $process->output(), "$backend: " . $process->transcript());
            self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'All is free');
        }
    }

    public function testADeploymentMayRemoveThePackageMeanwhile(): void
    {
        $package = TempDir::forTest() . '/release';
        exec('cp -r ' . escapeshellarg(dirname(__DIR__)) . ' ' . escapeshellarg($package), result_code: $code);
        self::assertSame(0, $code);
        foreach (Cluster::backends() as $backend => [$cluster]) {
            foreach (Sides::clients() as $client) {
                $file = TempDir::forTest() . '/file';
                $use = $client === 'predis' ? 'require_once "Predis/autoload.php";' : '';
                $settings = [];
                foreach ($cluster->settings(['cluster_lock.client' => $client]) as $name => $value) {
                    $settings[substr($name, strlen('cluster_lock.'))] = $value;
                }
                $process = Sides::process($client, sprintf(
                    $use . <<<'PHP'
                    set_error_handler(static function (int $level, string $message): bool {
                        say($message);
                        return true;
                    });
                    require '%1$s/bootstrap.php';
                    ClusterLock\Polyfill\configure(unserialize('%2$s'));
                    $h = fopen('%3$s', 'c+');
                    $o = new ClusterLock('object');
                    cluster_lock('broken') && cluster_lock('kept') && cluster_flock($h, LOCK_EX) && $o->acquire();
                    cluster_lock('free');
                    say('ready');
                    hear();
                    say(cluster_unlock('broken'));
                    say(cluster_unlock('unknown'));
                    say(cluster_unlock('free'));
                    PHP,
                    $package,
                    serialize($settings),
                    $file
                ), ['polyfill.off' => '1']);
                $process->expect('ready');
                $cluster->observer()->call('cluster_lock_break', 'broken');
                rename($package, "$package.old");
                $process->tell('go on');

                self::assertSame(0, $process->wait(), "$backend: " . $process->transcript());
                self::assertSame(
                    "ready\ncluster_unlock(): Lock \"broken\": was lost before it was released: it was broken by an "
                        . "administrator (cluster_lock_break)\nfalse\n"
                        . "cluster_unlock(): Lock \"unknown\": is not held by this request\nfalse\ntrue\n",
                    $process->output(),
                    "$backend: " . $process->transcript()
                );
                self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'All is free');
                rename("$package.old", $package);
            }
        }
    }
}
