<?php

/**
 * With LOCK_EX, which PHP asks for before it empties the file: writers take turns, and what one has read before is written over
 * what the others have written meanwhile.
 */

declare(strict_types=1);

return static function (Theme $theme, array $change): array {
    $options = array_merge($theme->options(), $change);
    $css = $theme->compile($options, $theme->version() + 1);

    return ['stored' => file_put_contents($theme->optionsFile, json_encode($options), LOCK_EX) !== false
        && file_put_contents($theme->stylesheet, $css, LOCK_EX) !== false];
};
