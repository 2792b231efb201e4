<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Counters;
use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\LockName;
use ClusterLock\Polyfill\Mode;
use ClusterLock\Polyfill\Request;
use ClusterLock\Polyfill\Settings;
use ClusterLock\Polyfill\Text;
use ClusterLock\Polyfill\Turn;
use ClusterLock\Polyfill\Wish;

/** One cluster_file_build(): the file, what it is made from, and the run on its lock. */
final class Building
{
    public readonly LockName $name;

    private readonly Target $target;
    private ?Replacement $replacement = null;

    /** @throws Failure */
    public function __construct(private readonly string $path, private readonly Sources $sources)
    {
        $this->target = Target::resolve($path);
        $this->name = LockName::ofFile($this->target->path, Settings::now()->pathMap->resolved());
    }

    /** @throws Failure */
    public function isFresh(): bool
    {
        return $this->sources->areOlderThan($this->target);
    }

    /** @throws Failure */
    public function wait(string $function, float $timeout): Turn
    {
        try {
            return Request::beginRun($function, $this->name, new Wish(Mode::Exclusive, $timeout, Settings::now()->ttl, true));
        } catch (Failure $failure) {
            throw Failure::other($this->name->about($failure->getMessage()));
        }
    }

    /**
     * Under the lock. In this order: what the build reads is what has been there at the temporary file's date, or is newer.
     *
     * @throws Failure
     */
    public function begin(): void
    {
        $this->replacement = Replacement::begin($this->target, false, true);
        $this->sources->refresh();
        // PHP remembers for minutes where links led, and would open the old sources.
        clearstatcache(true);
    }

    /**
     * The lock is asked for as the very last thing before the rename. What is to be told of the file's durability.
     *
     * @throws Failure
     */
    public function write(string $content, Turn $turn): ?string
    {
        $this->replacement->write($content);
        $warning = $this->replacement->commit(function () use ($turn): void {
            try {
                // One that was given back and taken again is another.
                if (Request::lease($this->name) !== $turn->lease) {
                    throw Failure::other('is not held by this request any more');
                }
                $turn->lease->verify();
            } catch (Failure $failure) {
                $unchanged = Text::path($this->target->path) . ' is unchanged: ';
                throw Failure::other($unchanged . $this->name->about($failure->getMessage()));
            }
        }, true);
        $this->replacement = null;
        Counters::add('writes');
        $this->forget();

        return $warning;
    }

    public function abort(): void
    {
        $this->replacement?->abort();
        $this->replacement = null;
    }

    public function notBuilt(mixed $returned): string
    {
        $type = get_debug_type($returned);

        return Text::path($this->target->path) . " is not built: the function has returned $type, and not a string";
    }

    /** Another one has built it: this node shall look at it anew. */
    public function refresh(): void
    {
        Refresh::path($this->target->path);
        $this->forget();
    }

    private function forget(): void
    {
        clearstatcache(true, $this->path);
        clearstatcache(true, $this->target->path);
        Writing::forgetScript($this->target->path);
    }
}
