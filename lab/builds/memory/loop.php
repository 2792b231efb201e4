<?php

// A million locks in one process: php loop.php TURNS

declare(strict_types=1);

require __DIR__ . '/check.php';

$turns = (int) $argv[1];
$early = null;
$start = hrtime(true);
for ($i = 1; $i <= $turns; $i++) {
    // Few names, and many: the tables that know them must forget them.
    $name = $i % 2 ? 'job' : "job $i";
    cluster_lock($name, 10) || check(false, "lock $i");
    cluster_unlock($name) || check(false, "unlock $i");
    if ($i % 10 === 0) {
        $lock = new ClusterLock('object');
        $lock->acquire(10);
        unset($lock);
    }
    if ($i === intdiv($turns, 10)) {
        $early = size_of_process();
    }
}
printf("%d locks in %.0f s\n", $turns, (hrtime(true) - $start) / 1e9);
check_growth($early, size_of_process(), 1.05);
check(cluster_lock_status()['held'] === [], 'nothing is held');
