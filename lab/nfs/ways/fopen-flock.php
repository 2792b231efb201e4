<?php

/**
 * As found in themes: fopen('w') has emptied the file before flock() is asked for it, and the stylesheet is compiled while
 * it is empty.
 */

declare(strict_types=1);

return static function (Theme $theme, array $change): array {
    $options = array_merge($theme->options(), $change);
    $version = $theme->version() + 1;

    $file = fopen($theme->optionsFile, 'w');
    flock($file, LOCK_EX);
    fwrite($file, json_encode($options));
    flock($file, LOCK_UN);
    fclose($file);

    $file = fopen($theme->stylesheet, 'w');
    flock($file, LOCK_EX);
    fwrite($file, $theme->compile($options, $version));
    flock($file, LOCK_UN);
    fclose($file);

    return ['stored' => true];
};
