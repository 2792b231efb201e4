<?php

// A process that lives for some time and ends in some way.
//   php worker.php ROOM WHO SEED ACTIONS    (0: until the run ends, in an orderly way)

declare(strict_types=1);

use ClusterLock\Chaos\Actor;
use ClusterLock\Chaos\History;

require __DIR__ . '/load.php';

[, $room, $who, $seed, $actions] = $argv;
mt_srand((int) $seed);
$history = new History("$room/history", $who);
$actor = new Actor($history, $room, (int) (getenv('CLUSTER_LOCK_CHAOS_HOARDS') ?: 1));
if (getenv('CLUSTER_LOCK_CHAOS_INTERRUPTS') === '1') {
    ClusterLock\Chaos\interrupt($history);
}
for ($done = 0; (int) $actions === 0 || $done < (int) $actions; $done++) {
    clearstatcache();
    if (file_exists("$room/stop")) {
        break;
    }
    $actor->act();
}
if ((int) $actions !== 0) {
    $actor->leave();
    $actor->end();
}
