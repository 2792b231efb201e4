<?php

// One half of a hand-off: the holder takes the lock and gives it back when told; the waiter waits for it meanwhile.
// Both report when: "released" is the moment before the call that unlocks, "got" the one after the call that locks.

declare(strict_types=1);

require __DIR__ . '/lab.php';

['variant' => $variant, 'role' => $role, 'path' => $path, 'name' => $name] = parameters();
say(['ready' => true]);
while (await() !== null) {
    $stream = fopen($path, 'c+');
    if ($role === 'holder') {
        change_lock($variant, $stream, LOCK_EX, $name);
        say(['held' => hrtime(true)]);
        [$until] = await();
        sleep_until((int) $until);
        say(['released' => hrtime(true)]);
        change_lock($variant, $stream, LOCK_UN, $name);
    } else {
        say(['waiting' => hrtime(true)]);
        change_lock($variant, $stream, LOCK_EX, $name);
        say(['got' => hrtime(true)]);
        change_lock($variant, $stream, LOCK_UN, $name);
    }
    fclose($stream);
}
