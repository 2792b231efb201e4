<?php

declare(strict_types=1);

/**
 * Node a increments under LOCK_EX and publishes the value beside NFS; node b reads under LOCK_SH, and must see at
 * least what had been published before it asked for the lock.
 */
final class SharedReader extends KeptOpen
{
    /** @var resource in the memory that both nodes share, because one kernel plays both */
    private $published;

    protected function prepare(): void
    {
        parent::prepare();
        $this->published = fopen("/run/published.$this->name", 'c+');
        stream_set_read_buffer($this->published, 0);
    }

    public function step(int $number): void
    {
        if ($this->node === 'a') {
            $this->locked($this->stream, fn () => $this->increment($this->stream));
            rewind($this->published);
            fwrite($this->published, self::digits($number + 1));
            return;
        }
        rewind($this->published);
        $known = (int) fread($this->published, self::DIGITS);
        $this->locked($this->stream, function () use ($known): void {
            rewind($this->stream);
            $text = stream_get_contents($this->stream);
            $this->expect(strlen($text) === self::DIGITS && (int) $text >= $known, "$text although $known was known");
        }, LOCK_SH);
    }
}
