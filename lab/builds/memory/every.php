<?php

// Every function and method, with success and with failure, for a tool that watches memory: php every.php FOLDER

declare(strict_types=1);

require __DIR__ . '/check.php';

/** The class of what it throws; its other outcomes do not matter. */
function outcome(callable $call): ?string
{
    try {
        @$call();
    } catch (Throwable $e) {
        // Making the text walks the whole object.
        return strlen((string) $e) > 0 ? $e::class : null;
    }

    return null;
}

$folder = $argv[1];
$file = "$folder/file";

for ($round = 1; $round <= 20; $round++) {
    check(cluster_lock('job', 5), 'lock');
    check(cluster_lock('job', 5), 'again');
    check(cluster_lock_fence('job') > 0, 'fence');
    check(cluster_lock_info('job')['fence'] > 0, 'info');
    check(count(cluster_lock_list('jo')) === 1, 'list');
    check(cluster_lock_status()['held'] !== [], 'status');
    check(cluster_unlock('job') && cluster_unlock('job'), 'unlock');
    check(!@cluster_unlock('job'), 'not held any more');
    check(cluster_lock("shared \0 \xff", 5, LOCK_SH, 30.0) && cluster_unlock("shared \0 \xff"), 'bytes for a name');
    check(cluster_synchronized('job', static fn () => str_repeat('x', 1000)) !== '', 'synchronized');
    check(outcome(static fn () => cluster_synchronized('job', static fn () => throw new Error('mine'))) === 'Error', 'its error');
    check(cluster_coalesced('job', static fn () => str_repeat('x', 1000)), 'coalesced');
    check(!cluster_coalesced('job', static fn () => false), 'its failure');
    check(!@cluster_coalesced('job', static fn () => yield 1), 'a generator');
    check(outcome(static fn () => cluster_coalesced('job', static fn () => throw new Error('mine'))) === 'Error', 'its error');

    $lock = new ClusterLock('object', LOCK_EX, 30.0);
    check($lock->acquire(5.0) && $lock->isHeld() && $lock->remaining() > 0 && $lock->fence() > 0, 'object');
    $lock->refresh(20.0);
    $other = new ClusterLock('object');
    check(outcome(static fn () => $other->acquire(5.0)) === ClusterLockException::class, 'taken by this request itself');
    check(outcome(static fn () => $other->release()) === ClusterLockException::class, 'not held');
    check(cluster_lock_break('object'), 'break');
    check(outcome(static fn () => $lock->release()) === ClusterLockLostException::class, 'lost');
    check(outcome(static fn () => clone $lock) === 'Error', 'no clone');
    check(outcome(static fn () => serialize($lock)) === 'Exception', 'no serialize');
    var_export($other, true);
    unset($lock, $other);
    $cycle = new ClusterLock('cycle');
    $cycle->acquire(5);
    $holder = (object) ['lock' => $cycle];
    $holder->self = $holder;
    unset($cycle, $holder);
    gc_collect_cycles();

    check(cluster_file_build("$file.built", static fn () => str_repeat('x', 1000)), 'build');
    check(!cluster_file_build("$file.built", static fn () => false, [$file, "$file.no"]), 'its failure');
    check(!@cluster_file_build("$file.built", static fn () => 1), 'no string');
    check(outcome(static fn () => cluster_file_build("$file.built", static fn () => throw new Error('mine'))) === 'Error', 'its error');
    check(cluster_file_build("$file.built", static fn () => '', [new SplFileInfo('/proc')]) , 'fresh or not');

    check(cluster_file_put_contents($file, str_repeat('data', 5000)) === 20000, 'write');
    check(cluster_file_put_contents($file, ['a', 'b', 3]) === 3, 'array');
    check(cluster_file_put_contents($file, 'more', FILE_APPEND | LOCK_EX) === 4, 'append');
    check(@cluster_file_put_contents($file, 'x', 0, 'named') === false, 'a lock that is not held');
    check(cluster_lock('named', 5), 'lock');
    check(cluster_file_put_contents($file, fopen('data:,stream', 'rb'), 0, 'named') === 6, 'stream, under a lock');
    cluster_unlock('named');
    check(@cluster_file_put_contents("$folder/none/file", 'x') === false, 'no such folder');
    cluster_clearstatcache($file);
    $stream = fopen($file, 'c+b');
    check(cluster_flock($stream, LOCK_EX) && cluster_flock($stream, LOCK_SH) && cluster_flock($stream, LOCK_UN), 'flock');
    check(flock($stream, LOCK_EX | LOCK_NB, $blocks) && flock($stream, LOCK_UN), 'intercepted flock');
    check(cluster_flock($stream, LOCK_EX), 'left to the close');
    fclose($stream);
    file_put_contents($file, 'intercepted', LOCK_EX);

    foreach ([-1.0, NAN] as $timeout) {
        check(outcome(static fn () => cluster_lock('job', $timeout)) === 'ValueError', 'a wrong time');
    }
    check(outcome(static fn () => cluster_lock('')) === 'ValueError', 'no name');
    check(outcome(static fn () => cluster_lock([])) === 'TypeError', 'no string');
    check(outcome(static fn () => new ClusterLock('x', 99)) === 'ValueError', 'no mode');
}

// What is held at the end is given back by the end of the request: of each kind one.
check(cluster_lock('left', 5), 'left');
$left = new ClusterLock('left object');
$left->acquire(5);
$stream = fopen($file, 'c+b');
cluster_flock($stream, LOCK_EX);
echo "every function: done\n";
