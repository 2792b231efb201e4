<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * Requests to a FastCGI server, which has its scripts and its socket in $dir.
 */
trait FastCgi
{
    private readonly string $dir;

    /**
     * Sends a request for a script with this code, which sees $arguments as $_GET.
     *
     * @param array<string, string|int> $arguments
     * @param array<string, string>     $server    more of what the web server tells
     */
    public function begin(string $code, array $arguments = [], array $server = []): FastCgiRequest
    {
        return $this->beginFile(Script::in($this->dir, $code), $arguments, $server);
    }

    /**
     * @param array<string, string|int> $arguments
     * @param array<string, string>     $server
     */
    public function beginFile(string $file, array $arguments = [], array $server = []): FastCgiRequest
    {
        return new FastCgiRequest($this->socket(), $server + Script::asked($file, $arguments));
    }

    /**
     * The whole way: request, response.
     *
     * @param array<string, string|int> $arguments
     * @param array<string, string>     $server
     */
    public function get(string $code, array $arguments = [], array $server = []): string
    {
        return $this->begin($code, $arguments, $server)->body();
    }

    private function socket(): string
    {
        return "{$this->dir}/fastcgi.sock";
    }
}
