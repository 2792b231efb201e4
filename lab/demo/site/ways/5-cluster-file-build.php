<?php

/**
 * Way 5: the change under a lock, as short as it can be, and then cluster_file_build(): the stylesheet is compiled by
 * one for all who wait, from the options that are there by then. A save is done when a compile that began after its
 * change is published; however many save at once, that takes two compiles and not one each.
 */

declare(strict_types=1);

return static function (Theme $theme, array $change): array {
    if (!cluster_lock('theme-options', 20.0)) {
        return ['stored' => false];
    }
    // On NFS 4.1 this node may still open the file that another one has replaced.
    cluster_clearstatcache($theme->optionsFile);
    $options = array_merge($theme->options(), $change);
    $written = cluster_file_put_contents($theme->optionsFile, json_encode($options), 0, 'theme-options') !== false;
    if (!cluster_unlock('theme-options') || !$written) {
        return ['stored' => false];
    }

    // Reads the options itself: those of everybody who has saved until now.
    $compile = static fn (): string => $theme->compile($theme->options(), $theme->version() + 1);

    return ['stored' => cluster_file_build($theme->stylesheet, $compile, $theme->madeFrom(), 20.0)];
};
