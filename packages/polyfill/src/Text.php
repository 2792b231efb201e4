<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/**
 * Text of others (paths, server replies, what other nodes report), made fit for a message: nothing in it
 * may begin a line of its own, drive a terminal, turn the direction of what follows, or fill a disk.
 */
final class Text
{
    private const MAX_SAID = 300;
    private const MAX_PATH = 4096;

    /** One character of valid UTF-8, or one byte of anything else. */
    private const CHARACTER = '/[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]'
        . '|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}'
        . '|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}|./s';

    /** What a server or another node has said: escaped, and cut. */
    public static function said(string $text): string
    {
        return self::cut($text, self::MAX_SAID);
    }

    /** As said(), of a path that somebody else has told: of a long one the end, which tells most. */
    public static function endOf(string $path): string
    {
        // Four bytes are the longest character: what is far before the end need not be looked at.
        preg_match_all(self::CHARACTER, substr($path, -4 * (self::MAX_SAID + 1)), $characters);
        $end = implode('', array_slice($characters[0], -self::MAX_SAID));

        return (strlen($end) < strlen($path) ? '…' : '') . self::said($end);
    }

    public static function path(string $path): string
    {
        return self::cut($path, self::MAX_PATH);
    }

    /** All of it, between quotes: no byte can end them. */
    public static function quoted(string $name): string
    {
        return '"' . preg_replace_callback(self::CHARACTER, static fn (array $match): string => match (true) {
            $match[0] === '"', $match[0] === '\\' => '\\' . $match[0],
            default => self::printable($match[0], sprintf('\\x%02x', ord($match[0]))),
        }, $name) . '"';
    }

    private static function cut(string $text, int $most): string
    {
        // Four bytes are the longest character: what is far beyond the end need not be looked at.
        preg_match_all(self::CHARACTER, substr($text, 0, 4 * ($most + 1)), $characters);
        $shown = array_slice($characters[0], 0, $most);
        $out = implode('', array_map(static fn (string $c): string => self::printable($c, "\u{fffd}"), $shown));
        $left = strlen($text) - strlen(implode('', $shown));

        return $left > 0 ? "{$out}… ($left more bytes)" : $out;
    }

    private static function printable(string $character, string $invalid): string
    {
        $code = self::codePoint($character);
        if ($code === null) {
            return $invalid;
        }
        $isUnprintable = $code < 0x20 || ($code >= 0x7f && $code < 0xa0) || ($code >= 0x200b && $code <= 0x200f)
            || ($code >= 0x2028 && $code <= 0x202e) || ($code >= 0x2060 && $code <= 0x206f) || $code === 0xfeff;

        return !$isUnprintable ? $character : match ($character) {
            "\n" => '\\n',
            "\r" => '\\r',
            "\t" => '\\t',
            default => sprintf('\\u{%x}', $code),
        };
    }

    /** Null: a byte that is no character. */
    private static function codePoint(string $character): ?int
    {
        $first = ord($character[0]);
        if (strlen($character) === 1) {
            return $first < 0x80 ? $first : null;
        }
        $code = $first & (0x7f >> strlen($character));
        for ($i = 1; $i < strlen($character); $i++) {
            $code = $code << 6 | ord($character[$i]) & 0x3f;
        }

        return $code;
    }
}
