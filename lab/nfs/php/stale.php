<?php

// What one node knows of a file. With "refresh" it asks cluster_clearstatcache() first; without, it clears PHP's own
// cache only, and sees what the kernel has cached. "open" opens the file and reads it.

declare(strict_types=1);

require __DIR__ . '/lab.php';

['path' => $path, 'variant' => $variant] = $given = parameters();
say(['ready' => true]);
while (($words = await()) !== null) {
    [$way] = $words;
    if ($way === 'write') {
        $file = fopen($words[1], 'w');
        fwrite($file, $words[2]);
        fsync($file);
        fclose($file);
        if ($words[1] !== $path) {
            rename($words[1], $path);
        }
        say(['done' => hrtime(true)]);
        continue;
    }
    $began = hrtime(true);
    if ($given['refresh']) {
        cluster_clearstatcache($path);
    } else {
        clearstatcache();
    }
    $cost = hrtime(true) - $began;
    $known = match (true) {
        !file_exists($path) => ['exists' => false],
        $way === 'open' => ['exists' => true, 'size' => strlen(file_get_contents($path))],
        default => ['exists' => true, 'size' => filesize($path), 'modified' => filemtime($path)],
    };
    say($known + ['at' => hrtime(true), 'cost_ms' => $cost / 1e6]);
}
