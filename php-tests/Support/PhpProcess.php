<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\AssertionFailedError;
use RuntimeException;

/**
 * One real PHP process: tell it lines, wait for its lines, signal it, learn how it ended.
 */
final class PhpProcess
{
    /** @var resource */
    private $handle;

    /** @var array<int, resource> */
    private array $pipes = [];

    private readonly int $pid;
    private readonly string $errorFile;
    private string $output = '';
    private int $read = 0;
    private ?int $exitCode = null;
    private ?int $endedBy = null;

    /** @param list<string> $command */
    private function __construct(array $command, bool $withChannel)
    {
        $this->errorFile = TempDir::forTest() . '/stderr';
        $descriptors = [['pipe', 'r'], ['pipe', 'w'], ['file', $this->errorFile, 'w']];
        if ($withChannel) {
            $descriptors[3] = ['pipe', 'r'];
            $descriptors[4] = ['pipe', 'w'];
        }
        $handle = proc_open(Php::mortal($command), $descriptors, $this->pipes);
        $this->handle = $handle ?: throw new RuntimeException('Cannot start ' . implode(' ', $command));
        stream_set_blocking($this->pipes[1], false);
        $status = proc_get_status($this->handle);
        $this->pid = $status['pid'];
        $this->note($status);
        Cleanup::afterTest(function (): void {
            if (MemoryReport::isWanted()) {
                $this->letEnd();
            }
            $this->kill();
            MemoryReport::refuse($this->errors());
        });
    }

    /**
     * Runs PHP code. It may use say($line) and hear(): string to talk with the test.
     *
     * @param array<string, string|int|float> $settings
     * @param list<string>                    $extensions
     */
    public static function code(string $code, array $settings = [], array $extensions = ['posix', 'pcntl']): self
    {
        $file = TempDir::forTest() . '/code.php';
        file_put_contents($file, "<?php\n" . $code);

        return self::file($file, $settings, [], $extensions);
    }

    /**
     * Runs a PHP file, in which say() and hear() exist, too.
     *
     * @param array<string, string|int|float> $settings
     * @param list<string>                    $arguments
     * @param list<string>                    $extensions
     */
    public static function file(
        string $file,
        array $settings = [],
        array $arguments = [],
        array $extensions = ['posix', 'pcntl'],
        bool $withChannel = false
    ): self {
        $settings += ['auto_prepend_file' => dirname(__DIR__) . '/fixtures/prelude.php'];

        return new self([PHP_BINARY, ...Php::options($settings, $extensions), $file, ...$arguments], $withChannel);
    }

    /**
     * Runs php with these arguments (`--ri`, `-i`, …).
     *
     * @param list<string>                    $arguments
     * @param array<string, string|int|float> $settings
     */
    public static function command(array $arguments, array $settings = []): self
    {
        return new self([PHP_BINARY, ...Php::options($settings), ...$arguments], false);
    }

    /**
     * Runs another program that talks in lines.
     *
     * @param list<string> $command
     */
    public static function program(array $command): self
    {
        return new self($command, false);
    }

    public function pid(): int
    {
        return $this->pid;
    }

    /** @return resource one of the pipes by its number in the child */
    public function pipe(int $number)
    {
        return $this->pipes[$number];
    }

    /** Sends one line; hear() returns it. */
    public function tell(string $line): void
    {
        fwrite($this->pipes[0], $line . "\n");
    }

    /** The next line that it says; fails when it ends without one. */
    public function line(float $seconds = Until::PATIENCE): string
    {
        $deadline = Until::now() + $seconds;
        while (($end = strpos($this->output, "\n", $this->read)) === false) {
            $left = $deadline - Until::now();
            if ($left <= 0 || !$this->receive($left)) {
                $state = $left <= 0 ? sprintf('said nothing for %.1f s', $seconds) : 'ended without saying more';

                throw new AssertionFailedError("The PHP process $state.\n" . $this->transcript());
            }
        }
        $line = substr($this->output, $this->read, $end - $this->read);
        $this->read = $end + 1;

        return $line;
    }

