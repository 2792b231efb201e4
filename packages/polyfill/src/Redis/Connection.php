<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Dsn;
use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Secret;
use ClusterLock\Polyfill\Settings;
use Predis\Client;
use SensitiveParameter;

use function ClusterLock\Polyfill\undisturbed;

/** A connection that has been greeted: user, database and a name for CLIENT LIST are set. */
final class Connection
{
    public readonly ?string $version;
    public readonly ?string $role;

    private readonly Driver $driver;

    /**
     * @param float $patience the longest wait for a reply that it may be asked for
     *
     * @throws Fault   the server cannot be reached or refuses
     * @throws Failure there is nothing to speak to it with
     */
    public function __construct(Dsn $dsn, Settings $settings, float $patience)
    {
        $timeout = $settings->connectTimeout;
        $this->driver = match (self::library($settings->client)) {
            'phpredis' => new PhpRedisDriver($dsn, $timeout),
            'predis' => new PredisDriver($dsn, $timeout, $patience),
        };
        $name = substr((string) preg_replace('/[^!-~]/', '', $settings->node), 0, 64);
        $name = "cluster_lock@$name:" . getmypid();
        // Code of others could see the password among the arguments of the client library.
        $resume = undisturbed();
        try {
            $password = $dsn->password();
            try {
                [$this->version, $this->role] = $this->greeting($dsn, $password, $name, $timeout);
            } catch (Fault $fault) {
                // It may have changed since it was read.
                $now = $fault->isUnauthenticated() ? $dsn->password() : $password;
                if ($now?->reveal() === $password?->reveal()) {
                    throw $fault;
                }
                $password = $now;
                [$this->version, $this->role] = $this->greeting($dsn, $password, $name, $timeout);
            }
        } catch (Fault $fault) {
            throw $fault->isBroken()
                ? $fault
                : Fault::refused(Dsn::withoutPassword("{$fault->refusal} {$fault->getMessage()}", $password ?? null));
        } finally {
            $resume();
        }
    }

    /**
     * Says who we are, which database is meant, and a name for CLIENT LIST.
     *
     * @return array{string|null, string|null} the server's version and role, if it says so
     *
     * @throws Fault
     */
    private function greeting(Dsn $dsn, ?Secret $password, string $name, float $timeout): array
    {
        $hello = null;
        try {
            $login = $password === null ? [] : ['AUTH', $dsn->user ?? 'default', $password->reveal()];
            $hello = $this->call(['HELLO', '2', ...$login, 'SETNAME', $name], $timeout);
        } catch (Fault $fault) {
            // Some servers tell nobody who is not logged in that they do not know a command.
            if (!$fault->lacksHello() && !($password !== null && $fault->is('NOAUTH'))) {
                throw $fault;
            }
            if ($password !== null) {
                // A server without users knows the other form alone.
                $user = $dsn->user === null ? [] : [$dsn->user];
                $this->call(['AUTH', ...$user, $password->reveal()], $timeout);
            }
        }
        if ($dsn->database !== 0) {
            $this->call(['SELECT', (string) $dsn->database], $timeout);
        }
        $said = is_array($hello) ? array_column(array_chunk($hello, 2), 1, 0) : [];

        return [
            is_string($said['version'] ?? null) ? $said['version'] : null,
            is_string($said['role'] ?? null) ? $said['role'] : null,
        ];
    }

    /**
     * @param list<string> $words
     *
     * @throws Fault
     */
    public function call(#[SensitiveParameter] array $words, float $patience): mixed
    {
        return $this->driver->call($words, $patience);
    }

    /** What a client library says of a broken connection, in the words of this one. */
    public static function cause(string $said, float $took, float $patience): string
    {
        return match (true) {
            $took >= $patience
                => sprintf('no answer within %.3f s (cluster_lock.connect_timeout and .command_timeout)', $patience),
            preg_match('/read error|socket error|connection lost|went away|while (reading|writing)/i', $said) === 1
                => 'the server closed the connection',
            default => $said,
        };
    }

    /** @throws Failure */
    private static function library(string $wanted): string
    {
        $there = [
            'phpredis' => static fn (): bool => extension_loaded('redis'),
            'predis' => static fn (): bool => class_exists(Client::class),
        ];
        foreach ($wanted === '' ? array_keys($there) : [$wanted] as $library) {
            if ($there[$library]()) {
                return $library;
            }
        }
        $what = $wanted === '' ? 'neither the extension redis (phpredis) nor Predis' : "no $wanted";

        throw Failure::config(
            "cluster_lock.dsn names a server, and this PHP has $what to speak to it with: install one. (Locks of "
            . 'this host only would not keep out the other nodes, so there is no falling back on them.)'
        );
    }
}
