<?php

// What stands for ini_set(), ini_get() and ini_restore() of this namespace with the polyfill.

declare(strict_types=1);

namespace ClusterLock\Chaos;

function ini_get(string $name): string|false
{
    return $GLOBALS['chaos_settings'][$name] ?? (\ini_get($name) !== false ? \ini_get($name) : get_cfg_var($name));
}

function ini_set(string $name, string $value): string|false
{
    $before = ini_get($name);
    polyfill_ini_set($name, $value);
    $GLOBALS['chaos_settings'][$name] = $value;

    return $before;
}

function ini_restore(string $name): void
{
    // The one that php.ini does not have is on by default.
    ini_set($name, get_cfg_var($name) ?: '1');
}
