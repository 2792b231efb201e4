<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\Assert;

/**
 * A web server on a port of 127.0.0.1, which runs the scripts in $dir.
 */
abstract class WebServer
{
    protected readonly string $dir;
    protected readonly int $port;
    protected readonly ServerProcess $process;

    public function __construct()
    {
        $this->dir = TempDir::forTest();
        $this->port = RedisServer::freePort();
    }

    /**
     * Sends a request for a script with this code, which sees $arguments as $_GET.
     *
     * @param array<string, string|int> $arguments
     */
    public function begin(string $code, array $arguments = [], string $host = 'localhost'): HttpRequest
    {
        $uri = '/' . basename(Script::in($this->dir, $code)) . '?' . http_build_query($arguments);

        return new HttpRequest($this->port, $uri, $host);
    }

    /**
     * The whole way: request, response.
     *
     * @param array<string, string|int> $arguments
     */
    public function get(string $code, array $arguments = [], string $host = 'localhost'): string
    {
        return $this->begin($code, $arguments, $host)->body();
    }

    /** @return list<int> */
    public function workers(): array
    {
        return $this->process->children();
    }

    public function pid(): int
    {
        return $this->process->pid;
    }

    public function signal(int $signal): void
    {
        $this->process->signal($signal);
    }

    public function isRunning(): bool
    {
        return $this->process->isRunning();
    }

    public function log(): string
    {
        return $this->process->output();
    }

    protected function start(ServerProcess $process): void
    {
        $this->process = $process;
        $listens = fn () => @stream_socket_client("tcp://127.0.0.1:{$this->port}") !== false;
        Until::true(
            fn () => $listens() || !$process->isRunning(),
            fn () => "The server should listen: {$this->log()}"
        );
        Assert::assertTrue($process->isRunning(), "The server has ended: {$this->log()}");
    }
}
