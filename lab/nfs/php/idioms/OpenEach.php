<?php

declare(strict_types=1);

/** Open, lock, read, write, unlock, close: what most plugins do. */
final class OpenEach extends Idiom
{
    public function step(int $number): void
    {
        $stream = fopen($this->path, 'c+');
        $this->locked($stream, fn () => $this->increment($stream));
        fclose($stream);
    }
}
