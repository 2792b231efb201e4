<?php

/**
 * Way 2: the idiom of many plugins, fopen('w') and then flock(). Writers take turns, yet fopen('w') has emptied the
 * file before the lock was asked for: that is what readers see. And what is written was read before the lock, so
 * changes are lost as in way 1.
 */

declare(strict_types=1);

return static function (Theme $theme, array $change): array {
    $write = static function (string $file, string $data): void {
        $handle = fopen($file, 'w');
        flock($handle, LOCK_EX);
        fwrite($handle, $data);
        fflush($handle);
        flock($handle, LOCK_UN);
        fclose($handle);
    };

    $options = array_merge($theme->options(), $change);
    $css = $theme->compile($options, $theme->version() + 1);

    $write($theme->optionsFile, json_encode($options));
    $write($theme->stylesheet, $css);

    return ['stored' => true];
};
