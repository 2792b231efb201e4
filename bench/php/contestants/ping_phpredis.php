<?php

declare(strict_types=1);

// The floor: one PING where a lock makes one round trip. Locks nothing.

namespace Bench;

require_once __DIR__ . '/../connect.php';

return fn (string $server, string $name): Contestant => new class (connect($server)) implements Contestant {
    public function __construct(private \Redis $redis)
    {
    }

    public function lock(): void
    {
        $this->redis->ping();
    }

    public function unlock(): void
    {
        $this->redis->ping();
    }
};
