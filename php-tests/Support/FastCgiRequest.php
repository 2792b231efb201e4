<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\AssertionFailedError;
use RuntimeException;

/**
 * One request to a FastCGI server on a unix socket, on a connection of its own.
 */
final class FastCgiRequest
{
    private const BEGIN = 1;
    private const END = 3;
    private const PARAMS = 4;
    private const STDIN = 5;
    private const STDOUT = 6;
    private const STDERR = 7;

    /** @var resource */
    private $socket;

    private string $bytes = '';
    private string $response = '';
    private string $errors = '';
    private bool $ended = false;
    private bool $closed = false;

    /** @param array<string, string> $parameters */
    public function __construct(string $path, array $parameters)
    {
        $socket = stream_socket_client('unix://' . $path, $code, $message, 5.0);
        $this->socket = $socket ?: throw new RuntimeException("php-fpm at $path: $message");
        $pairs = '';
        foreach ($parameters as $name => $value) {
            $pairs .= self::length($name) . self::length($value) . $name . $value;
        }
        fwrite($socket, self::record(self::BEGIN, "\0\1\0\0\0\0\0\0")
            . self::record(self::PARAMS, $pairs) . self::record(self::PARAMS, '') . self::record(self::STDIN, ''));
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
                    "The request should %s within %.1f s.%s\nbody: %s\nerrors: %s",
                    $what,
                    $seconds,
                    $this->closed ? ' The connection was closed.' : '',
                    $this->received(),
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
        $this->closed = $chunk === '' && feof($this->socket);
        $this->bytes .= $chunk;
        while (strlen($this->bytes) >= 8) {
            $header = unpack('Cversion/Ctype/nid/nlength/Cpadding', $this->bytes);
            $total = 8 + $header['length'] + $header['padding'];
            if (strlen($this->bytes) < $total) {
                break;
            }
            $content = substr($this->bytes, 8, $header['length']);
            $this->bytes = substr($this->bytes, $total);
            match ($header['type']) {
                self::STDOUT => $this->response .= $content,
                self::STDERR => $this->errors .= $content,
                self::END => $this->ended = true,
                default => null,
            };
        }
        if ($this->ended) {
            // php-fpm reads on until its client hangs up.
            $this->abort();
        }
    }

    private static function length(string $text): string
    {
        return strlen($text) < 128 ? chr(strlen($text)) : pack('N', strlen($text) | 1 << 31);
    }

    private static function record(int $type, string $content): string
    {
        return pack('CCnnCC', 1, $type, 1, strlen($content), 0, 0) . $content;
    }
}
