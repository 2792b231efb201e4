<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use Exception;

/**
 * Why an operation failed. It does not leave the library: functions warn with its message, objects throw
 * an exception of their own.
 */
final class Failure extends Exception
{
    public function __construct(public readonly Kind $kind, string $message)
    {
        parent::__construct($message);
    }

    /** Without the server's name, where that stands next to it. */
    public function cause(string $server): string
    {
        $said = $this->getMessage();

        return str_starts_with($said, "$server: ") ? substr($said, strlen("$server: ")) : $said;
    }

    public static function config(string $message): self
    {
        return new self(Kind::Config, $message);
    }

    public static function connection(string $server, string $cause): self
    {
        return new self(Kind::Connection, "$server: $cause");
    }

    public static function server(string $server, string $cause): self
    {
        return new self(Kind::Server, "$server: $cause");
    }

    public static function lost(Loss $loss): self
    {
        return new self(Kind::Lost, $loss->how);
    }

    public static function deadlock(): self
    {
        $message = 'this request already holds it through another handle, so waiting could only deadlock';

        return new self(Kind::Deadlock, $message);
    }

    public static function otherFiber(): self
    {
        return new self(Kind::Other, 'another fiber of this request has it: waiting here would stop that fiber, too');
    }

    public static function coroutine(): self
    {
        $message = 'a coroutine of Swoole cannot hold a lock: all coroutines of the process would hold it together';

        return new self(Kind::Deadlock, $message);
    }

    public static function other(string $message): self
    {
        return new self(Kind::Other, $message);
    }

    public static function file(string $path, string $cause): self
    {
        return new self(Kind::Other, Text::path($path) . ": $cause");
    }
}
