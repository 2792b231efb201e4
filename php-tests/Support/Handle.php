<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * A file that an actor has open, and locks: by cluster_flock(), or by flock().
 */
final class Handle
{
    private static int $made = 0;

    private function __construct(
        public readonly Actor $actor,
        private readonly int $number,
        private readonly string $function,
    ) {
    }

    public static function open(
        Actor $actor,
        string $path,
        string $mode = 'c+',
        string $function = 'cluster_flock'
    ): self {
        $handle = new self($actor, ++self::$made, $function);
        $actor->run(
            '$GLOBALS["handles"][$number] = fopen($path, $mode);',
            number: $handle->number,
            path: $path,
            mode: $mode
        );

        return $handle;
    }

    /** In the silence of a call that works, or that finds the file locked. */
    public function lock(int $operation): bool
    {
        return $this->try($operation)->value();
    }

    public function unlock(): bool
    {
        return $this->lock(LOCK_UN);
    }

    public function try(int $operation): Outcome
    {
        $this->begin($operation);

        return $this->actor->outcome();
    }

    public function begin(int $operation): void
    {
        $this->actor->beginRun(
            '$GLOBALS["would_block"] = "untouched";'
            . 'return $function($GLOBALS["handles"][$number], $operation, $GLOBALS["would_block"]);',
            function: $this->function,
            number: $this->number,
            operation: $operation
        );
    }

    /** What the last call has set its third argument to. */
    public function wouldBlock(): mixed
    {
        return $this->actor->run('return $GLOBALS["would_block"];');
    }

    /** Runs code that finds the open file in $h. */
    public function run(string $code, mixed ...$arguments): mixed
    {
        return $this->actor->run(
            '$h = $GLOBALS["handles"][$number]; ' . $code,
            ...['number' => $this->number] + $arguments
        );
    }

    /** Begins to run code that finds the open file in $h. */
    public function beginRun(string $code, mixed ...$arguments): void
    {
        $this->actor->beginRun(
            '$h = $GLOBALS["handles"][$number]; ' . $code,
            ...['number' => $this->number] + $arguments
        );
    }

    public function close(): void
    {
        $this->run('fclose($h);');
    }

    /** The last reference goes. */
    public function forget(): void
    {
        $this->actor->run('unset($GLOBALS["handles"][$number]);', number: $this->number);
    }
}
