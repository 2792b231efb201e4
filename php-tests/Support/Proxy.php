<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * A proxy in front of a Redis server that loses a reply on order, or a command.
 */
final class Proxy
{
    public readonly string $address;
    private readonly PhpProcess $process;

    public function __construct(RedisServer $server)
    {
        $this->process = PhpProcess::file(dirname(__DIR__) . '/fixtures/proxy.php', [], [$server->address()]);
        $this->address = $this->process->line();
    }

    /** Loses the next reply, or half of it, and from then on holds all connections until pass(). */
    public function lose(bool $half = false): void
    {
        $this->order($half ? 'halve' : 'lose');
    }

    /** Loses the next command, and from then on holds all connections until pass(). */
    public function cut(): void
    {
        $this->order('cut');
    }

    /** Waits until the reply, or the command, is lost. */
    public function awaitLoss(): void
    {
        $this->process->expect('lost');
    }

    public function hold(): void
    {
        $this->order('hold');
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
}
