<?php

// The holder of a lock whose node is cut off, or the one who waits for it. Each thing it is told to do may fail; it
// says what came back, and which warning.

declare(strict_types=1);

require __DIR__ . '/lab.php';

['variant' => $variant, 'path' => $path] = parameters();
$lock = in_array($variant, ['gate', 'replace'], true) ? cluster_flock(...) : flock(...);
say(['ready' => true]);
while (($words = await()) !== null) {
    $warning = '';
    set_error_handler(static function (int $severity, string $message) use (&$warning): bool {
        $warning = $message;
        return true;
    });
    $began = hrtime(true);
    if ($words[0] === 'open') {
        $stream = fopen($path, 'c+');
    }
    $result = match ($words[0]) {
        'open' => true,
        'lock' => $lock($stream, LOCK_EX),
        'write' => fwrite($stream, "late\n"),
        'fflush' => fflush($stream),
        'fsync' => fsync($stream),
        'unlock' => $lock($stream, LOCK_UN),
        'close' => fclose($stream),
    };
    say(['result' => $result, 'warning' => $warning, 'at' => hrtime(true), 'ms' => (hrtime(true) - $began) / 1e6]);
}
