<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use RuntimeException;

/**
 * A redis-server of the test's own, on a unix socket and a free TCP port.
 */
final class RedisServer
{
    /** In an option: the port of the server. */
    public const PORT = '%PORT%';

    private static ?self $ofRun = null;

    /** @var list<resource> what keeps ours from others */
    private static array $ports = [];

    /** @var resource|null */
    private $process = null;

    private ?int $pid = null;
    private readonly RedisClient $client;

    /** @param array<string, string|list<string>> $options redis.conf names => values */
    private function __construct(
        private readonly string $dir,
        private readonly array $options,
        public readonly int $port,
        private readonly string $password,
    ) {
        $this->client = new RedisClient($this->socket(), $password);
    }

    /** The server that all tests share which do not break it. */
    public static function shared(): self
    {
        if (self::$ofRun === null) {
            $server = new self(TempDir::forRun(), [], self::freePort(), '');
            Cleanup::afterRun($server->kill(...));
            $server->start();
            self::$ofRun = $server;
        }

        return self::$ofRun;
    }

    /**
     * A server for one test, running.
     *
     * @param array<string, string|list<string>> $options redis.conf names => values
     */
    public static function own(array $options = [], string $password = ''): self
    {
        $server = self::down($options, $password);
        $server->start();

        return $server;
    }

    /**
     * A server for one test, not yet running.
     *
     * @param array<string, string|list<string>> $options redis.conf names => values
     */
    public static function down(array $options = [], string $password = ''): self
    {
        $server = new self(TempDir::forTest(), $options, self::freePort(), $password);
        Cleanup::afterTest($server->kill(...));

        return $server;
    }

    public function start(): void
    {
        $this->beginStart();
        Until::true(
            function (): bool {
                try {
                    return $this->client->do('PING') === 'PONG';
                } catch (RuntimeException) {
                    return false;
                }
            },
            fn () => 'redis-server should answer: ' . @file_get_contents($this->dir . '/log')
        );
    }

    /**
     * Starts it, and does not wait until it answers.
     *
     * @param array<string, string|list<string>> $more options for this time
     */
    public function beginStart(array $more = []): void
    {
        $options = $more + $this->options + [
            'port' => (string) $this->port,
            'bind' => '127.0.0.1',
            'unixsocket' => $this->socket(),
            'dir' => $this->dir,
            'save' => '',
            'appendonly' => 'no',
            'logfile' => $this->dir . '/log',
            'tcp-backlog' => '511',
        ];
        if ($this->password !== '') {
            $options['requirepass'] = $this->password;
        }
        $command = ['redis-server'];
        foreach ($options as $name => $value) {
            array_push($command, "--$name", ...str_replace(self::PORT, (string) $this->port, (array) $value));
        }
        $null = ['file', '/dev/null', 'r+'];
        $process = proc_open(Php::mortal($command), [$null, $null, $null], $pipes);
        $this->process = $process ?: throw new RuntimeException('Cannot start redis-server');
        $this->pid = proc_get_status($process)['pid'];
    }

    public function kill(): void
    {
        $this->client->close();
        if ($this->process !== null) {
            // proc_close() waits for its end; a stopped process can be killed, too.
            posix_kill($this->pid, SIGKILL);
            proc_close($this->process);
            $this->process = null;
            @unlink($this->socket());
        }
    }

    public function signal(int $signal): void
    {
        posix_kill($this->pid, $signal);
    }

    public function client(): RedisClient
    {
        return $this->client;
    }

    public function socket(): string
    {
        return $this->dir . '/redis.sock';
    }

    public function address(): string
    {
        return "127.0.0.1:{$this->port}";
    }

    public function dsn(): string
    {
        return 'redis://' . $this->address();
    }

    /**
     * A port on which nobody listens now, and which no other test of this machine is given before this process ends: of
     * two that look at the same time, one would start its server where the other one's is. Below those that the kernel
     * gives to outgoing connections, of which one may have it by the time that the server starts.
     */
    public static function freePort(): int
    {
        do {
            $port = random_int(12_000, 31_999);
            // A name that is in the same network as the port, and gone with us. The core's tests take the same.
            $taken = @stream_socket_server("udg://\0cluster_lock-port-$port", flags: STREAM_SERVER_BIND);
            $socket = $taken ? @stream_socket_server("tcp://127.0.0.1:$port") : false;
        } while ($socket === false);
        fclose($socket);
        self::$ports[] = $taken;

        return $port;
    }
}
