<?php

declare(strict_types=1);

/** Empties the file and writes a record of another length: counter, length of the filling, filling, end mark. */
final class ResizedRecord extends KeptOpen
{
    private const LONGEST = 20_000;

    public function step(int $number): void
    {
        $this->locked($this->stream, function (): void {
            rewind($this->stream);
            $text = stream_get_contents($this->stream);
            $counter = (int) $text;
            $filling = str_repeat(chr(97 + $counter % 26), (int) substr($text, 9, self::DIGITS));
            $whole = self::digits($counter) . ' ' . self::digits(strlen($filling)) . " $filling END\n";
            $this->expect($text === $whole, strlen($text) . ' of ' . strlen($whole) . ' bytes: ' . $text);
            $counter++;
            $length = mt_rand(0, self::LONGEST);
            $filling = str_repeat(chr(97 + $counter % 26), $length);
            ftruncate($this->stream, 0);
            rewind($this->stream);
            fwrite($this->stream, self::digits($counter) . ' ' . self::digits($length) . " $filling END\n");
            fflush($this->stream);
        });
    }
}
