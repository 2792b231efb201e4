<?php

declare(strict_types=1);

spl_autoload_register(static function (string $class): void {
    $prefix = 'ClusterLock\\Tests\\';
    if (!str_starts_with($class, $prefix)) {
        return;
    }
    $file = __DIR__ . '/' . str_replace('\\', '/', substr($class, strlen($prefix))) . '.php';
    if (is_file($file)) {
        require $file;
    }
});

// Whatever ends the run, nothing that it started survives it (a SIGKILL is covered by pdeathsig).
register_shutdown_function([ClusterLock\Tests\Support\Cleanup::class, 'everything']);
if (function_exists('pcntl_async_signals')) {
    pcntl_async_signals(true);
    $signals = [SIGINT, SIGTERM, SIGHUP];
    foreach ($signals as $signal) {
        pcntl_signal($signal, static function (int $signal) use ($signals): void {
            // A second one must not end the cleaning up of the first.
            foreach ($signals as $other) {
                pcntl_signal($other, SIG_IGN);
            }
            exit(128 + $signal);
        });
    }
}
