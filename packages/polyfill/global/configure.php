<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use SensitiveParameter;
use ValueError;

/**
 * Sets what php.ini sets for the extension: ['dsn' => …, 'prefix' => …, 'ttl' => …] by the names behind
 * "cluster_lock.". What is not set here comes from a constant (CLUSTER_LOCK_DSN), the environment, $_ENV or $_SERVER
 * (of the same name), php.ini (cluster_lock.dsn), or is the default. Locks that are held go on as they are.
 *
 * @param array<string, string|int|float|bool> $settings
 *
 * @throws ValueError a value or a name is not acceptable; then nothing is set
 */
function configure(
    #[SensitiveParameter]
    array $settings
): void {
    // At once, and by reference: a parameter shows in traces what it has at the time.
    $given = (static function (array &$settings): array {
        [$given, $settings] = [$settings, []];

        return $given;
    })($settings);
    load();
    Settings::configure(Secret::take($given));
}
