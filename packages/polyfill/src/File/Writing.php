<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Counters;
use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Functions;
use ClusterLock\Polyfill\Lease;
use ClusterLock\Polyfill\LockName;
use ClusterLock\Polyfill\Mode;
use ClusterLock\Polyfill\Quiet;
use ClusterLock\Polyfill\Raise;
use ClusterLock\Polyfill\Request;
use ClusterLock\Polyfill\Settings;
use ClusterLock\Polyfill\Text;
use ClusterLock\Polyfill\Turn;
use ClusterLock\Polyfill\Wish;
use Throwable;
use TypeError;

/** One cluster_file_put_contents(): the data, and the locks that guard it. */
final class Writing
{
    private const CHUNK = 65_536;

    /** The file is in place, and this is to be told all the same. */
    public ?string $warning = null;

    private readonly bool $isStream;

    /** @var array<string, array{LockName, Lease}> by name: what has to be held from here to the rename */
    private array $guards = [];

    /**
     * @param string|array<mixed>|resource $data
     * @param LockName|null                $guard held by the caller
     */
    public function __construct(private $data, private readonly int $flags, private readonly ?LockName $guard)
    {
        // What is a stream now may be closed when its turn comes.
        $this->isStream = is_resource($data);
    }

    /**
     * What file_put_contents() takes. Converted before anything is held: this may run user code.
     *
     * @return string|array<mixed>|resource
     */
    public static function data(string $function, mixed $data): mixed
    {
        if (gettype($data) === 'resource (closed)' || (is_resource($data) && get_resource_type($data) !== 'stream')) {
            throw Raise::here(new TypeError("$function(): supplied resource is not a valid stream resource"));
        }
        if (is_object($data) && !method_exists($data, '__toString')) {
            $type = get_debug_type($data);
            $allowed = 'must be of type string, array, resource or Stringable';

            throw Raise::here(new TypeError("$function(): Argument #2 (\$data) $allowed, $type given"));
        }

        return is_array($data) || is_resource($data) ? $data : (string) $data;
    }

    /**
     * Bytes of the data.
     *
     * @throws Failure the old file is untouched, and no temporary file is left
     */
    public function to(string $path): int
    {
        $this->checkGuard();
        $target = Target::resolve($path);
        $append = ($this->flags & FILE_APPEND) !== 0;
        $turn = $append || ($this->flags & LOCK_EX) !== 0 ? $this->lockFile($target) : null;
        $name = $this->nameOf($target);
        $replacement = null;
        try {
            $this->warnLost($name, $turn);
            $replacement = Replacement::begin($target, $append);
            $bytes = $this->isStream ? $this->copy($replacement) : $this->push($replacement);
            $this->commit($replacement);
        } catch (Throwable $thrown) {
            $replacement?->abort();
            $this->giveBack($name, $turn);

            throw $thrown;
        }
        $this->giveBack($name, $turn);
        Counters::add('writes');
        clearstatcache(true, $path);
        clearstatcache(true, $target->path);
        self::forgetScript($target->path);

        return $bytes;
    }

    private function checkGuard(): void
    {
        if ($this->guard === null) {
            return;
        }
        $lease = Request::lease($this->guard);
        $loss = $lease?->loss();
        if ($lease === null || $loss !== null) {
            $what = $loss === null ? 'is not held by this request' : "was lost: {$loss->how}";
            throw Failure::other($this->guard->about($what));
        }
        $this->guards[$this->guard->bytes] = [$this->guard, $lease];
    }

    private function lockFile(Target $target): Turn
    {
        $name = $this->nameOf($target);
        $settings = Settings::now();
        try {
            $turn = Request::lock($name, new Wish(Mode::Exclusive, $settings->timeout, $settings->ttl));
        } catch (Failure $failure) {
            throw Failure::other($name->about($failure->getMessage()));
        }
        if ($turn->lease === null) {
            $what = sprintf('not acquired within %.1f s, nothing is written', $turn->waited);
            throw Failure::other($name->about($what));
        }
        // It may be what the caller has named: converted that goes on, lost it does not.
        $isLost = $turn->lost !== null && isset($this->guards[$name->bytes]);
        $this->guards[$name->bytes] = $isLost ? $this->guards[$name->bytes] : [$name, $turn->lease];

        return $turn;
    }

    private function warnLost(LockName $name, ?Turn $turn): void
    {
        if ($turn?->lost !== null) {
            $what = "it was held and is lost: {$turn->lost->how}";
            Raise::warning('cluster_file_put_contents', $name->about($what));
        }
    }

    private function nameOf(Target $target): LockName
    {
        return LockName::ofFile($target->path, Settings::now()->pathMap->resolved());
    }

    /** Reading may run code of the user (a wrapper, a filter), as may have all that went before. */
    private function copy(Replacement $replacement): int
    {
        for ($bytes = 0; true; $bytes += strlen($chunk)) {
            if (!is_resource($this->data)) {
                throw Failure::other('The source stream was closed meanwhile, nothing is written');
            }
            // Not until feof(): that is true after an error, too, which only the next read tells.
            $chunk = fread($this->data, self::CHUNK);
            if ($chunk === false) {
                throw Failure::other('The source stream cannot be read');
            }
            if ($chunk === '') {
                return $bytes;
            }
            $replacement->write($chunk);
        }
    }

    private function push(Replacement $replacement): int
    {
        $bytes = 0;
        foreach (is_array($this->data) ? $this->data : [$this->data] as $piece) {
            $text = (string) $piece;
            $replacement->write($text);
            $bytes += strlen($text);
        }

        return $bytes;
    }

    /**
     * Asks for the locks as the very last thing before the rename; and after a write in place, which takes its time. One that
     * was given back and taken again is another.
     */
    private function commit(Replacement $replacement): void
    {
        $path = Text::path($replacement->path());
        $verify = function (string $before, string $after = ''): void {
            foreach ($this->guards as [$name, $lease]) {
                try {
                    if (Request::lease($name) !== $lease) {
                        throw Failure::other('is not held by this request any more');
                    }
                    $lease->verify();
                } catch (Failure $failure) {
                    throw Failure::other($before . $name->about($failure->getMessage()) . $after);
                }
            }
        };
        $isExclusive = static fn (array $guard): bool => $guard[1]->mode === Mode::Exclusive;
        $this->warning = $replacement->commit(
            static fn () => $verify("$path is unchanged: "),
            array_filter($this->guards, $isExclusive) !== []
        );
        if ($replacement->wasInPlace) {
            $verify("$path was written in place, but ", '; others may have written to it at the same time');
        }
    }

    /** A lock lost after the rename has guarded all it had to guard: only a failure is told. */
    private function giveBack(LockName $name, ?Turn $turn): void
    {
        if ($turn === null) {
            return;
        }
        try {
            Request::unlock($name, $turn->hold);
        } catch (Failure $failure) {
            $this->warning ??= Functions::notGivenBack($name, $failure);
        }
    }

    public static function forgetScript(string $path): void
    {
        if (str_ends_with(strtolower($path), '.php') && function_exists('opcache_invalidate')) {
            // opcache.restrict_api makes a call from elsewhere a warning that nobody could do anything about.
            Quiet::call(static fn (): bool => opcache_invalidate($path, true));
        }
    }
}
