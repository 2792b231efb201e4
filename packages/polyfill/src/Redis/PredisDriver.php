<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Clock;
use ClusterLock\Polyfill\Dsn;
use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Quiet;
use ClusterLock\Polyfill\Text;
use Predis\Client;
use Predis\PredisException;
use ReflectionClass;
use SensitiveParameter;
use Throwable;
use ValueError;

/** Predis. */
final class PredisDriver implements Driver
{
    /** The major versions that it is known to work with. */
    private const VERSIONS = [1, 2, 3];

    private readonly Client $client;
    private bool $broken = false;
    private static ?string $library = null;

    /**
     * @param float $patience the longest wait for a reply: with Predis a property of the connection
     *
     * @throws Failure it is of a version that nobody has tried
     */
    public function __construct(Dsn $dsn, float $connectTimeout, float $patience)
    {
        if (!in_array((int) Client::VERSION, self::VERSIONS, true)) {
            throw Failure::config('Predis ' . Text::said(Client::VERSION) . ' is not supported: install a version from '
                . min(self::VERSIONS) . ' to ' . max(self::VERSIONS) . ', or phpredis');
        }
        $this->client = new Client(
            ['timeout' => $connectTimeout, 'read_write_timeout' => $patience] + match (true) {
                $dsn->path !== '' => ['scheme' => 'unix', 'path' => $dsn->path],
                $dsn->tls !== null
                    => ['scheme' => 'tls', 'host' => $dsn->host, 'port' => $dsn->port, 'ssl' => Tls::options($dsn)],
                default => ['scheme' => 'tcp', 'host' => $dsn->host, 'port' => $dsn->port],
            }
        );
    }

    public function call(#[SensitiveParameter] array $words, float $patience): mixed
    {
        if ($this->isGone()) {
            throw Fault::broken('the server closed the connection', false);
        }
        $started = Clock::now();
        [[$reply, $refused, $thrown], $warning] = Quiet::call(function () use ($words): array {
            try {
                $reply = $this->client->executeRaw($words, $refused);

                return [$reply, $refused === true, null];
            } catch (PredisException | ValueError $e) {
                // A ValueError is a reply that makes no sense.
                return self::isOurs($e) ? [null, false, $e->getMessage()] : throw $e;
            }
        }, self::library());
        if ($thrown !== null) {
            $this->broken = true;
            // Behind the cause it names its URL, which we have told already; of TLS it says less than OpenSSL.
            $thrown = (string) preg_replace('/ \[[a-z]+:.*/s', '', $thrown);
            $thrown = preg_match('/SSL|certificate/', $warning) === 1 ? $warning : $thrown;

            throw Fault::broken(Connection::cause($thrown, Clock::now() - $started, $patience));
        }
        if ($refused) {
            throw Fault::refused((string) $reply);
        }

        return $reply === 'OK' ? true : $reply;
    }

    /** After a failure it would connect again by itself, and know neither our user nor our database. */
    private function isGone(): bool
    {
        $socket = $this->client->isConnected() ? $this->client->getConnection()->getResource() : null;
        // Predis 3 has an object around it.
        $isClosed = is_object($socket)
            ? Quiet::try(static fn (): bool => $socket->eof())
            : Socket::isClosed($socket);

        return $this->broken || $isClosed;
    }

    /** Thrown by the library for this call, and not by code that ran meanwhile. */
    private static function isOurs(Throwable $e): bool
    {
        if (!Quiet::isOurs($e->getFile(), self::library())) {
            return false;
        }
        foreach ($e->getTrace() as $frame) {
            $file = $frame['file'] ?? '';
            if ($file === __FILE__ || !Quiet::isOurs($file, self::library())) {
                return $file === __FILE__;
            }
        }

        return false;
    }

    private static function library(): string
    {
        return self::$library ??= dirname((string) (new ReflectionClass(Client::class))->getFileName());
    }
}
