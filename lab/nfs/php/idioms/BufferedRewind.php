<?php

declare(strict_types=1);

/**
 * Reads a part of the file under one lock, all of it under the next: PHP's read buffer still holds the rest of the
 * old content. The counter stands behind a head of equal length.
 */
class BufferedRewind extends KeptOpen
{
    public function step(int $number): void
    {
        $this->locked($this->stream, function (): void {
            rewind($this->stream);
            fread($this->stream, self::DIGITS);
        });
        $this->locked($this->stream, function (): void {
            $text = $this->counter();
            $this->expect(strlen($text) === self::DIGITS, $text);
            fseek($this->stream, self::DIGITS);
            fwrite($this->stream, self::digits((int) $text + 1));
        });
    }

    protected function counter(): string
    {
        rewind($this->stream);
        return substr(stream_get_contents($this->stream), self::DIGITS);
    }
}
