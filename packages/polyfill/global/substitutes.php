<?php

/**
 * What stands in for functions that disable_functions has taken away: PHP finds a function of the namespace before
 * the global one. Each does what can be done without, or fails as the function would, or says why it fails.
 */

declare(strict_types=1);

namespace ClusterLock\Polyfill {
    use Error;
    use SplFileInfo;

    // Under a condition, as all of them: they may have been preloaded, which declares what is not.
    if (!\function_exists(__NAMESPACE__ . '\disabled')) {
        /** @throws Failure */
        function disabled(string $function, string $hint = ''): never
        {
            throw Failure::other("PHP's function $function() is disabled (disable_functions)$hint");
        }
    }

    if (!\function_exists('getmypid')) {
        function getmypid(): int
        {
            return Host::pid();
        }
    }
    if (!\function_exists('gethostname')) {
        function gethostname(): string
        {
            return Host::name();
        }
    }
    if (!\function_exists('debug_backtrace')) {
        // Reports do not name the code that asks, then.
        function debug_backtrace(): array
        {
            return [];
        }
    }
    if (!\function_exists('error_log')) {
        // Nobody can be told, then: what is logged is no error.
        function error_log(string $message): bool
        {
            return false;
        }
    }
    if (!\function_exists('trigger_error')) {
        function trigger_error(string $message, int $level): bool
        {
            try {
                return \user_error($message, $level);
            } catch (Error) {
                return error_log($message);
            }
        }
    }
    // Settings::setDsn() refuses to do without a DSN where one that is set could not be seen.
    if (!\function_exists('get_cfg_var')) {
        function get_cfg_var(string $option): bool
        {
            return false;
        }
    }
    if (!\function_exists('getenv')) {
        function getenv(string $name): bool
        {
            return false;
        }
    }
    if (!\function_exists('realpath')) {
        function realpath(string $path): string|false
        {
            return (new SplFileInfo($path))->getRealPath();
        }
    }
    if (!\function_exists('flock')) {
        /** @param resource $stream */
        function flock($stream, int $operation, mixed &$wouldBlock = null): bool
        {
            Raise::warning('cluster_flock', "PHP's function flock() is disabled (disable_functions)");

            return false;
        }
    }
}

namespace ClusterLock\Polyfill\Local {
    use function ClusterLock\Polyfill\disabled;

    if (!\function_exists('flock')) {
        /** @param resource $file */
        function flock($file, int $operation, mixed &$wouldBlock = null): bool
        {
            disabled('flock', ', and locks of this host are made of it: they need a server (cluster_lock.dsn)');
        }
    }
    if (!\function_exists('umask')) {
        // The directory is the user's own.
        function umask(int $mask): int
        {
            return 0;
        }
    }
}

namespace ClusterLock\Polyfill\Redis {
    use ClusterLock\Polyfill\Host;

    if (!\function_exists('getmypid')) {
        function getmypid(): int
        {
            return Host::pid();
        }
    }
}

namespace ClusterLock\Polyfill\File {
    use ClusterLock\Polyfill\Host;
    use FilesystemIterator;
    use RuntimeException;
    use SplFileInfo;

    use function ClusterLock\Polyfill\disabled;

    if (!\function_exists('getmypid')) {
        function getmypid(): int
        {
            return Host::pid();
        }
    }
    if (!\function_exists('php_uname')) {
        function php_uname(string $what): string
        {
            return Host::name();
        }
    }
    if (!\function_exists('umask')) {
        function umask(?int $mask = null): int
        {
            disabled('umask', ', and without it others could read the new file while it is written');
        }
    }
    if (!\function_exists('fsync')) {
        /** @param resource $file */
        function fsync($file): bool
        {
            disabled('fsync', ' (cluster_lock.durable_writes = 0 does without it, except on network file systems)');
        }
    }
    if (!\function_exists('fdatasync')) {
        /** @param resource $file */
        function fdatasync($file): bool
        {
            return \function_exists('fsync') && \fsync($file);
        }
    }
    if (!\function_exists('realpath')) {
        function realpath(string $path): string|false
        {
            return (new SplFileInfo($path))->getRealPath();
        }
    }
    if (!\function_exists('flock')) {
        /** @param resource $stream */
        function flock($stream, int $operation, mixed &$wouldBlock = null): bool
        {
            disabled('flock');
        }
    }
    if (!\function_exists('chmod')) {
        function chmod(string $path, int $mode): bool
        {
            disabled('chmod', ', and without it the new file would not keep the mode of the old one');
        }
    }
    if (!\function_exists('readlink')) {
        function readlink(string $path): string|false
        {
            try {
                return (new SplFileInfo($path))->getLinkTarget();
            } catch (RuntimeException) {
                return false;
            }
        }
    }
    if (!\function_exists('scandir')) {
        /** @return list<string> */
        function scandir(string $path, int $order = 0): array
        {
            try {
                return \array_keys(\iterator_to_array(
                    new FilesystemIterator($path, FilesystemIterator::KEY_AS_FILENAME)
                ));
            } catch (RuntimeException) {
                return [];
            }
        }
    }
    // These fail, and their callers know what that means.
    if (!\function_exists('opendir')) {
        function opendir(string $path): bool
        {
            return false;
        }
    }
    if (!\function_exists('chown')) {
        function chown(string $path, int $user): bool
        {
            return false;
        }
    }
    if (!\function_exists('chgrp')) {
        function chgrp(string $path, int $group): bool
        {
            return false;
        }
    }
}
