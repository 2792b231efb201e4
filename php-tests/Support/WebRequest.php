<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\AssertionFailedError;
use RuntimeException;

/**
 * One request to a server, on a connection of its own.
 */
abstract class WebRequest
{
    protected string $response = '';
    protected string $errors = '';
    protected bool $ended = false;

    /** @var resource */
    private $socket;

    private bool $closed = false;

    public function __construct(string $address, string $bytes)
    {
        $socket = stream_socket_client($address, $code, $message, 5.0);
        $this->socket = $socket ?: throw new RuntimeException("The server at $address: $message");
        fwrite($socket, $bytes);
        stream_set_blocking($socket, false);
    }

    /** Waits for the end of the request; its body. */
    public function body(float $seconds = Until::PATIENCE): string
    {
        $this->await(fn () => $this->ended, $seconds, 'end');

        return $this->received();
    }

    /** Waits for the end of the request or of the worker. */
    public function awaitEnd(float $seconds = Until::PATIENCE): void
    {
        $this->await(fn () => $this->ended || $this->closed, $seconds, 'end');
    }

    /** Waits until the body so far contains this text. */
    public function awaitText(string $text, float $seconds = Until::PATIENCE): void
    {
        $this->await(fn () => str_contains($this->received(), $text), $seconds, "say \"$text\"");
    }

    /** What PHP wrote to its error log. */
    public function errors(): string
    {
        return $this->errors;
    }

    public function hasEnded(): bool
    {
        return $this->ended;
    }

    /** Goes away, as a browser does. */
    public function abort(): void
    {
        // Processes that the test has started since have inherited the descriptor: closing is not enough.
        stream_socket_shutdown($this->socket, STREAM_SHUT_RDWR);
        fclose($this->socket);
        $this->closed = true;
    }

    /** Bytes have come; of what kind, the protocol says. */
    abstract protected function take(string $chunk): void;

    /** The server has closed the connection. */
    protected function hungUp(): void
    {
    }

    private function received(): string
    {
        return explode("\r\n\r\n", $this->response, 2)[1] ?? '';
    }

    /** @param callable(): bool $isDone */
    private function await(callable $isDone, float $seconds, string $what): void
    {
        $deadline = Until::now() + $seconds;
        while (!$isDone()) {
            $left = $deadline - Until::now();
            if ($left <= 0 || $this->closed) {
                throw new AssertionFailedError(sprintf(
                    "The request should %s within %.1f s.%s\nresponse: %s\nerrors: %s",
                    $what,
                    $seconds,
                    $this->closed ? ' The connection was closed.' : '',
                    $this->response,
                    $this->errors
                ));
            }
            $readable = [$this->socket];
            $writable = $except = null;
            if (@stream_select($readable, $writable, $except, (int) $left, (int) (fmod($left, 1) * 1e6))) {
                $this->receive();
            }
        }
    }

    private function receive(): void
    {
        $chunk = (string) fread($this->socket, 65536);
        if ($chunk === '' && feof($this->socket)) {
            $this->closed = true;
            $this->hungUp();
        } else {
            $this->take($chunk);
        }
    }
}
