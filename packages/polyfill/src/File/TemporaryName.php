<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Host;
use ClusterLock\Polyfill\Quiet;

/**
 * Names of temporary files, and the removal of those whose writers were killed: as the extension has them, so that each
 * clears what the other left. `.NAME.HOST.PID.RANDOM.cluster_lock.tmp`
 */
final class TemporaryName
{
    private const SUFFIX = '.cluster_lock.tmp';

    /** The longest part of a target's name that, with all the rest, fits the 255 bytes of a name. */
    private const MAX_NAME = 200;

    /** Seconds since the last write after which a dead process's file is stale; one that cannot be asked. */
    private const STALE = [3_600, 86_400];

    /** The most names that one write reads of a directory, and the most temporary files that it looks at. */
    private const MAX_NAMES = 1000;
    private const MAX_FOUND = 100;

    private const PATTERN = '/^\..+\.([0-9a-f]{8})\.([1-9]\d*)\.[0-9a-f]{16}\.cluster_lock\.tmp$/sD';

    /** @var array<string, true> directories that this request has searched: that may cost more than a write */
    private static array $searched = [];

    private static ?string $host = null;

    public static function fresh(string $target): string
    {
        return self::prefix($target) . self::host() . '.' . getmypid() . '.' . bin2hex(random_bytes(8)) . self::SUFFIX;
    }

    /**
     * After a write: those of any target in its directory, for a plugin may give each file a new name. Best effort:
     * what cannot be removed now is left for the next time.
     */
    public static function removeStale(Target $target): void
    {
        if (isset(self::$searched[$target->directory])) {
            return;
        }
        self::$searched[$target->directory] = true;
        $directory = Quiet::try(static fn () => opendir($target->directory));
        if ($directory === false) {
            return;
        }
        $found = [];
        for ($read = 0; $read < self::MAX_NAMES && count($found) < self::MAX_FOUND; $read++) {
            $name = readdir($directory);
            if ($name === false) {
                break;
            }
            if (preg_match(self::PATTERN, $name, $match)) {
                $found[] = $match;
            }
        }
        closedir($directory);
        // By the file server's clock, which also stamps the temporary files.
        $now = Quiet::try(static fn () => filectime($target->path)) ?: time();
        foreach ($found as [$name, $host, $pid]) {
            self::removeIfStale("{$target->directory}/$name", $now, $host, (int) $pid);
        }
    }

    private static function removeIfStale(string $path, int $now, string $host, int $pid): void
    {
        $stat = Quiet::try(static fn () => lstat($path));
        if ($stat === false || ($stat['mode'] & 0170000) !== 0100000) {
            return;
        }
        $age = $now - $stat['mtime'];
        $isStale = $host === self::host()
            ? $age > self::STALE[0] && !is_dir("/proc/$pid")
            : $age > self::STALE[1];
        if ($isStale) {
            Quiet::try(static fn () => unlink($path));
        }
    }

    /** How the names of a target's temporary files begin. */
    private static function prefix(string $target): string
    {
        if (strlen($target) <= self::MAX_NAME) {
            return ".$target.";
        }
        // Cut between characters: some file systems insist on valid UTF-8.
        $end = self::MAX_NAME - 17;
        while ($end > self::MAX_NAME - 21 && (ord($target[$end]) & 0xc0) === 0x80) {
            $end--;
        }

        return '.' . substr($target, 0, $end) . '~' . substr(sha1($target), 0, 16) . '.';
    }

    /** What process ids on this machine, since this boot, in this container are told apart by: the extension's bytes. */
    private static function host(): string
    {
        $namespace = Quiet::try(static fn () => readlink('/proc/self/ns/pid'));
        $boot = Host::boot() === '' ? '' : Host::boot() . "\n";

        return self::$host ??= substr(sha1(php_uname('n') . $boot . $namespace), 0, 8);
    }
}
