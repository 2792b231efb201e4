<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use LogicException;
use PHPUnit\Framework\AssertionFailedError;

/**
 * A real PHP process that does what the test tells it, call by call, in one long request.
 *
 * call() and run() are strict: a warning or an exception fails the test. try() and tryRun() give
 * the whole outcome. begin() and beginRun() do not wait; end() and outcome() do.
 */
final class Actor
{
    private readonly PhpProcess $process;
    private ?string $order = null;
    private string $received = '';

    /**
     * @param array<string, string|int|float> $settings
     * @param list<string>                    $extensions
     */
    public function __construct(array $settings, array $extensions = ['posix', 'pcntl'])
    {
        $fixture = dirname(__DIR__) . '/fixtures/actor.php';
        $this->process = PhpProcess::file($fixture, $settings, [], $extensions, true);
        stream_set_blocking($this->process->pipe(4), false);
    }

    public function process(): PhpProcess
    {
        return $this->process;
    }

    public function pid(): int
    {
        return $this->process->pid();
    }

    /** @param callable-string $function */
    public function call(string $function, mixed ...$arguments): mixed
    {
        return $this->try($function, ...$arguments)->value();
    }

    /** @param callable-string $function */
    public function try(string $function, mixed ...$arguments): Outcome
    {
        $this->begin($function, ...$arguments);

        return $this->outcome();
    }

    /** @param callable-string $function */
    public function begin(string $function, mixed ...$arguments): void
    {
        $shown = implode(', ', array_map(static fn ($a) => substr(var_export($a, true), 0, 60), $arguments));
        $this->send(['function' => $function, 'arguments' => $arguments], "$function($shown)");
    }

    /**
     * Runs code, which ends with return; the arguments are its variables.
     */
    public function run(string $code, mixed ...$arguments): mixed
    {
        return $this->tryRun($code, ...$arguments)->value();
    }

    public function tryRun(string $code, mixed ...$arguments): Outcome
    {
        $this->beginRun($code, ...$arguments);

        return $this->outcome();
    }

    public function beginRun(string $code, mixed ...$arguments): void
    {
        $this->send(['code' => $code, 'arguments' => $arguments], trim($code));
    }

    /** The value of what was begun. */
    public function end(float $seconds = 30.0): mixed
    {
        return $this->outcome($seconds)->value();
    }

    /** Whether what was begun has come to its end. */
    public function isDone(): bool
    {
        $this->receive(0.0);

        return $this->complete();
    }

    public function outcome(float $seconds = 30.0): Outcome
    {
        $order = $this->order ?? throw new LogicException('Nothing was begun.');
        $deadline = Until::now() + $seconds;
        while (!$this->complete()) {
            $left = $deadline - Until::now();
            if ($left <= 0) {
                throw new AssertionFailedError(
                    sprintf("%s did not return within %.1f s.\n%s", $order, $seconds, $this->process->transcript())
                );
            }
            if (!$this->receive($left)) {
                $this->process->wait();

                throw new AssertionFailedError("The process died in $order.\n" . $this->process->transcript());
            }
        }
        $result = unserialize(substr($this->received, 4));
        $this->order = null;
        $this->received = '';

        return new Outcome(
            $order,
            $result['value'],
            $result['warnings'],
            $result['thrown'] === null ? null : new Thrown(...$result['thrown']),
            $result['seconds'],
        );
    }

    /** Ends the process as a request ends. */
    public function quit(): void
    {
        fclose($this->process->pipe(3));
        $this->process->wait();
    }

    /** Ends the process with SIGKILL. */
    public function kill(): void
    {
        $this->process->kill();
    }

    /** @param array<string, mixed> $message */
    private function send(array $message, string $order): void
    {
        if ($this->order !== null) {
            throw new LogicException("Still busy with {$this->order}.");
        }
        $this->order = $order;
        $bytes = serialize($message);
        fwrite($this->process->pipe(3), pack('N', strlen($bytes)) . $bytes);
    }

    private function complete(): bool
    {
        return strlen($this->received) >= 4 && strlen($this->received) >= 4 + unpack('N', $this->received)[1];
    }

    private function receive(float $seconds): bool
    {
        $pipe = $this->process->pipe(4);
        $readable = [$pipe];
        $writable = $except = null;
        if (!@stream_select($readable, $writable, $except, (int) $seconds, (int) (fmod($seconds, 1) * 1e6))) {
            return true;
        }
        $chunk = (string) fread($pipe, 65536);
        $this->received .= $chunk;

        return $chunk !== '' || !feof($pipe);
    }
}
