<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

/**
 * A client library's connection. It sends words as they are, and never connects again by itself. What is thrown through a
 * command leaves it unusable, and is either a Fault or not ours: an exception of a signal's handler.
 */
interface Driver
{
    /**
     * Sends one command and waits so many seconds for the reply: int, string, list, null, or true for a status.
     *
     * @param list<string> $words
     *
     * @throws Fault
     */
    public function call(array $words, float $patience): mixed;
}
