<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Local;

use ClusterLock\Polyfill\Host;
use ClusterLock\Polyfill\LockName;
use ClusterLock\Polyfill\Quiet;
use Throwable;

/**
 * A lock's file: JSON, in the form in which the extension writes it.
 *
 * By another boot's clock no lease is left. Where open_basedir hides the boot's id, nobody knows whether it is another
 * one: such a process takes what it finds as it is, and what it lets in stands under no boot, so that nobody takes it
 * for that of another.
 */
final class Record
{
    private function __construct(
        public readonly LockName $name,
        public readonly Machine $machine,
        private readonly string $boot,
        private readonly int $fence,
    ) {
    }

    public static function fresh(LockName $name, Moment $now): self
    {
        return new self($name, new Machine($now, false), '', -1);
    }

    /** Null: there is no such thing. */
    public static function parse(string $bytes, Moment $now): ?self
    {
        [$record, $why] = Quiet::call(static function () use ($bytes, $now): ?self {
            try {
                $fields = json_decode($bytes, true, flags: JSON_THROW_ON_ERROR);
                $name = new LockName(pack('C*', ...$fields['name']));
                $machine = Machine::of($fields['machine'], $now);
                $boot = (string) $fields['boot'];
                if ($boot !== '' && Host::boot() !== '' && $boot !== Host::boot()) {
                    $machine->reboot();
                }

                return new self($name, $machine, $boot, $machine->fence());
            } catch (Throwable) {
                return null;
            }
        });

        return $why === '' ? $record : null;
    }

    public function __toString(): string
    {
        $hasGranted = $this->machine->fence() !== $this->fence;

        return json_encode([
            'name' => array_values(unpack('C*', $this->name->bytes)),
            'boot' => Host::boot() !== '' || $hasGranted ? Host::boot() : $this->boot,
            'machine' => $this->machine->record(),
        ], JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES);
    }
}
