<?php

declare(strict_types=1);

/**
 * One way in which programs change a file under a lock. Both nodes repeat step(); whether updates were lost shows in
 * the file in the end, wrong reads are counted here.
 */
abstract class Idiom
{
    public const DIGITS = 8;

    public int $wrongReads = 0;
    public string $example = '';
    public int $taken = 0;

    public function __construct(
        protected readonly string $variant,
        protected readonly string $node,
        protected readonly string $path,
        protected readonly string $name,
    ) {
        $this->prepare();
    }

    abstract public function step(int $number): void;

    protected function prepare(): void
    {
    }

    /** @param resource $stream */
    protected function locked($stream, callable $work, int $operation = LOCK_EX): void
    {
        change_lock($this->variant, $stream, $operation, $this->name);
        $this->taken++;
        $work();
        change_lock($this->variant, $stream, LOCK_UN, $this->name);
    }

    protected function expect(bool $right, string $seen): void
    {
        if (!$right) {
            $this->wrongReads++;
            $this->example = $this->example ?: substr($seen, 0, 60);
        }
    }

    protected static function digits(int $value): string
    {
        return sprintf('%0' . self::DIGITS . 'd', $value);
    }

    /** @param resource $stream */
    protected function increment($stream): void
    {
        rewind($stream);
        $text = stream_get_contents($stream);
        $this->expect(strlen($text) === self::DIGITS, $text);
        rewind($stream);
        fwrite($stream, self::digits((int) $text + 1));
    }
}
