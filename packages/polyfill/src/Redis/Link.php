<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Clock;
use ClusterLock\Polyfill\Dsn;
use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Settings;
use SensitiveParameter;
use Throwable;

/**
 * The connections to a server: made when they are needed, dropped when they fail, never used by a forked child. One that is
 * in the middle of a command is nobody else's: code that interrupts it (a signal's handler, a destructor) gets another one.
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

    /** @var list<Connection> in the middle of nothing */
    private array $idle = [];

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

    /**
     * Sends one command and waits for its reply; once more, on a new connection, when the server refuses because it is not
     * the primary, or the password may have changed: an address may lead to another one by now. A connection comes back to the idle ones when its reply has been read, whole,
     * and not when anything was thrown through it, or the request ended in it: what comes next on it might be a late reply.
     *
     * @param list<string>                 $words
     * @param (callable(mixed): bool)|null $isWhole whether the reply makes sense
     *
     * @throws Fault|Failure
     */
    public function call(#[SensitiveParameter] array $words, float $patience, ?callable $isWhole = null): mixed
    {
        if ($this->idle !== [] && $this->pid !== getmypid()) {
            array_push(self::$inherited, ...$this->idle);
            $this->idle = [];
        }
        try {
            return $this->once($words, $patience, $isWhole);
        } catch (Fault $fault) {
            $changed = $fault->isUnauthenticated() && $this->dsn->passwordFile !== null;
            if (!$changed && !$fault->isOfNoPrimary()) {
                throw $fault;
            }
            $this->discarded += count($this->idle);
            $this->idle = [];
        }

        return $this->once($words, $patience, $isWhole);
    }

    /**
     * @param list<string>                 $words
     * @param (callable(mixed): bool)|null $isWhole
     *
     * @throws Fault|Failure
     */
    private function once(#[SensitiveParameter] array $words, float $patience, ?callable $isWhole): mixed
    {
        $connection = array_pop($this->idle) ?? $this->connect();
        try {
            $reply = $connection->call($words, $patience);
            if ($isWhole !== null && !$isWhole($reply)) {
                throw Fault::broken('the reply could not be read');
            }
        } catch (Throwable $thrown) {
            if ($thrown instanceof Fault && !$thrown->isBroken()) {
                $this->idle[] = $connection;
            } else {
                $this->discarded++;
            }

            throw $thrown;
        }
        $this->idle[] = $connection;

        return $reply;
    }

    public function open(): int
    {
        return $this->pid === getmypid() ? count($this->idle) : 0;
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
