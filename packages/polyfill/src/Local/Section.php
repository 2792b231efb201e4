<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Local;

use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Quiet;
use ClusterLock\Polyfill\Text;
use Closure;
use Exception;

use function ClusterLock\Polyfill\undisturbed;

/**
 * The part of a step that one process of the user at a time is in: the kernel's lock on the directory's file "lock".
 * Code of the caller's that ran in here could ask for a lock in turn, and the kernel would let it wait for itself, and
 * all others with it. So no garbage is collected (it may have destructors) and no signal is handled until it is left;
 * and whoever comes in all the same is seen.
 */
final class Section
{
    /** Between two tries, in µs: at first, at most. */
    private const PAUSE = [50, 1000];

    private static ?self $entered = null;

    /** @var list<callable(): mixed> what has to wait until it is left */
    private static array $postponed = [];

    /** @param resource $file */
    private function __construct(
        private $file,
        private readonly Closure $resume,
        private readonly int $mask,
    ) {
    }

    /** Whether this call comes out of it. */
    public static function isEntered(): bool
    {
        if (self::$entered === null) {
            return false;
        }
        foreach ((new Exception())->getTrace() as $frame) {
            if (($frame['class'] ?? '') === self::class && $frame['function'] === 'run') {
                return true;
            }
        }
        // The script has ended inside, of its memory or of its time, and this is one of its shutdown functions.
        self::$entered->leave();

        return false;
    }

    /** @param callable(): mixed $work whose failure is no news */
    public static function postpone(callable $work): void
    {
        self::$postponed[] = $work;
    }

    /**
     * @template T
     *
     * @param resource                  $file
     * @param float                     $patience how long to wait for it, in seconds
     * @param callable(Moment): T       $step
     * @param callable(string): Failure $failed   makes of the reason what is thrown
     *
     * @return T
     *
     * @throws Failure
     */
    public static function run($file, float $patience, callable $step, callable $failed): mixed
    {
        $began = null;
        for ($pause = self::PAUSE[0]; !self::enter($file, $isBusy); $pause = min(2 * $pause, self::PAUSE[1])) {
            $began ??= hrtime(true);
            if (!$isBusy || hrtime(true) - $began > $patience * 1e9) {
                throw $failed($isBusy ? self::inTheWay($file, $patience) : 'flock() failed');
            }
            usleep($pause);
        }
        try {
            return $step(Moment::now());
        } finally {
            self::$entered?->leave();
        }
    }

    /** @param resource $file */
    private static function enter($file, ?bool &$isBusy): bool
    {
        // Before the lock: there must be no moment with it in which others may run.
        $section = new self($file, undisturbed(), umask(0077));
        $isEntered = flock($file, LOCK_EX | LOCK_NB, $wouldBlock);
        $isBusy = (bool) $wouldBlock;
        if ($isEntered) {
            self::$entered = $section;
        } else {
            $section->restore();
        }

        return $isEntered;
    }

    private function leave(): void
    {
        self::$entered = null;
        // A shutdown function of others may have closed it.
        is_resource($this->file) && fclose($this->file);
        [$postponed, self::$postponed] = [self::$postponed, []];
        foreach ($postponed as $work) {
            try {
                $work();
            } catch (Failure) {
                // A lease runs out by itself.
            }
        }
        $this->restore();
    }

    private function restore(): void
    {
        umask($this->mask);
        ($this->resume)();
    }

    /** @param resource $file */
    private static function inTheWay($file, float $patience): string
    {
        ['dev' => $device, 'ino' => $inode] = fstat($file);
        $major = ($device >> 8 & 0xfff) | ($device >> 32 & ~0xfff);
        $minor = ($device & 0xff) | ($device >> 12 & ~0xff);
        $pattern = sprintf('/FLOCK +\S+ +WRITE +(\d+) 0*%x:0*%x:%d /', $major, $minor, $inode);
        // It is read in pieces, between which locks come and go, and one that stays may be passed over.
        for ($looks = 5, $match = []; $match === [] && $looks > 0; $looks--) {
            preg_match($pattern, (string) Quiet::try(static fn () => file_get_contents('/proc/locks')), $match);
        }
        $who = 'another process';
        if ($match !== []) {
            $command = trim((string) Quiet::try(static fn () => file_get_contents("/proc/$match[1]/comm")));
            $who = "pid $match[1]" . ($command === '' ? '' : ' (' . Text::said($command) . ')');
        }

        return sprintf('for %.1f s it has been locked by %s, which takes far less unless it is stopped', $patience, $who);
    }
}
