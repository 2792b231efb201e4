<?php

declare(strict_types=1);

/** Appends with one call that opens, locks, writes and closes. */
final class PutAppend extends Idiom
{
    public function step(int $number): void
    {
        $line = self::digits($number) . ' ' . $this->node . "-----\n";
        $written = match ($this->variant) {
            'gate', 'replace' => cluster_file_put_contents($this->path, $line, FILE_APPEND | LOCK_EX),
            'naive' => $this->underNamedLock($line),
            default => file_put_contents($this->path, $line, FILE_APPEND | LOCK_EX),
        };
        $this->taken++;
        $this->expect($written === strlen($line), var_export($written, true));
    }

    private function underNamedLock(string $line): int|false
    {
        if (!cluster_lock($this->name)) {
            return false;
        }
        $written = file_put_contents($this->path, $line, FILE_APPEND);
        cluster_unlock($this->name);
        return $written;
    }
}
