<?php

// One request of php-fpm: some actions, then an end of some kind. ?room=…&seed=…&request=…

declare(strict_types=1);

use ClusterLock\Chaos\Actor;
use ClusterLock\Chaos\History;

require __DIR__ . '/load.php';

$room = $_GET['room'];
mt_srand((int) $_GET['seed']);
$history = new History("$room/history", 'fpm-' . getmypid());
$history->tell('request', ['request' => $_GET['request']]);
$actor = new Actor($history, $room);
for ($n = mt_rand(1, 4); $n > 0; $n--) {
    $actor->act();
}
$actor->leave();
$actor->end();
