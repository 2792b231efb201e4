<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/**
 * Every function begins here. The first call of a request loads all classes from where the functions are from: another copy
 * of this package (of another plugin, in another version) may have a loader in front of any that is registered before, and
 * what preloading has defined has no loader at all. Nor is a file needed later, when a deployment may have removed it.
 * A signal's handler, which may come here, too, waits until all is there.
 */
function load(): void
{
    static $isDone = false;
    if ($isDone) {
        return;
    }
    $resume = undisturbed();
    try {
        // One that came before that has loaded all.
        if (!$isDone) {
            $isDone = true;
            loadAll();
        }
    } finally {
        $resume();
    }
}

function loadAll(): void
{
    // Where PHP lacks what nothing works without, nothing of src/ is loaded.
    if (!(require __DIR__ . '/disabled.php')) {
        return;
    }
    spl_autoload_register(static function (string $class): void {
        $file = dirname(__DIR__) . '/src/' . str_replace('\\', '/', substr($class, strlen(__NAMESPACE__) + 1)) . '.php';
        if (str_starts_with($class, __NAMESPACE__ . '\\') && is_file($file)) {
            require $file;
        }
    }, true, true);
    foreach ([
        'Arguments', 'Attempt', 'Call', 'Claim', 'Clock', 'Counters', 'Dsn', 'Engine', 'Failure', 'FileFunctions',
        'File\Building', 'File\ClosingWatch', 'File\FileLock', 'File\FileLocks', 'File\LocalPath', 'File\Metadata', 'File\Mounts',
        'File\OpenFile', 'File\Refresh', 'File\Replacement', 'File\Sources', 'File\Taking', 'File\Target', 'File\TemporaryName',
        'File\Writing', 'Functions', 'Guard', 'Hold', 'Host', 'Identity', 'Kind', 'Lease', 'Local\Directory',
        'Local\LocalStore', 'Local\Machine', 'Local\Moment', 'Local\Record', 'Local\Section', 'LockName', 'Loss', 'Mode',
        'ObjectState', 'Objects', 'PathMap', 'Quiet', 'Raise', 'Redis\Connection', 'Redis\Driver', 'Redis\Fault',
        'Redis\Link', 'Redis\PasswordFile', 'Redis\PhpRedisDriver', 'Redis\PredisDriver', 'Redis\Record', 'Redis\RedisStore',
        'Redis\ScriptTexts', 'Redis\Scripts', 'Redis\Socket', 'Redis\Survey', 'Redis\Tls', 'Report', 'Request',
        'Reserve', 'Secret', 'Settings', 'Status', 'Store', 'Text', 'Trial', 'Turn', 'Value', 'Wish',
    ] as $class) {
        class_exists(__NAMESPACE__ . "\\$class");
    }
}
