<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use RuntimeException;

/**
 * A server with processes of its own. All of them end with the test.
 */
final class ServerProcess
{
    public readonly int $pid;

    /** @var resource */
    private $process;

    private readonly string $output;

    /**
     * @param list<string>          $command
     * @param array<string, string> $environment more of it
     * @param int                   $end         the signal at which it ends
     * @param bool                  $each        its children want that signal, too
     */
    public function __construct(
        array $command,
        array $environment = [],
        private readonly int $end = SIGTERM,
        private readonly bool $each = false
    ) {
        $this->output = TempDir::forTest() . '/output';
        $null = ['file', '/dev/null', 'r'];
        $log = ['file', $this->output, 'a'];
        // In a group of its own, of which it is the first: Apache signals the whole of its.
        $command = Php::mortal(['/usr/bin/setsid', ...$command], $end);
        $process = proc_open($command, [$null, $log, $log], $pipes, null, $environment + getenv());
        $this->process = $process ?: throw new RuntimeException("Cannot start {$command[0]}");
        $this->pid = proc_get_status($process)['pid'];
        Cleanup::afterTest(function (): void {
            $this->stop();
            MemoryReport::refuse($this->output());
        });
    }

    /** What it and its children have said. */
    public function output(): string
    {
        return (string) @file_get_contents($this->output);
    }

    /** @return list<int> */
    public function children(): array
    {
        $children = (string) @file_get_contents("/proc/{$this->pid}/task/{$this->pid}/children");

        return array_map('intval', preg_split('/\s+/', $children, -1, PREG_SPLIT_NO_EMPTY));
    }

    public function isRunning(): bool
    {
        return is_resource($this->process) && proc_get_status($this->process)['running'];
    }

    public function signal(int $signal): void
    {
        posix_kill($this->pid, $signal);
    }

    /** Tells it to end; what of it has not done so after five seconds is killed, and what it had begun meanwhile. */
    public function stop(): void
    {
        if (!is_resource($this->process)) {
            return;
        }
        posix_kill($this->each ? -$this->pid : $this->pid, $this->end);
        // Zombies are there, too, until they are asked for.
        $isThere = fn () => $this->isRunning() || posix_kill(-$this->pid, 0);
        for ($deadline = Until::now() + 5.0; $isThere() && Until::now() < $deadline;) {
            usleep(3000);
        }
        posix_kill(-$this->pid, SIGKILL);
        proc_close($this->process);
    }
}