    /** Waits until it says exactly this, and fails when it says anything else. */
    public function expect(string $line, float $seconds = Until::PATIENCE): void
    {
        $said = $this->line($seconds);
        if ($said !== $line) {
            throw new AssertionFailedError(
                "The PHP process should say \"$line\", not \"$said\".\n" . $this->transcript()
            );
        }
    }

    public function signal(int $signal): void
    {
        if ($this->isRunning()) {
            posix_kill($this->pid, $signal);
        }
    }

    public function isRunning(): bool
    {
        if ($this->exitCode === null) {
            $this->note(proc_get_status($this->handle));
        }

        return $this->exitCode === null;
    }

    /** Waits for its end; returns the exit code, -1 when a signal ended it. */
    public function wait(float $seconds = Until::PATIENCE): int
    {
        Until::true(
            function (): bool {
                $this->receive(0.0);

                return !$this->isRunning();
            },
            fn () => "the PHP process should have ended.\n" . $this->transcript(),
            $seconds
        );
        while ($this->receive(0.0)) {
            // Takes what was still in the pipe.
        }

        return $this->exitCode;
    }

    /** The signal that ended it, after wait(). */
    public function endedBy(): ?int
    {
        return $this->endedBy;
    }

    /** Everything on its standard output so far. */
    public function output(): string
    {
        $this->receive(0.0);

        return $this->output;
    }

    /** Everything on its standard error so far: PHP's own messages. */
    public function errors(): string
    {
        return (string) @file_get_contents($this->errorFile);
    }

    /** Ends it at once, if it still runs. */
    public function kill(): void
    {
        if ($this->isRunning()) {
            posix_kill($this->pid, SIGKILL);
        }
        foreach ($this->pipes as $pipe) {
            if (is_resource($pipe)) {
                fclose($pipe);
            }
        }
        if (is_resource($this->handle)) {
            Until::true(fn () => !$this->isRunning(), 'a killed process should end');
            proc_close($this->handle);
        }
    }

    /** Its input is over, which ends one that waits for orders: only a process that ends by itself reports leaks. */
    private function letEnd(): void
    {
        foreach ([0, 3] as $input) {
            if (is_resource($this->pipes[$input] ?? null)) {
                fclose($this->pipes[$input]);
            }
        }
        for ($deadline = Until::now() + 2.0; $this->isRunning() && Until::now() < $deadline; usleep(3000)) {
            $this->receive(0.0);
        }
    }

    /** What it said on both streams and how it ended: for messages. */
    public function transcript(): string
    {
        $state = $this->isRunning() ? 'still running' : "exit code {$this->exitCode}"
            . ($this->endedBy === null ? '' : ", ended by signal {$this->endedBy}");

        return "--- stdout\n{$this->output}--- stderr\n{$this->errors()}--- $state";
    }

    /**
     * How it ended is told once only, to the first who asks after the end.
     *
     * @param array<string, mixed> $status
     */
    private function note(array $status): void
    {
        if (!$status['running']) {
            $this->exitCode = $status['exitcode'];
            $this->endedBy = $status['signaled'] ? $status['termsig'] : null;
        }
    }

    /** Takes output as it comes, for at most $seconds; false when there will be no more. */
    private function receive(float $seconds): bool
    {
        if (!is_resource($this->pipes[1])) {
            return false;
        }
        $readable = [$this->pipes[1]];
        $writable = $except = null;
        $count = @stream_select($readable, $writable, $except, (int) $seconds, (int) (fmod($seconds, 1) * 1e6));
        if (!$count) {
            return $seconds > 0.0;
        }
        $chunk = (string) fread($this->pipes[1], 65536);
        $this->output .= $chunk;

        return $chunk !== '' || !feof($this->pipes[1]);
    }
}
