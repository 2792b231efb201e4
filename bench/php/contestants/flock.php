<?php

declare(strict_types=1);

// flock() on a local file: the kernel's own lock, the floor for anything that has to leave the process.
// It locks one host only; it has no fence, no time-out, and no queue that it promises.

namespace Bench;

return function (string $server, string $name): Contestant {
    $file = fopen(sys_get_temp_dir() . '/' . rawurlencode($name) . '.lock', 'c+');
    if (false === $file) {
        throw new \RuntimeException('cannot open the lock file');
    }

    return new class ($file) implements Contestant {
        /** @param resource $file */
        public function __construct(private $file)
        {
        }

        public function lock(): void
        {
            if (!flock($this->file, LOCK_EX)) {
                throw new \RuntimeException('not locked');
            }
        }

        public function unlock(): void
        {
            if (!flock($this->file, LOCK_UN)) {
                throw new \RuntimeException('not unlocked');
            }
        }
    };
};
