<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Quiet;
use ClusterLock\Polyfill\Secret;
use ClusterLock\Polyfill\Text;

/** A password that stands in a file, which others may replace at any time. */
final class PasswordFile
{
    /** The most bytes of one. The tokens of cloud services have some thousand. */
    private const MOST = 64 * 1024;

    /**
     * What stands there now, without the end of its last line.
     *
     * @throws Fault which file cannot be used, and why; nothing of what stands in it
     */
    public static function read(string $path): Secret
    {
        // Without waiting for whoever might write to a pipe.
        [$file, $why] = Quiet::call(static fn () => fopen($path, 'rne'));
        if ($file === false) {
            throw self::unusable($path, $why);
        }
        $kind = fstat($file)['mode'] & 0170000;
        [$content, $why] = Quiet::call(
            static fn () => $kind === 0100000 ? stream_get_contents($file, self::MOST + 1) : false
        );
        fclose($file);
        if ($content === false) {
            throw self::unusable($path, $why === '' ? 'it is not a regular file' : $why);
        }
        $length = strlen($content);
        $content = (string) preg_replace('/\r?\n\z/', '', $content);
        if ($content === '' || $length > self::MOST) {
            throw self::unusable($path, $content === '' ? 'it is empty' : 'it is longer than ' . self::MOST . ' bytes');
        }

        return Secret::take($content);
    }

    private static function unusable(string $path, string $why): Fault
    {
        return Fault::broken('the password file ' . Text::path($path) . ": $why");
    }
}
