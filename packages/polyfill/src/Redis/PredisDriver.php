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
use SensitiveParameter;
use ValueError;

/** Predis. */
final class PredisDriver implements Driver
{
    /** The major versions that it is known to work with. */
    private const VERSIONS = [1, 2, 3];

    private readonly Client $client;
    private bool $broken = false;

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
            } catch (PredisException $e) {
                return [null, false, $e->getMessage()];
            } catch (ValueError $e) {
                // A reply that makes no sense; unless it comes from a signal's handler.
                return str_contains($e->getFile(), 'Predis') ? [null, false, $e->getMessage()] : throw $e;
            }
        });
        if ($thrown !== null) {
            $this->broken = true;
            // Behind the cause it names its URL, which we have told already; of TLS it says less than OpenSSL.
            $thrown = (string) preg_replace('/ \[[a-z]+:.*/s', '', $thrown);
            $thrown = str_contains($warning, 'SSL') ? $warning : $thrown;

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
}
