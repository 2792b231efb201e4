<?php

// "open": reads a file several times, which earns a read delegation, and keeps it open. "change": opens it for
// writing, locks, writes, closes, and says how long each took.

declare(strict_types=1);

require __DIR__ . '/lab.php';

['variant' => $variant] = parameters();
say(['ready' => true]);
while (($words = await()) !== null) {
    [$action, $path, $name] = $words;
    if ($action === 'open') {
        for ($i = 0; $i < 3; $i++) {
            $kept = fopen($path, 'r');
            fread($kept, 100);
        }
        say(['open' => true]);
        continue;
    }
    $times = [hrtime(true)];
    $stream = fopen($path, 'r+');
    $times[] = hrtime(true);
    change_lock($variant, $stream, LOCK_EX, $name);
    fwrite($stream, "new\n");
    change_lock($variant, $stream, LOCK_UN, $name);
    fclose($stream);
    $times[] = hrtime(true);
    say(['open_ms' => ($times[1] - $times[0]) / 1e6, 'all_ms' => ($times[2] - $times[0]) / 1e6]);
}
