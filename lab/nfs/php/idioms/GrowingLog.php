<?php

declare(strict_types=1);

/** Appends numbered lines through a handle that stays open; before, it reads all of the log. */
final class GrowingLog extends KeptOpen
{
    protected const MODE = 'a+';
    private const LINE = 16;

    public function step(int $number): void
    {
        $this->locked($this->stream, function (): void {
            rewind($this->stream);
            $text = stream_get_contents($this->stream);
            $lines = intdiv(strlen($text), self::LINE);
            $last = $lines === 0 ? '' : substr($text, -self::LINE);
            $whole = $text === '' || ((int) $last === $lines && strlen($text) === $lines * self::LINE);
            $this->expect($whole, "$lines lines, then " . rtrim($last));
            $this->expect(fstat($this->stream)['size'] === strlen($text), 'fstat: ' . fstat($this->stream)['size']);
            fwrite($this->stream, self::digits($lines + 1) . ' ' . $this->node . "-----\n");
        });
    }
}
