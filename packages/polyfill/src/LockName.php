<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ValueError;

/** A validated name: 1 to 1024 bytes, any bytes. */
final class LockName
{
    public const MAX = 1024;

    /** What rawurlencode() encodes, and keys do not. */
    private const PLAIN = [
        '%21' => '!', '%23' => '#', '%24' => '$', '%26' => '&', '%27' => "'", '%28' => '(', '%29' => ')', '%2B' => '+',
        '%2C' => ',', '%2F' => '/', '%3A' => ':', '%3B' => ';', '%3C' => '<', '%3D' => '=', '%3E' => '>', '%40' => '@',
        '%7C' => '|',
    ];

    public function __construct(public readonly string $bytes)
    {
        if ($bytes === '') {
            throw new ValueError('must not be empty');
        }
        if (strlen($bytes) > self::MAX) {
            throw new ValueError(sprintf('must be at most %d bytes long, %d given', self::MAX, strlen($bytes)));
        }
    }

    /** The name of the lock on a file with this real path, equal on all nodes whatever their mount points. */
    public static function ofFile(string $path, PathMap $map): self
    {
        $shared = $map->apply($path);

        return new self('file:' . (strlen($shared) + 5 > self::MAX ? 'sha1:' . sha1($shared) : $shared));
    }

    /**
     * As it stands in a key: every byte outside a safe set percent-encoded, so that no name contains a brace, a
     * glob or a blank there, or reaches another lock's keys.
     */
    public static function encode(string $bytes): string
    {
        return strtr(rawurlencode($bytes), self::PLAIN);
    }

    /** The inverse of encode(); null for what no name encodes to. */
    public static function decode(string $encoded): ?self
    {
        $bytes = preg_replace_callback(
            '/%([0-9A-Fa-f]{2})/',
            static fn (array $match): string => chr((int) hexdec($match[1])),
            $encoded
        );

        return $bytes !== '' && strlen($bytes) <= self::MAX && self::encode($bytes) === $encoded
            ? new self($bytes)
            : null;
    }

    /** The one form of every message about a lock. */
    public function about(string $what): string
    {
        return 'Lock ' . Text::quoted($this->bytes) . ": $what";
    }
}
