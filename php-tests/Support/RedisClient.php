<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use RuntimeException;

/**
 * The test's own line to a Redis server: just enough of RESP2 to look at it and to break it.
 */
final class RedisClient
{
    /** @var resource|null */
    private $socket = null;

    public function __construct(private readonly string $path, private readonly string $password = '')
    {
    }

    /** An error reply becomes an exception. */
    public function do(string|int ...$words): mixed
    {
        $socket = $this->socket ?? $this->connect();
        $this->send($socket, $words);

        return $this->reply($socket);
    }

    /** @return array<string, string> one section of INFO */
    public function info(string $section): array
    {
        $values = [];
        foreach (explode("\r\n", $this->do('INFO', $section)) as $line) {
            [$name, $value] = explode(':', $line, 2) + [1 => ''];
            $values[$name] = $value;
        }

        return $values;
    }

    /** @return list<array<string, string>> the connections of others */
    public function clients(): array
    {
        $mine = (string) $this->do('CLIENT', 'ID');
        $clients = [];
        foreach (explode("\n", trim($this->do('CLIENT', 'LIST'))) as $line) {
            preg_match_all('/(\S+?)=(\S*)/', $line, $fields);
            $client = array_combine($fields[1], $fields[2]);
            if ($client['id'] !== $mine) {
                $clients[] = $client;
            }
        }

        return $clients;
    }

    public function close(): void
    {
        $this->socket = null;
    }

    /** @return resource */
    private function connect()
    {
        $socket = @stream_socket_client('unix://' . $this->path, $code, $message, 5.0);
        if (!$socket) {
            throw new RuntimeException("redis-server at {$this->path}: $message");
        }
        stream_set_timeout($socket, 15);
        if ($this->password !== '') {
            $this->send($socket, ['AUTH', $this->password]);
            $this->reply($socket);
        }

        return $this->socket = $socket;
    }

    /**
     * @param resource         $socket
     * @param list<string|int> $words
     */
    private function send($socket, array $words): void
    {
        $command = '*' . count($words) . "\r\n";
        foreach ($words as $word) {
            $command .= '$' . strlen((string) $word) . "\r\n" . $word . "\r\n";
        }
        if (@fwrite($socket, $command) !== strlen($command)) {
            $this->close();

            throw new RuntimeException("redis-server at {$this->path} is gone");
        }
    }

    /** @param resource $socket */
    private function reply($socket): mixed
    {
        $line = fgets($socket);
        if ($line === false) {
            $this->close();

            throw new RuntimeException("redis-server at {$this->path} closed the connection");
        }
        $rest = substr($line, 1, -2);

        return match ($line[0]) {
            '+' => $rest,
            ':' => (int) $rest,
            '-' => throw new RuntimeException($rest),
            '$' => $rest === '-1' ? null : substr(stream_get_contents($socket, (int) $rest + 2), 0, -2),
            '*' => $rest === '-1' ? null : array_map(fn () => $this->reply($socket), array_fill(0, (int) $rest, 0)),
            default => throw new RuntimeException("Not RESP: $line"),
        };
    }
}
