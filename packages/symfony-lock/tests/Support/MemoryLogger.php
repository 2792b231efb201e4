<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests\Support;

use Psr\Log\AbstractLogger;

/**
 * Keeps what was logged, as text.
 */
final class MemoryLogger extends AbstractLogger
{
    /** @var list<string> */
    private array $lines = [];

    /**
     * @param mixed                $level
     * @param string|\Stringable   $message
     * @param array<string, mixed> $context
     */
    public function log($level, $message, array $context = []): void
    {
        $values = [];
        foreach ($context as $name => $value) {
            $values["{{$name}}"] = $value instanceof \Throwable ? $value->getMessage() : (string) $value;
        }
        $this->lines[] = $level . ': ' . strtr((string) $message, $values);
    }

    /** @return list<string> */
    public function lines(): array
    {
        return $this->lines;
    }
}
