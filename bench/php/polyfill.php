<?php

declare(strict_types=1);

// What the polyfill costs beside the extension and phpredis by hand, in one run: a lock and its unlock, and the first lock of
// a request under opcache.
//
//   php -n -d extension=igbinary -d extension=redis bench/php/polyfill.php
//
// Needs redis-server, phpredis, and the extension in target/modules (script/build). Microseconds, medians of all rounds.

namespace Bench;

use ClusterLock\Polyfill\Redis\ScriptTexts;
use Redis;

const ROUNDS = 7;
const PAIRS = 2000;
const REQUESTS = 200;

$root = dirname(__DIR__, 2);
$bootstrap = "$root/packages/polyfill/bootstrap.php";

/** The median of what this takes, in nanoseconds. */
function median(int $times, callable $work): int
{
    $took = [];
    for ($i = 0; $i < $times; $i++) {
        $began = hrtime(true);
        $work();
        $took[] = hrtime(true) - $began;
    }
    sort($took);

    return $took[intdiv($times, 2)];
}

/** @return callable(): void the least that a lock by these scripts can cost */
function byHand(string $socket, string $root): callable
{
    require "$root/packages/polyfill/src/Redis/ScriptTexts.php";
    [[$acquire, $acquireSha], [$release, $releaseSha]] = [ScriptTexts::ALL['acquire'], ScriptTexts::ALL['release']];
    $redis = new Redis();
    $redis->connect($socket);
    $redis->script('load', $acquire);
    $redis->script('load', $release);

    return static function () use ($redis, $acquireSha, $releaseSha): void {
        $token = bin2hex(random_bytes(16));
        $rest = ['X', '10000', 'Q', '0', '{"n":"host","p":1}', '70000'];
        $redis->rawCommand('EVALSHA', $acquireSha, '1', 'by-hand{job}', $token, ...$rest);
        $redis->rawCommand('EVALSHA', $releaseSha, '1', 'by-hand{job}', $token);
    };
}

if (isset($argv[2])) {
    [, $who, $socket] = $argv;
    $pair = $who === 'by hand' ? byHand($socket, $root) : static function (): void {
        cluster_lock('job') && cluster_unlock('job') || exit(1);
    };
    median(200, $pair);
    echo median(PAIRS, $pair);
    exit;
}
if (PHP_SAPI === 'cli-server') {
    $began = hrtime(true);
    require $bootstrap;
    cluster_lock('job') || exit(1);
    echo hrtime(true) - $began;

    return;
}

$directory = sys_get_temp_dir() . '/bench-polyfill-' . getmypid();
mkdir($directory);
$socket = "$directory/redis.sock";
$quiet = [['file', '/dev/null', 'r'], ['file', '/dev/null', 'w'], ['file', '/dev/null', 'w']];
$server = proc_open(['redis-server', '--port', '0', '--unixsocket', $socket, '--save', '', '--dir', $directory], $quiet, $p);
while (!file_exists($socket)) {
    usleep(1000);
}
$php = [PHP_BINARY, '-n', '-d', 'extension=igbinary', '-d', 'extension=redis', '-d', "cluster_lock.dsn=redis+unix://$socket"];
$contestants = [
    'by hand' => [],
    'extension' => ['-d', "extension=$root/target/modules/cluster_lock.so"],
    'polyfill' => ['-d', "auto_prepend_file=$bootstrap"],
];
$took = [];
for ($round = 0; $round < ROUNDS; $round++) {
    foreach ($contestants as $who => $options) {
        $command = array_map(escapeshellarg(...), [...$php, ...$options, __FILE__, $who, $socket]);
        $took[$who][] = (int) shell_exec(implode(' ', $command)) / 1000;
    }
}
foreach ($took as $who => $medians) {
    sort($medians);
    $took[$who] = $medians[intdiv(ROUNDS, 2)];
    printf("lock + unlock, %-10s %7.1f us  %4.1f x by hand\n", $who, $took[$who], $took[$who] / $took['by hand']);
}

$opcache = ['-d', 'zend_extension=opcache', '-d', 'opcache.enable=1'];
$port = random_int(20_000, 30_000);
$web = proc_open([...$php, ...$opcache, '-S', "127.0.0.1:$port", __FILE__], $quiet, $p);
$first = [];
while (count($first) < REQUESTS) {
    $answer = @file_get_contents("http://127.0.0.1:$port/");
    if ($answer === false) {
        usleep(10_000);
        continue;
    }
    $first[] = (int) $answer / 1000;
}
sort($first);
printf("first lock of a request, polyfill under opcache %7.1f us\n", $first[intdiv(REQUESTS, 2)]);
foreach ([$web, $server] as $process) {
    proc_terminate($process);
    proc_close($process);
}
array_map(unlink(...), glob("$directory/*") ?: []);
rmdir($directory);
