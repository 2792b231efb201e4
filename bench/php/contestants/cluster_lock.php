<?php

declare(strict_types=1);

// cluster_lock with every setting at its default except the DSN.
// Woken one at a time, first come first served; fencing token; lease of 10 s renewed by a background thread.

namespace Bench;

return fn (string $server, string $name): Contestant => new class ($name) implements Contestant {
    public function __construct(private string $name)
    {
    }

    public function lock(): void
    {
        if (!cluster_lock($this->name)) {
            throw new \RuntimeException('not locked');
        }
    }

    public function unlock(): void
    {
        if (!cluster_unlock($this->name)) {
            throw new \RuntimeException('not unlocked');
        }
    }
};
