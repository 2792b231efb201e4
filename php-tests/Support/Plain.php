<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * PHP as it is without the extension.
 */
final class Plain
{
    /**
     * With these settings PhpProcess and Actor start a PHP that has never heard of the extension. They need pcntl.
     *
     * @return array<string, string>
     */
    public static function settings(): array
    {
        if (Php::polyfill() !== null) {
            return ['polyfill.off' => '1', 'auto_prepend_file' => dirname(__DIR__) . '/fixtures/prelude.php'];
        }

        return [
            'auto_prepend_file' => dirname(__DIR__) . '/fixtures/plain.php',
            'plain.without' => Php::library(),
        ];
    }

    public static function actor(): Actor
    {
        return new Actor(self::settings());
    }
}
