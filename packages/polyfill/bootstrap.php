<?php

/**
 * Defines the functions and classes of the extension cluster_lock where it is not loaded; nothing where
 * it is. Composer loads this file; without Composer, require it.
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

// Where PHP lacks what nothing works without, nothing of src/ is loaded.
(require __DIR__ . '/global/disabled.php') && spl_autoload_register(static function (string $class): void {
    $prefix = 'ClusterLock\\Polyfill\\';
    if (str_starts_with($class, $prefix)) {
        $file = __DIR__ . '/src/' . str_replace('\\', '/', substr($class, strlen($prefix))) . '.php';
        if (is_file($file)) {
            require $file;
        }
    }
});

require __DIR__ . '/global/exceptions.php';
require __DIR__ . '/global/ClusterLock.php';
require __DIR__ . '/global/functions.php';
require __DIR__ . '/global/configure.php';
