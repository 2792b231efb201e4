<?php

/**
 * Way 4: the cluster lock around read, compile and write. Savers of all nodes wait in one fair queue, each reads what
 * the one before it wrote, and readers get the old file or the new one, whole. The last argument of
 * cluster_file_put_contents() makes it refuse to write should the lock be lost meanwhile.
 */

declare(strict_types=1);

return static function (Theme $theme, array $change): array {
    if (!cluster_lock('theme', 20.0)) {
        return ['stored' => false];
    }

    // On NFS 4.1 this node may still open the file that another one has replaced.
    cluster_clearstatcache($theme->optionsFile);
    $options = array_merge($theme->options(), $change);
    $css = $theme->compile($options, $theme->version() + 1);

    $written = cluster_file_put_contents($theme->optionsFile, json_encode($options), 0, 'theme') !== false
        && cluster_file_put_contents($theme->stylesheet, $css, 0, 'theme') !== false;

    return ['stored' => cluster_unlock('theme') && $written];
};
