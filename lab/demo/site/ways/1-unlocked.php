<?php

/**
 * Way 1: no lock at all. Two savers read the same options, and the later one writes the earlier one's change away;
 * file_put_contents() empties the file before it fills it, and readers see that.
 */

declare(strict_types=1);

return static function (Theme $theme, array $change): array {
    $options = array_merge($theme->options(), $change);
    $css = $theme->compile($options, $theme->version() + 1);

    file_put_contents($theme->optionsFile, json_encode($options));
    file_put_contents($theme->stylesheet, $css);

    return ['stored' => true];
};
