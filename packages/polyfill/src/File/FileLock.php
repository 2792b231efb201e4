<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Functions;
use ClusterLock\Polyfill\Kind;
use ClusterLock\Polyfill\Lease;
use ClusterLock\Polyfill\LockName;
use ClusterLock\Polyfill\Mode;

/** The lock of one open file. */
final class FileLock
{
    public function __construct(
        public readonly LockName $name,
        public readonly Mode $mode,
        /** Null: the kernel's lock alone holds. */
        public readonly ?Lease $lease,
        /** The kernel's lock is held, too. */
        public readonly bool $kernel,
        public readonly OpenFile $file,
    ) {
    }

    /**
     * Gives it back: what was written first, then the kernel's lock, then the cluster's.
     *
     * @param resource|null $stream null: it is closed, and with it went the kernel's lock
     *
     * @return array{bool, string|null} whether that counts as done, and what is to be told
     */
    public function giveBack($stream): array
    {
        $trouble = null;
        if ($stream !== null) {
            $trouble = $this->flush($stream);
            if ($this->kernel && !flock($stream, LOCK_UN)) {
                $trouble ??= "the kernel's lock was not given back";
            }
        }
        try {
            $loss = $this->lease?->release();
            $lost = $loss === null ? null : $this->name->about("was lost before it was released: {$loss->how}");
        } catch (Failure $failure) {
            $lost = Functions::notGivenBack($this->name, $failure);
            if ($trouble === null && $this->kernel && $failure->kind === Kind::Connection) {
                // The kernel's lock has kept everybody out, and is free again.
                return [true, $lost];
            }
        }
        $told = $trouble === null ? $lost : $this->name->about($trouble);

        return [$told === null, $told];
    }

    /**
     * Sends what was written; on a network file system to the server. What went wrong, in words.
     *
     * @param resource $stream
     */
    public function flush($stream): ?string
    {
        $sent = fflush($stream) && (!Mounts::isNetwork($this->file->device) || fdatasync($stream));

        return $sent ? null : 'what was written under the lock may be lost: it could not be sent to the file server';
    }
}
