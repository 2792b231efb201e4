<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\AssertionFailedError;

/**
 * All that came of a call in another process.
 */
final class Outcome
{
    /** @param list<array{int, string}> $warnings level and message */
    public function __construct(
        public readonly string $order,
        public readonly mixed $value,
        public readonly array $warnings,
        public readonly ?Thrown $thrown,
        public readonly float $seconds,
    ) {
    }

    /** The value of a call that must have worked in silence. */
    public function value(): mixed
    {
        if ($this->thrown !== null) {
            throw new AssertionFailedError(
                "{$this->order} threw {$this->thrown->full}\nwith messages: {$this->messages()}"
            );
        }
        if ($this->warnings !== []) {
            throw new AssertionFailedError("{$this->order} should be silent, not say: {$this->messages()}");
        }

        return $this->value;
    }

    /** The message of a call that must have returned false with exactly one E_WARNING. */
    public function warning(): string
    {
        if ($this->thrown !== null) {
            throw new AssertionFailedError("{$this->order} should warn, not throw {$this->thrown->full}");
        }
        if ($this->value !== false) {
            throw new AssertionFailedError("{$this->order} should be false, not " . var_export($this->value, true));
        }
        if (count($this->warnings) !== 1 || $this->warnings[0][0] !== Php::warning()) {
            throw new AssertionFailedError("{$this->order} should give one E_WARNING, not: {$this->messages()}");
        }

        return $this->warnings[0][1];
    }

    /** What a call must have thrown. */
    public function thrown(string $class): Thrown
    {
        if ($this->thrown === null) {
            throw new AssertionFailedError("{$this->order} should throw $class, but returned "
                . var_export($this->value, true) . " with messages: {$this->messages()}");
        }
        if ($this->thrown->class !== $class) {
            throw new AssertionFailedError("{$this->order} should throw $class, not {$this->thrown->full}");
        }

        return $this->thrown;
    }

    /** All messages in one text. */
    public function messages(): string
    {
        return implode("\n", array_column($this->warnings, 1)) ?: '(nothing)';
    }
}
