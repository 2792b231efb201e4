<?php

declare(strict_types=1);

// For the test run and for the processes that it starts.
// CLUSTER_LOCK_SYMFONY names another version of symfony/lock, a checkout; else it is Debian's.

(static function (): void {
    $roots = [
        'ClusterLock\\Symfony\\Tests\\' => __DIR__,
        'ClusterLock\\Symfony\\' => dirname(__DIR__) . '/src',
    ];
    if (false !== $symfony = getenv('CLUSTER_LOCK_SYMFONY')) {
        $roots['Symfony\\Component\\Lock\\'] = $symfony;
    }
    spl_autoload_register(static function (string $class) use ($roots): void {
        foreach ($roots as $prefix => $root) {
            $file = $root . '/' . str_replace('\\', '/', substr($class, strlen($prefix))) . '.php';
            if (str_starts_with($class, $prefix) && is_file($file)) {
                require $file;

                return;
            }
        }
    });
    require $symfony ? '/usr/share/php/Psr/Log/autoload.php' : '/usr/share/php/Symfony/Component/Lock/autoload.php';
})();
