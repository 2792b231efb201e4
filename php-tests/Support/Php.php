<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use RuntimeException;

/**
 * How to start another PHP with the extension under test, and with nothing from this host's ini files.
 */
final class Php
{
    /** As setpriv(1) knows them. */
    private const SIGNALS = [SIGINT => 'INT', SIGKILL => 'KILL', SIGTERM => 'TERM'];

    /** @var list<string>|null lower-case names of the modules that need no extension= line */
    private static ?array $builtIn = null;

    private static ?bool $survives = null;

    /** The extension under test. */
    public static function library(): string
    {
        $path = getenv('CLUSTER_LOCK_SO') ?: dirname(__DIR__, 2) . '/target/release/libcluster_lock.so';

        return realpath($path) ?: throw new RuntimeException("There is no $path: build first, or set CLUSTER_LOCK_SO.");
    }

    /**
     * Options for php or php-fpm.
     *
     * @param array<string, string|int|float> $settings
     * @param list<string>                    $extensions
     *
     * @return list<string>
     */
    public static function options(array $settings, array $extensions = ['posix', 'pcntl']): array
    {
        $options = ['-n'];
        foreach (array_diff($extensions, self::builtIn()) as $extension) {
            array_push($options, '-d', ($extension === 'opcache' ? 'zend_extension=' : 'extension=') . $extension);
        }
        $settings = self::underTest($settings, $options) + [
            'error_reporting' => E_ALL,
            'display_errors' => 'stderr',
            'log_errors' => 0,
            'html_errors' => 0,
        ];
        foreach ($settings as $name => $value) {
            array_push($options, '-d', "$name=" . self::quoted($value));
        }

        return $options;
    }

    /**
     * The same as a file, for what takes no options.
     *
     * @param array<string, string|int|float> $settings
     */
    public static function ini(array $settings): string
    {
        $settings += [
            'extension' => self::library(),
            'error_reporting' => E_ALL,
            'display_errors' => 'stderr',
            'log_errors' => 0,
            'html_errors' => 0,
        ];
        $ini = '';
        foreach ($settings as $name => $value) {
            $ini .= $name . ' = ' . self::quoted($value) . "\n";
        }

        return $ini;
    }

    /** The client library with which the polyfill (packages/polyfill) is tested in the place of the extension, if so. */
    public static function polyfill(): ?string
    {
        return getenv('CLUSTER_LOCK_POLYFILL') ?: null;
    }

    /** Whether this PHP still runs shutdown functions after fixtures/recursion.php has used up the memory. */
    public static function survivesRecursion(): bool
    {
        if (self::$survives === null) {
            $code = sprintf(
                'register_shutdown_function(static function () { echo "survived"; }); ini_set("memory_limit", "8M");'
                . 'require %s; ClusterLock\Tests\Fixtures\recurse(0);',
                var_export(dirname(__DIR__) . '/fixtures/recursion.php', true)
            );
            exec(escapeshellarg(PHP_BINARY) . ' -n -r ' . escapeshellarg($code) . ' 2>&1', $output);
            self::$survives = str_contains(implode($output), 'survived');
        }

        return self::$survives;
    }

    /** The level at which functions warn: E_WARNING is not for PHP code to give. */
    public static function warning(): int
    {
        return self::polyfill() === null ? E_WARNING : E_USER_WARNING;
    }

    /**
     * Loads the extension; or the polyfill, before the file that is to be prepended.
     *
     * @param array<string, string|int|float> $settings
     * @param list<string>                    $options
     *
     * @return array<string, string|int|float>
     */
    private static function underTest(array $settings, array &$options): array
    {
        if (self::polyfill() === null) {
            array_push($options, '-d', 'extension=' . self::library());

            return $settings;
        }
        // Debian's phpredis needs igbinary.
        foreach (self::polyfill() === 'phpredis' ? ['igbinary', 'redis'] : [] as $extension) {
            if (is_file(ini_get('extension_dir') . "/$extension.so")) {
                array_push($options, '-d', "extension=$extension");
            }
        }
        $package = dirname(__DIR__, 2) . '/packages/polyfill';
        $prepend = "$package/tests/prepend.php";
        if (isset($settings['open_basedir'])) {
            $settings['open_basedir'] .= ":$package";
        }

        return [
            'auto_prepend_file' => $prepend,
            'polyfill.then' => $settings['auto_prepend_file'] ?? '',
            // Where this process finds its libraries the others find Predis.
            'include_path' => $settings['include_path'] ?? get_include_path(),
        ] + $settings;
    }

    /**
     * A command line whose process gets this signal when the test run ends, in whatever way.
     *
     * @param list<string> $command
     *
     * @return list<string>
     */
    public static function mortal(array $command, int $signal = SIGKILL): array
    {
        return is_executable('/usr/bin/setpriv')
            ? ['/usr/bin/setpriv', '--pdeathsig', self::SIGNALS[$signal], ...$command]
            : $command;
    }

    private static function quoted(string|int|float $value): string
    {
        return '"' . addcslashes((string) $value, '"\\$') . '"';
    }

    /** @return list<string> */
    private static function builtIn(): array
    {
        if (self::$builtIn === null) {
            exec(escapeshellarg(PHP_BINARY) . ' -n -m', $modules);
            // PHP 8.5 has opcache built in, under its long name.
            self::$builtIn = str_replace('zend opcache', 'opcache', array_map('strtolower', $modules));
        }

        return self::$builtIn;
    }
}
