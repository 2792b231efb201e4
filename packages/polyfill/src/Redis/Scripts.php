<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

/** The Lua scripts, the same as the extension's: each step of a lock is one. */
final class Scripts
{
    /** How long an idle name remembers its last fencing token, in ms: RETAIN of common.lua. */
    public const RETAIN = 60_000;

    /** @return array{string, string} text and SHA-1 */
    public static function get(string $name): array
    {
        return ScriptTexts::ALL[$name];
    }
}
