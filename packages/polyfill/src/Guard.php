<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use stdClass;

/**
 * Destroyed at the very end. At the end of a request PHP destroys all objects, the oldest first and those that are made
 * meanwhile after them; so one that finds itself not to be the youngest makes another, and that one is behind all.
 */
final class Guard
{
    /** There may be others who make objects for ever. */
    private const MOST = 16;

    private int $number = 1;

    /** PHP destroys all objects: since then it gives no number of an object to another. */
    public static function isTheEnd(): bool
    {
        return spl_object_id(new stdClass()) !== spl_object_id(new stdClass());
    }

    public function isLast(): bool
    {
        return $this->number >= self::MOST || spl_object_id(new stdClass()) <= spl_object_id($this) + 1;
    }

    public function successor(): self
    {
        $guard = new self();
        $guard->number = $this->number + 1;

        return $guard;
    }

    public function __destruct()
    {
        Request::isLeftBy($this);
    }
}
