<?php

// One request of php-tests/fixtures/embed.c: a counter that all threads count up, and every way to leave a lock behind.

declare(strict_types=1);

$counter = getenv('CLUSTER_LOCK_COUNTER');
cluster_lock('counter', 120) || exit(1);
$turn = 1 + (int) file_get_contents($counter);
// Half of them through the file's replacement, which every thread has to see.
$turn % 2 ? file_put_contents($counter, (string) $turn) : cluster_file_put_contents($counter, (string) $turn);
cluster_unlock('counter') || exit(2);

$mine = "own $turn";
cluster_lock($mine, 0) || exit(3);
$object = new ClusterLock("object $turn", LOCK_EX, 0.3);
$object->acquire(0) || exit(4);
if ($turn % 50 === 0) {
    // Beyond the lease: the one renewal thread serves all threads.
    usleep(600_000);
    $object->isHeld() || exit(5);
}
$stream = fopen("$counter.lock", 'c');
cluster_flock($stream, LOCK_SH) || exit(6);
switch ($turn % 4) {
    case 0:
        break;
    case 1:
        exit(0);
    case 2:
        cluster_synchronized('job', static fn () => 1, 120);
        break;
    default:
        try {
            $locked = cluster_lock('counter', -1.0);
        } catch (ValueError) {
            // What was thrown through our code is freed by this thread, too.
        }
}
