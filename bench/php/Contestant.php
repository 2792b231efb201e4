<?php

declare(strict_types=1);

namespace Bench;

/**
 * One way to hold one named lock. lock() blocks until the lock is held; both throw when anything fails.
 *
 * A contestant is a file contestants/NAME.php that returns
 * `fn (string $server, string $name): Contestant`, where $server is "tcp://HOST:PORT" or "unix:///PATH".
 */
interface Contestant
{
    public function lock(): void;

    public function unlock(): void;
}
