<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

use PHPUnit\Framework\Assert;

/**
 * The ways to run PHP that script/test has found for this one (lab/builds/sapis.sh). A test of one that is not there is
 * skipped.
 */
final class Sapis
{
    public static function cgi(): string
    {
        return self::named('PHP_CGI', 'php-cgi');
    }

    public static function phpdbg(): string
    {
        return self::named('PHPDBG', 'phpdbg');
    }

    /** The library with which a program embeds PHP. */
    public static function embed(): string
    {
        return self::named('PHP_EMBED', 'embed');
    }

    /** Apache's module. */
    public static function apacheModule(): string
    {
        return self::named('APACHE_PHP', "Apache's module");
    }

    public static function apache(): string
    {
        return self::named('APACHE', 'Apache');
    }

    /** The folder of Apache's own modules. */
    public static function apacheModules(): string
    {
        return self::named('APACHE_MODULES', 'Apache');
    }

    /**
     * With the libraries that were unpacked with the program, and nothing of this host's ini files.
     *
     * @return array<string, string>
     */
    public static function environment(string $program): array
    {
        $libraries = glob(dirname($program, 2) . '/lib/*-linux-gnu');

        return ['PHP_INI_SCAN_DIR' => ''] + ($libraries ? ['LD_LIBRARY_PATH' => $libraries[0]] : []);
    }

    private static function named(string $variable, string $what): string
    {
        $path = getenv($variable);
        if (!$path) {
            Assert::markTestSkipped("$what of this PHP is not here ($variable names none)");
        }

        return $path;
    }
}
