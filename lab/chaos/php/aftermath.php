<?php

// When everything has ended: whether every lock can be had, and which files are left. php aftermath.php ROOM

declare(strict_types=1);

[, $room] = $argv;
$names = json_decode(file_get_contents("$room/names.json"), true);
$files = array_filter(glob("$room/files/*"), is_file(...));
foreach ($files as $file) {
    $names[] = "file:$file";
}
$report = ['waited' => [], 'held' => [], 'messages' => []];
set_error_handler(function (int $level, string $message) use (&$report): bool {
    $report['messages'][] = $message;

    return true;
});
foreach ($names as $name) {
    $began = hrtime(true);
    $report['waited'][$name] = cluster_lock($name, 20) ? (hrtime(true) - $began) / 1e9 : null;
    cluster_unlock($name);
}
$report['held'] = cluster_lock_list();
// Temporary files of dead writers are stale after an hour, and removed by the next writes in their directory.
foreach (glob("$room/files/.*.cluster_lock.tmp") as $file) {
    touch($file, time() - 7200);
}
foreach ($files as $file) {
    cluster_file_put_contents($file, file_get_contents($file));
}
echo json_encode($report);
