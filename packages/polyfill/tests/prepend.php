<?php

// Prepended by the extension's suite to every script (php-tests/Support/Php.php): the polyfill first, with the client
// library under test, then what the suite itself prepends.

declare(strict_types=1);

if (!get_cfg_var('polyfill.off')) {
    $client = getenv('CLUSTER_LOCK_POLYFILL');
    putenv("CLUSTER_LOCK_CLIENT=$client");
    if ($client === 'predis') {
        require_once 'Predis/autoload.php';
    }
    unset($client);
    require dirname(__DIR__) . '/bootstrap.php';

    /** What stands for ini_set() where there are no ini entries; for everything else it is ini_set(). */
    function polyfill_ini_set(string $name, mixed $value): string|false
    {
        if (!str_starts_with($name, 'cluster_lock.')) {
            return ini_set($name, $value);
        }
        ClusterLock\Polyfill\configure([substr($name, strlen('cluster_lock.')) => $value]);

        return '';
    }
}
if (get_cfg_var('polyfill.then')) {
    require get_cfg_var('polyfill.then');
}
