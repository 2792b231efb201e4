<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests\Support;

use ClusterLock\Symfony\ClusterLockStore;
use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Outcome;
use PHPUnit\Framework\AssertionFailedError;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\LockFactory;

/**
 * A PHP process with symfony/lock, in one long request. What the test makes in it are Remote objects.
 */
final class Application
{
    public readonly Actor $actor;
    private ?Remote $store = null;
    private ?Remote $factory = null;

    /**
     * @param array<string, mixed>            $options  named arguments of the store's constructor
     * @param array<string, string|int|float> $settings
     */
    public function __construct(Cluster $cluster, private readonly array $options = [], array $settings = [])
    {
        $this->actor = $cluster->actor(
            $settings + ['auto_prepend_file' => dirname(__DIR__) . '/fixtures/remote.php']
        );
    }

    public function store(): Remote
    {
        return $this->store ??= $this->call('remote_new', ClusterLockStore::class, null, $this->options);
    }

    public function factory(): Remote
    {
        return $this->factory ??= $this->new(LockFactory::class, $this->store());
    }

    public function key(string $resource): Remote
    {
        return $this->new(Key::class, $resource);
    }

    public function lock(string $resource, mixed ...$arguments): Remote
    {
        return $this->factory()->createLock($resource, ...$arguments);
    }

    /** @param class-string $class */
    public function new(string $class, mixed ...$arguments): Remote
    {
        return $this->call('remote_new', $class, null, $arguments);
    }

    /** @param class-string $class */
    public function static(string $class, string $method, mixed ...$arguments): mixed
    {
        return $this->call('remote_new', $class, $method, $arguments);
    }

    public function call(string $function, mixed ...$arguments): mixed
    {
        $this->begin($function, ...$arguments);

        return $this->end();
    }

    public function begin(string $function, mixed ...$arguments): void
    {
        $this->actor->begin($function, ...self::references($arguments));
    }

    /** The result of what was begun. */
    public function end(): mixed
    {
        return $this->result($this->actor->outcome());
    }

    private function result(Outcome $outcome): mixed
    {
        if ($outcome->thrown !== null) {
            if ($outcome->warnings !== []) {
                throw new AssertionFailedError(
                    "{$outcome->order} should only throw, not say: {$outcome->messages()}"
                );
            }

            // With the messages of all exceptions before it.
            throw new $outcome->thrown->class($outcome->thrown->full);
        }
        $value = $outcome->value();

        return $value instanceof Reference ? new Remote($this, $value) : $value;
    }

    private static function references(mixed $value): mixed
    {
        return match (true) {
            $value instanceof Remote => $value->reference,
            is_array($value) => array_map(self::references(...), $value),
            default => $value,
        };
    }
}
