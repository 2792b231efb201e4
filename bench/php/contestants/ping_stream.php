<?php

declare(strict_types=1);

// The floor: one PING where a lock makes one round trip, over a bare PHP stream. Locks nothing, parses nothing.

namespace Bench;

return function (string $server, string $name): Contestant {
    $stream = stream_socket_client($server, $code, $error, 1.0, STREAM_CLIENT_CONNECT);
    if (false === $stream) {
        throw new \RuntimeException($error);
    }

    return new class ($stream) implements Contestant {
        /** @param resource $stream */
        public function __construct(private $stream)
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
            fwrite($this->stream, "*1\r\n\$4\r\nPING\r\n");
            if ("+PONG\r\n" !== fread($this->stream, 64)) {
                throw new \RuntimeException('no PONG');
            }
        }
    };
};
