<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests\Support;

/**
 * An object of another process. Its methods are called there, and what they throw is thrown here.
 */
final class Remote
{
    public function __construct(private readonly Application $application, public readonly Reference $reference)
    {
    }

    /** @param list<mixed> $arguments */
    public function __call(string $method, array $arguments): mixed
    {
        return $this->application->call('remote_call', $this->reference, $method, $arguments);
    }

    /** Calls, and does not wait; Application::end() does. */
    public function begin(string $method, mixed ...$arguments): void
    {
        $this->application->begin('remote_call', $this->reference, $method, $arguments);
    }

    /** Drops it there, as a variable that goes out of scope. */
    public function drop(): void
    {
        $this->application->call('remote_drop', $this->reference);
    }
}
