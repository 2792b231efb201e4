<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/**
 * Memory for the end of a request that has used up all it may have. PHP's stack needs 256 KiB at once for the next call
 * when it was calls nested too deep that used it up; as much again is for what the end has to do.
 */
final class Reserve
{
    /** @var array{string, string} */
    private array $memory;

    public function __construct()
    {
        $this->memory = [str_repeat(' ', 262_144), str_repeat(' ', 262_144)];
    }

    /** As small as a call can be, without a variable or a temporary value: PHP's stack may have room for no larger one. */
    public function free(): void
    {
        unset($this->memory);
    }
}
