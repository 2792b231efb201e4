<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Local;

use ClusterLock\Polyfill\Host;
use ClusterLock\Polyfill\LockName;
use Throwable;

/** A lock's file: JSON, in the form in which the extension writes it. */
final class Record
{
    /** @param array<string, mixed> $fields */
    private function __construct(private readonly array $fields)
    {
    }

    public static function of(LockName $name, Machine $machine): string
    {
        return json_encode([
            'name' => array_values(unpack('C*', $name->bytes)),
            // By another boot's clock no lease is left.
            'boot' => trim(Host::boot()),
            'machine' => $machine->record(),
        ], JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES);
    }

    /** Null: there is no such thing. */
    public static function readable(?string $bytes): ?self
    {
        if ($bytes === null) {
            return null;
        }
        try {
            $record = new self((array) json_decode($bytes, true, flags: JSON_THROW_ON_ERROR));
            $record->machine(Moment::now());

            return $record->lockName() === null ? null : $record;
        } catch (Throwable) {
            return null;
        }
    }

    public function lockName(): ?LockName
    {
        $bytes = pack('C*', ...$this->fields['name']);

        return $bytes === '' || strlen($bytes) > LockName::MAX ? null : new LockName($bytes);
    }

    public function machine(Moment $now): Machine
    {
        $machine = Machine::of($this->fields['machine'], $now);
        if ($this->fields['boot'] !== trim(Host::boot())) {
            $machine->reboot();
        }

        return $machine;
    }
}
