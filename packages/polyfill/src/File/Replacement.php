<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Quiet;
use ClusterLock\Polyfill\Settings;
use ClusterLock\Polyfill\Text;
use Throwable;

/** A temporary file next to the target, and its rename over it: readers see the old file or the new one. */
final class Replacement
{
    /** @var array<int, self> that are under way */
    private static array $open = [];

    /** It has been written in place: for as long as that took, whoever did not lock could see half of it. */
    public bool $wasInPlace = false;

    /** What it is to be dated, if not by its last write. */
    private ?int $begun = null;

    private readonly string $temporary;
    private readonly int $creator;

    /** @var resource|null the temporary file; null: not yet */
    private $file = null;

    /** @param array<string, int>|null $old the status of the file that is replaced */
    private function __construct(private readonly Target $target, private readonly ?array $old)
    {
        $this->temporary = "{$target->directory}/" . TemporaryName::fresh($target->name);
        $this->creator = (int) getmypid();
        self::$open[spl_object_id($this)] = $this;
    }

    /**
     * The lock on the file, if there is one, must be held by now: from here on the old file counts.
     *
     * @param bool $datesFromBegin the new file's modification time is that of this moment, by the file server's clock. Then it
     *                             is not written in place: half of it could look finished
     *
     * @throws Failure
     */
    public static function begin(Target $target, bool $append, bool $datesFromBegin = false): self
    {
        if (Mounts::isNetwork((int) (Quiet::try(static fn () => stat($target->directory))['dev'] ?? 0))) {
            Refresh::path($target->path);
        }
        $old = $target->stat();
        if ($old !== null && !is_writable($target->path)) {
            throw $target->failed('the existing file is not writable', 'Permission denied');
        }
        $replacement = new self($target, $old);
        try {
            $replacement->create();
            $replacement->begun = $datesFromBegin ? fstat($replacement->file)['ctime'] : null;
            if ($append && $old !== null) {
                $replacement->copyOld();
            }
        } catch (Throwable $thrown) {
            $replacement->abort();

            throw $thrown;
        }

        return $replacement;
    }

    public function path(): string
    {
        return $this->target->path;
    }

    /** @throws Failure part of it may be in the temporary file then: abort */
    public function write(string $data): void
    {
        if ($this->creator !== getmypid()) {
            throw $this->target->failed('this write was begun by the parent process', '');
        }
        while ($data !== '') {
            [$written, $why] = Quiet::call(fn (): int|false => fwrite($this->file, $data));
            if (!$written) {
                throw $this->target->failed('cannot write', self::reason($why));
            }
            $data = substr($data, $written);
        }
    }

    /**
     * Puts the new file in the place of the old one. What became of its durability, if that is to be told.
     *
     * @param callable(): void $verify   asked as the very last thing before the rename, or before the first byte in place
     * @param bool             $isLocked whether that is an exclusive lock, which the others ask for, too
     *
     * @throws Failure the old file is untouched, unless it says otherwise: abort
     */
    public function commit(callable $verify, bool $isLocked): ?string
    {
        if ($this->creator !== getmypid()) {
            throw $this->target->failed('this write was begun by the parent process', '');
        }
        if ($this->begun !== null) {
            $this->date($this->begun);
        }
        if ($this->old !== null) {
            Metadata::apply($this->old, $this->file, $this->temporary, $this->target);
        }
        $isDurable = Settings::now()->durableWrites;
        // On a network file system the data must reach the server before the name does, or others see an empty file.
        if ($isDurable || Mounts::isNetwork(fstat($this->file)['dev'])) {
            [$synced, $why] = Quiet::call(fn (): bool => fsync($this->file));
            if (!$synced) {
                throw $this->target->failed('cannot write to stable storage', self::reason($why));
            }
        }
        fclose($this->file);
        $verify();
        [$renamed, $why] = Quiet::call(fn (): bool => rename($this->temporary, $this->target->path));
        // EBUSY, as the C libraries word it.
        if (!$renamed && preg_match('/resource busy$/iD', $why)) {
            $this->writeInPlace($verify, $isLocked);

            return null;
        }
        if (!$renamed) {
            throw $this->target->failed('cannot rename the temporary file over it', $why);
        }
        unset(self::$open[spl_object_id($this)]);
        $trouble = $isDurable ? $this->syncDirectory() : null;
        TemporaryName::removeStale($this->target);

        return $trouble;
    }

