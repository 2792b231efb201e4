<?php

// Repeats one idiom, in competition with the same program on the other node.

declare(strict_types=1);

require __DIR__ . '/lab.php';
spl_autoload_register(static fn (string $class) => require __DIR__ . "/idioms/$class.php");

$given = parameters();
mt_srand(ord($given['node']));
$idiom = new $given['idiom']($given['variant'], $given['node'], $given['path'], $given['name']);
say(['ready' => true]);
await();
for ($i = 0; $i < $given['steps']; $i++) {
    $idiom->step($i);
}
say(['wrong_reads' => $idiom->wrongReads, 'example' => $idiom->example,
    'not_ours' => not_ours($given['variant'], $idiom->taken)]);
