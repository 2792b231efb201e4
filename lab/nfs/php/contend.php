<?php

// One of several processes that want the same lock again and again. Every wait goes to a log line by line, so that
// it is known even when this process is ended while it waits: "asked" alone, then "got" and "released".

declare(strict_types=1);

require __DIR__ . '/lab.php';

['variant' => $variant, 'path' => $path, 'name' => $name, 'log' => $log, 'seed' => $seed] = $given = parameters();
mt_srand($seed);
$stream = fopen($path, 'c+');
$taken = 0;
$log = fopen($log, 'w');
say(['ready' => true]);
[$start, $end] = array_map(intval(...), await());
sleep_until($start);
while (hrtime(true) < $end) {
    fwrite($log, hrtime(true) . ' ');
    change_lock($variant, $stream, LOCK_EX, $name);
    $taken++;
    $got = hrtime(true);
    usleep($given['hold_ms'] * 1000);
    $released = hrtime(true);
    change_lock($variant, $stream, LOCK_UN, $name);
    fwrite($log, "$got $released\n");
    usleep((int) ($given['gap_ms'] * 1000 * (0.5 + mt_rand() / mt_getrandmax())));
}
say(['not_ours' => not_ours($variant, $taken)]);