    /** @throws Failure */
    private function writeInPlace(callable $verify, bool $isLocked): void
    {
        if ($this->begun !== null) {
            throw $this->target->failed('is a mount point by itself, which no rename can replace, and is not built in place, '
                . 'where half of it could look finished: mount its directory instead', '');
        }
        if (Settings::now()->mountPointWrites !== 'in_place') {
            throw $this->target->failed('is a mount point by itself, which no rename can replace: mount its directory '
                . 'instead, or allow that it is written in place (cluster_lock.mount_point_writes)', '');
        }
        if (!$isLocked) {
            throw $this->target->failed('is a mount point by itself, and is written in place only under an exclusive '
                . 'lock: LOCK_EX, or the name of one', '');
        }
        [$from, $why] = Quiet::call(fn () => fopen($this->temporary, 're'));
        [$to, $whyNot] = Quiet::call(fn () => fopen($this->target->path, 'cne'));
        if ($from === false || $to === false) {
            throw $this->target->failed('cannot be opened to be written in place', $why . $whyNot);
        }
        $syncs = Settings::now()->durableWrites || Mounts::isNetwork(fstat($to)['dev']);
        $verify();
        $length = fstat($from)['size'];
        [$done, $why] = Quiet::call(static fn (): bool => stream_copy_to_stream($from, $to) === $length
            && ftruncate($to, $length) && (!$syncs || fsync($to)));
        fclose($from);
        if (!fclose($to) || !$done) {
            throw $this->target->failed('was being written in place, and is neither the old file nor the new one now',
                self::reason($why));
        }
        $this->wasInPlace = true;
        $this->abort();
        TemporaryName::removeStale($this->target);
    }

    public function abort(): void
    {
        unset(self::$open[spl_object_id($this)]);
        if (is_resource($this->file)) {
            fclose($this->file);
        }
        if ($this->creator === getmypid()) {
            Quiet::try(fn () => unlink($this->temporary));
        }
    }

    /** The request has ended within a write. */
    public static function abortAll(): void
    {
        foreach (self::$open as $replacement) {
            $replacement->abort();
        }
    }

    /** In a forked child: they are its parent's. */
    public static function forget(): void
    {
        self::$open = [];
    }

    private function create(): void
    {
        // Private when it is to take over an existing file's mode, else what the kernel makes of 0666.
        $mask = $this->old === null ? umask() : umask(0177);
        try {
            [$file, $why] = Quiet::call(fn () => $this->file = fopen($this->temporary, 'xe'));
        } finally {
            umask($mask);
        }
        if ($file === false) {
            $hint = preg_match('/denied|permitted/', $why)
                ? ' (the directory must be writable for an atomic replace)'
                : '';
            $step = 'cannot create a temporary file in ' . Text::path($this->target->directory);
            throw $this->target->failed($step, $why . $hint);
        }
    }

    private function copyOld(): void
    {
        [$copied, $why] = Quiet::call(function (): bool {
            $old = fopen($this->target->path, 'rne');
            if ($old === false) {
                return false;
            }
            $size = fstat($old)['size'];
            $copied = stream_copy_to_stream($old, $this->file);
            fclose($old);

            return $copied !== false && $copied >= $size;
        });
        if (!$copied) {
            throw $this->target->failed('cannot copy the old content', self::reason($why));
        }
    }

    private function date(int $begun): void
    {
        // What reaches a file server late would date it anew.
        if (Mounts::isNetwork(fstat($this->file)['dev'])) {
            Quiet::try(fn () => fsync($this->file));
        }
        // By its path, which is all that PHP has for it; where that leads to nothing, touch() would make an empty file.
        clearstatcache(true, $this->temporary);
        $there = Quiet::try(fn () => lstat($this->temporary));
        if (($there['ino'] ?? null) !== fstat($this->file)['ino']) {
            throw $this->target->failed('cannot rename the temporary file over it', 'No such file or directory');
        }
        [$done, $why] = Quiet::call(fn (): bool => touch($this->temporary, $begun));
        if (!$done || fstat($this->file)['mtime'] > $begun) {
            throw $this->target->failed('cannot set the modification time', $why ?: 'the file system does not keep it');
        }
    }

    private function syncDirectory(): ?string
    {
        [$synced, $why] = Quiet::call(function (): bool {
            $directory = fopen($this->target->directory, 're');

            return $directory !== false && fsync($directory);
        });

        return $synced ? null : 'the new file is in place, but its directory '
            . Text::path($this->target->directory) . ' could not be synced: ' . ($why ?: 'fsync() failed')
            . '; a power failure now could bring the old file back';
    }

    /** `Write of 8192 bytes failed with errno=28 No space left on device` */
    private static function reason(string $why): string
    {
        return preg_replace('/^.* errno=\d+ /', '', $why) ?: 'for an unknown reason';
    }
}
