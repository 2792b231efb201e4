<?php

declare(strict_types=1);

/** The handle stays open over many locks: long-running workers. */
class KeptOpen extends Idiom
{
    protected const MODE = 'c+';

    /** @var resource */
    protected $stream;

    protected function prepare(): void
    {
        $this->stream = fopen($this->path, static::MODE);
    }

    public function step(int $number): void
    {
        $this->locked($this->stream, fn () => $this->increment($this->stream));
    }
}
