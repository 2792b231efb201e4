<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * One request to a web server on 127.0.0.1.
 */
final class HttpRequest extends WebRequest
{
    public function __construct(int $port, string $uri, string $host = 'localhost')
    {
        // Of version 1.0: an answer ends with its connection, and comes in one piece.
        parent::__construct("tcp://127.0.0.1:$port", "GET $uri HTTP/1.0\r\nHost: $host\r\n\r\n");
    }

    protected function take(string $chunk): void
    {
        $this->response .= $chunk;
    }

    protected function hungUp(): void
    {
        $this->ended = str_contains($this->response, "\r\n\r\n");
    }
}
