<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

/** The Lua scripts, the same as the extension's: each step of a lock is one. */
final class Scripts
{
    /** How long an idle name remembers its last fencing token, in ms: RETAIN of common.lua. */
    public const RETAIN = 60_000;

    /** @var array<string, array{string, string}> text and digest by name */
    private static array $read = [];

    /** @return array{string, string} text and SHA-1 */
    public static function get(string $name): array
    {
        return self::$read[$name] ??= self::read($name);
    }

    /** @return array{string, string} */
    private static function read(string $name): array
    {
        $directory = dirname(__DIR__, 2) . '/lua';
        $common = (string) file_get_contents("$directory/common.lua");
        $text = str_replace('--#include common.lua', $common, (string) file_get_contents("$directory/$name.lua"));

        return [$text, sha1($text)];
    }
}
