<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ClusterLock\Polyfill\File\Building;
use ClusterLock\Polyfill\File\FileLocks;
use ClusterLock\Polyfill\File\LocalPath;
use ClusterLock\Polyfill\File\OpenFile;
use ClusterLock\Polyfill\File\Refresh;
use ClusterLock\Polyfill\File\Sources;
use ClusterLock\Polyfill\File\Taking;
use ClusterLock\Polyfill\File\Writing;
use Throwable;
use TypeError;

/** The functions on files. */
final class FileFunctions
{
    public static function putContents(string $filename, mixed $data, int $flags, ?string $lock): int|false
    {
        $function = 'cluster_file_put_contents';
        Request::enter();
        Arguments::path($function, 1, $filename);
        if ($filename === '') {
            throw Arguments::error($function, 1, 'filename', 'must not be empty');
        }
        $guard = $lock === null ? null : Arguments::name($function, 4, $lock, 'lock');
        $writing = new Writing(Writing::data($function, $data), $flags, $guard);
        try {
            $path = LocalPath::of($filename, ($flags & FILE_USE_INCLUDE_PATH) !== 0);
            $bytes = $writing->to($path);
        } catch (Failure $failure) {
            Raise::warning($function, $failure->getMessage());

            return false;
        }
        if ($writing->warning !== null) {
            Raise::warning($function, $writing->warning);
        }

        return $bytes;
    }

    /** @param array<mixed> $sources */
    public static function build(string $target, mixed $build, array $sources, ?float $timeout): bool
    {
        $function = 'cluster_file_build';
        $build = Arguments::callable($function, 2, $build, 'build');
        Request::enter();
        if (Arguments::path($function, 1, $target, 'target') === '') {
            throw Arguments::error($function, 1, 'target', 'must not be empty');
        }
        $timeout = Arguments::timeout($function, 4, $timeout);
        $sources = Arguments::paths($function, 3, $sources, 'sources');
        try {
            $path = LocalPath::of($target, false, 'built');
            $from = static fn (string $source): string => LocalPath::of($source, false, 'sources');
            $building = new Building($path, new Sources(array_map($from, $sources)));
            if ($building->isFresh()) {
                return true;
            }
            $turn = $building->wait($function, $timeout);
        } catch (Failure $failure) {
            Raise::warning($function, $failure->getMessage());

            return false;
        }
        Functions::warnLost($function, $building->name, $turn);
        if (!$turn->isHeld()) {
            if ($turn->isCovered) {
                $building->refresh();
            }

            return $turn->isCovered;
        }

        return self::run($function, $building, $turn, $build);
    }

    /** Under the lock: looks once more, and builds. */
    private static function run(string $function, Building $building, Turn $turn, callable $build): bool
    {
        [$isDone, $trouble, $content] = [false, null, false];
        Request::calls($building->name, $turn->hold, 1);
        try {
            if ($building->isFresh()) {
                $building->refresh();
                $isDone = true;
            } else {
                $building->begin();
                $content = Functions::call($build, static function () use ($building, $turn): void {
                    $building->abort();
                    Functions::endRun($building->name, $turn, false);
                });
                if (is_string($content)) {
                    Request::enter();
                    $trouble = $building->write($content, $turn);
                    $isDone = true;
                }
            }
        } catch (Failure $failure) {
            $trouble = $failure->getMessage();
        } catch (Throwable $thrown) {
            $building->abort();
            [, $loss] = Functions::endRun($building->name, $turn, false);
            if ($loss !== null) {
                Functions::tellBeside($function, $thrown, $loss);
            }

            throw $thrown;
        }
        $building->abort();
        [$isComplete, $loss] = Functions::endRun($building->name, $turn, $isDone);
        $trouble = $isDone ? $loss?->getMessage() ?? $trouble : $trouble ?? $loss?->getMessage();
        if (!is_string($content) && $content !== false) {
            $trouble ??= $building->notBuilt($content);
        }
        if ($trouble !== null) {
            Raise::warning($function, $trouble);
        }

        return $isComplete;
    }

    public static function flock(mixed $stream, int $operation, mixed &$wouldBlock): bool
    {
        $function = 'cluster_flock';
        Request::enter();
        self::checkStream($function, $stream);
        if (!in_array($operation & LOCK_UN, [LOCK_SH, LOCK_EX, LOCK_UN], true)) {
            throw Arguments::error($function, 2, 'operation', 'must be one of LOCK_SH, LOCK_EX, or LOCK_UN');
        }
        $wouldBlock = 0;
        if (($operation & LOCK_UN) === LOCK_UN) {
            return self::unlock($stream, $operation);
        }
        $file = OpenFile::of($stream);
        if ($file === null) {
            return flock($stream, $operation, $wouldBlock);
        }
        $mode = ($operation & LOCK_UN) === LOCK_EX ? Mode::Exclusive : Mode::Shared;
        $taking = new Taking($stream, $file, $mode, ($operation & LOCK_NB) !== 0);
        try {
            $taken = $taking->take();
        } catch (Failure $failure) {
            Raise::warning($function, $taking->about($failure->getMessage()));

            return false;
        }
        $wouldBlock = $taken || !is_resource($stream) ? 0 : 1;
        self::warn($function, $taking, $taken ? $stream : null);

        return $taken;
    }

    public static function clearStatCache(string $filename): void
    {
        Request::enter();
        clearstatcache(true, Arguments::path('cluster_clearstatcache', 1, $filename));
        Refresh::path($filename);
    }

    /** @param resource $stream */
    private static function unlock($stream, int $operation): bool
    {
        $lock = FileLocks::take($stream);
        if ($lock === null) {
            return flock($stream, $operation);
        }
        [$done, $trouble] = $lock->giveBack($stream);
        if ($trouble !== null) {
            Raise::warning('cluster_flock', $trouble);
        }

        return $done;
    }

    /**
     * When an error handler throws at that, the caller never learns of the lock.
     *
     * @param resource|null $stream
     */
    private static function warn(string $function, Taking $taking, $stream): void
    {
        if ($taking->warning === null) {
            return;
        }
        try {
            Raise::warning($function, $taking->about($taking->warning));
        } catch (Throwable $thrown) {
            if ($stream !== null && is_resource($stream)) {
                FileLocks::take($stream)?->giveBack($stream);
            }

            throw $thrown;
        }
    }

    private static function checkStream(string $function, mixed $stream): void
    {
        if (gettype($stream) === 'resource (closed)') {
            throw Raise::here(new TypeError("$function(): supplied resource is not a valid stream resource"));
        }
        if (!is_resource($stream)) {
            $type = get_debug_type($stream);
            $message = "$function(): Argument #1 (\$stream) must be of type resource, $type given";

            throw Raise::here(new TypeError($message));
        }
        if (get_resource_type($stream) !== 'stream' && get_resource_type($stream) !== 'persistent stream') {
            throw Raise::here(new TypeError("$function(): supplied resource is not a valid stream resource"));
        }
    }
}
