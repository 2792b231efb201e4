<?php

/**
 * The same with one other word: readers see a whole file. What one has read before is written over what the others have
 * written meanwhile all the same.
 */

declare(strict_types=1);

return static function (Theme $theme, array $change): array {
    $options = array_merge($theme->options(), $change);
    $css = $theme->compile($options, $theme->version() + 1);

    return ['stored' => cluster_file_put_contents($theme->optionsFile, json_encode($options), LOCK_EX) !== false
        && cluster_file_put_contents($theme->stylesheet, $css, LOCK_EX) !== false];
};
