<?php

declare(strict_types=1);

namespace ClusterLock\Chaos;

/**
 * What one process did and when: a JSON object a line, written before and after each call. hrtime() is
 * one clock for all processes of the machine.
 */
final class History
{
    /** @var resource */
    private $file;

    private int $lastHold = 0;

    public function __construct(string $directory, public readonly string $who)
    {
        $path = "$directory/$who.jsonl";
        $isNew = !file_exists($path);
        // Unbuffered: what a killed process has said stays said.
        $this->file = fopen($path, 'a');
        // Ids must not repeat in a process that serves many requests.
        $this->lastHold = intdiv(hrtime(true), 1000);
        if ($isNew) {
            $this->tell('start', ['pid' => getmypid(), 'who' => $who]);
        }
    }

    /** @param array<string, mixed> $more */
    public function tell(string $event, array $more = []): void
    {
        fwrite($this->file, json_encode(['t' => hrtime(true), 'e' => $event] + $more, JSON_UNESCAPED_UNICODE) . "\n");
    }

    public function nextHold(): int
    {
        return ++$this->lastHold;
    }
}
