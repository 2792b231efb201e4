<?php

/**
 * Defines the functions and classes of the extension cluster_lock where it is not loaded; nothing where
 * it is, or where another copy of this package has defined them. Composer loads this file; without Composer, require it,
 * or preload it.
 */

declare(strict_types=1);

try {
    if (extension_loaded('cluster_lock') || function_exists('cluster_lock')) {
        return;
    }
} catch (Error) {
    // disable_functions has taken one of these two away, as global/disabled.php will say, unless this is the second time.
    if (class_exists(ClusterLock::class, false)) {
        return;
    }
}

require __DIR__ . '/global/undisturbed.php';
require __DIR__ . '/global/load.php';
require __DIR__ . '/global/exceptions.php';
require __DIR__ . '/global/ClusterLock.php';
require __DIR__ . '/global/functions.php';
require __DIR__ . '/global/configure.php';
