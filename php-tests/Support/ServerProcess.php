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
        // In a group of its own: Apache signals the whole of its.
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

    /** Tells it to end; what has not done so after five seconds is killed. */
    public function stop(): void
    {
        if (!is_resource($this->process)) {
            return;
        }
        $all = [];
        foreach ([...$this->children(), $this->pid] as $pid) {
            $all[$pid] = self::birth($pid);
        }
        posix_kill($this->each ? -$this->pid : $this->pid, $this->end);
        $alive = static fn (): array => array_filter(
            $all,
            static fn (?string $birth, int $pid) => $birth !== null && self::birth($pid) === $birth,
            ARRAY_FILTER_USE_BOTH
        );
        // A zombie until it is asked for.
        for ($deadline = Until::now() + 5.0; ($this->isRunning() || $alive() !== []) && Until::now() < $deadline;) {
            usleep(3000);
        }
        foreach ($alive() as $pid => $birth) {
            posix_kill($pid, SIGKILL);
        }
        proc_close($this->process);
    }

    /** When this process began: its number may be another one's later. */
    private static function birth(int $pid): ?string
    {
        $stat = @file_get_contents("/proc/$pid/stat");

        return $stat ? explode(' ', substr($stat, strrpos($stat, ')') + 2))[19] : null;
    }
}
