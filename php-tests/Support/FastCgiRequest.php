<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * One request to a FastCGI server on a unix socket.
 */
final class FastCgiRequest extends WebRequest
{
    private const BEGIN = 1;
    private const END = 3;
    private const PARAMS = 4;
    private const STDIN = 5;
    private const STDOUT = 6;
    private const STDERR = 7;

    private string $bytes = '';

    /** @param array<string, string> $parameters */
    public function __construct(string $path, array $parameters)
    {
        $pairs = '';
        foreach ($parameters as $name => $value) {
            $pairs .= self::length($name) . self::length($value) . $name . $value;
        }
        parent::__construct("unix://$path", self::record(self::BEGIN, "\0\1\0\0\0\0\0\0")
            . self::record(self::PARAMS, $pairs) . self::record(self::PARAMS, '') . self::record(self::STDIN, ''));
    }

    protected function take(string $chunk): void
    {
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
