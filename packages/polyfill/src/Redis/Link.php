<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Clock;
use ClusterLock\Polyfill\Dsn;
use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Settings;

/**
 * The connection to a server: made when it is needed, dropped when it fails, never used by a forked child.
 * After a failed connect everything fails at once for retry_after: the circuit breaker.
 */
final class Link
{
    public readonly string $server;
    public ?string $version = null;
    public ?string $role = null;
    public int $created = 0;
    public int $discarded = 0;

    /** @var list<Connection> a parent's, in a forked child: to close one with TLS would end the parent's session */
    private static array $inherited = [];

    private ?Connection $connection = null;
    private int $pid = 0;

    /** When the last connect failed, and why. */
    private float $failedAt = -INF;
    private ?Failure $failure = null;

    public function __construct(
        private readonly Dsn $dsn,
        private readonly Settings $settings,
        private readonly float $patience,
    ) {
        $this->server = $dsn->redacted();
    }

    /** @throws Failure */
    public function get(): Connection
    {
        if ($this->connection !== null && $this->pid !== getmypid()) {
            self::$inherited[] = $this->connection;
            $this->connection = null;
        }

        return $this->connection ??= $this->connect();
    }

    public function isOpen(): bool
    {
        return $this->connection !== null && $this->pid === getmypid();
    }

    /** A connection that broke is not used again: what comes next on it might be a late reply. */
    public function judge(Fault $fault): void
    {
        if ($fault->isBroken() && $this->connection !== null) {
            $this->connection = null;
            $this->discarded++;
        }
    }

    /** @throws Failure */
    private function connect(): Connection
    {
        $left = $this->failedAt + $this->settings->retryAfter - Clock::now();
        if ($this->failure !== null && $left > 0.0) {
            $hint = sprintf('; not tried again for another %.1f s (cluster_lock.retry_after)', $left);
            throw Failure::connection($this->server, $this->failure->getMessage() . $hint);
        }
        try {
            $connection = $this->greeted();
        } catch (Fault $fault) {
            $this->failedAt = Clock::now();
            $this->failure = Failure::other($fault->explained());

            throw $fault->isBroken()
                ? Failure::connection($this->server, $fault->explained())
                : Failure::server($this->server, $fault->explained());
        }
        $this->failure = null;
        $this->pid = (int) getmypid();
        $this->created++;
        [$this->version, $this->role] = [$connection->version, $connection->role];

        return $connection;
    }

    /** Once more when it breaks at once (CLIENT KILL, a proxy that restarts): that says nothing of the next one. */
    private function greeted(): Connection
    {
        $deadline = Clock::now() + $this->settings->connectTimeout;
        try {
            return new Connection($this->dsn, $this->settings, $this->patience);
        } catch (Fault $fault) {
            if (!$fault->isBroken() || !str_contains($fault->getMessage(), 'closed') || Clock::now() >= $deadline) {
                throw $fault;
            }
        }

        return new Connection($this->dsn, $this->settings, $this->patience);
    }
}
