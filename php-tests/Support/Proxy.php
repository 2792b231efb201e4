<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use RuntimeException;

/**
 * The fault proxy (lab/fault-proxy) in front of a Redis server: it loses a reply on order, or a command.
 */
final class Proxy
{
    public readonly string $address;
    private readonly PhpProcess $process;

    public function __construct(RedisServer $server)
    {
        $this->process = PhpProcess::program([self::program(), '--to', $server->address()]);
        $this->address = '127.0.0.1:' . $this->process->line();
    }

    /** Loses the next reply, or all but its start, and from then on holds all connections until pass(). */
    public function lose(bool $half = false): void
    {
        $this->order(($half ? 'cut-after 3 down' : 'drop-reply') . ' then hold');
    }

    /** Loses the next command, and from then on holds all connections until pass(). */
    public function cut(): void
    {
        $this->order('drop-request then hold');
    }

    /** Waits until the reply, or the command, is lost. */
    public function awaitLoss(): void
    {
        $this->process->expect('fired');
    }

    public function pass(): void
    {
        $this->order('pass');
    }

    private function order(string $order): void
    {
        $this->process->tell($order);
        $this->process->expect($order);
    }

    private static function program(): string
    {
        $path = getenv('CLUSTER_LOCK_FAULT_PROXY') ?: dirname(__DIR__, 2) . '/target/release/fault-proxy';

        return realpath($path)
            ?: throw new RuntimeException("There is no $path: build first, or set CLUSTER_LOCK_FAULT_PROXY.");
    }
}
