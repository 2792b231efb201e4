<?php

declare(strict_types=1);

// The floor: one PING where a lock makes one round trip, by send(2) and recv(2) alone. Locks nothing, parses nothing.

namespace Bench;

return function (string $server, string $name): Contestant {
    if (str_starts_with($server, 'unix://')) {
        $socket = socket_create(AF_UNIX, SOCK_STREAM, 0);
        $ok = socket_connect($socket, substr($server, 7));
    } else {
        [$host, $port] = explode(':', substr($server, 6));
        $socket = socket_create(AF_INET, SOCK_STREAM, SOL_TCP);
        $ok = socket_connect($socket, $host, (int) $port)
            && socket_set_option($socket, SOL_TCP, TCP_NODELAY, 1);
    }
    if (!$ok) {
        throw new \RuntimeException("no connection to $server");
    }

    return new class ($socket) implements Contestant {
        public function __construct(private \Socket $socket)
        {
        }

        public function lock(): void
        {
            $this->ping();
        }

        public function unlock(): void
        {
            $this->ping();
        }

        private function ping(): void
        {
            socket_write($this->socket, "*1\r\n\$4\r\nPING\r\n");
            if (7 !== socket_recv($this->socket, $reply, 64, 0)) {
                throw new \RuntimeException('no PONG');
            }
        }
    };
};
