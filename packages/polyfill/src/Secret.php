<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use LogicException;
use WeakMap;

/**
 * What nobody is to see: a DSN, a password. As an argument it would stand in the trace of every exception that is thrown
 * further down, by a signal's handler for one, and #[SensitiveParameter] hides it from PHP 8.2 on only. The object has no
 * properties: there is nothing to dump.
 */
final class Secret
{
    /** @var WeakMap<self, mixed>|null */
    private static ?WeakMap $kept = null;

    private function __construct()
    {
    }

    /** Takes it away from a variable: a parameter shows in traces what it has at the time. */
    public static function take(mixed &$value): self
    {
        $secret = new self();
        self::$kept ??= new WeakMap();
        self::$kept[$secret] = $value;
        $value = is_array($value) ? [] : '';

        return $secret;
    }

    public function reveal(): mixed
    {
        return self::$kept[$this];
    }

    public function __serialize(): array
    {
        throw new LogicException('This is not for anybody else');
    }

    private function __clone()
    {
    }
}
