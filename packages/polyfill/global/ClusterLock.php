<?php

declare(strict_types=1);

use ClusterLock\Polyfill\Objects;

use function ClusterLock\Polyfill\load;

/**
 * A lock as an object, for code that would rather have exceptions. Two objects of one name exclude each
 * other, even in one request, as does what cluster_lock() holds. Neither cloneable nor serialisable.
 */
final class ClusterLock
{
    /** The name given to the constructor. */
    public readonly string $name;

    public function __construct(string $name, int $mode = LOCK_EX, ?float $ttl = null)
    {
        load();
        Objects::construct($this, $name, $mode, $ttl);
        $this->name = $name;
    }

    public function acquire(?float $timeout = null): bool
    {
        load();
        return Objects::acquire($this, $timeout);
    }

    public function release(): void
    {
        load();
        Objects::release($this);
    }

    public function refresh(?float $ttl = null): void
    {
        load();
        Objects::refresh($this, $ttl);
    }

    public function isHeld(): bool
    {
        load();
        return Objects::isHeld($this);
    }

    public function remaining(): float
    {
        load();
        return Objects::remaining($this);
    }

    public function fence(): int
    {
        load();
        return Objects::fence($this);
    }

    public function __destruct()
    {
        load();
        Objects::destruct($this);
    }

    public function __set(string $name, mixed $value): void
    {
        throw new Error("Cannot create dynamic property ClusterLock::\$$name");
    }

    public function __clone()
    {
        throw new Error('Trying to clone an uncloneable object of class ClusterLock');
    }

    public function __serialize(): array
    {
        throw new Exception("Serialization of 'ClusterLock' is not allowed");
    }

    public function __unserialize(array $data): void
    {
        throw new Exception("Unserialization of 'ClusterLock' is not allowed");
    }
}
