<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use php_user_filter;

/**
 * Lets all data through. PHP has no hook for the end of a stream but this: when it is closed or destroyed, and its
 * data has been written, its filters are told.
 */
final class ClosingFilter extends php_user_filter
{
    private const NAME = 'cluster_lock.closing';

    private static bool $isRegistered = false;

    /**
     * @param resource $stream
     *
     * @return resource|null the filter; null: it cannot be had
     */
    public static function attach($stream)
    {
        self::$isRegistered = self::$isRegistered || stream_filter_register(self::NAME, self::class);
        $filter = stream_filter_append($stream, self::NAME, STREAM_FILTER_WRITE, get_resource_id($stream));

        return $filter === false ? null : $filter;
    }

    public function filter($in, $out, &$consumed, bool $closing): int
    {
        while ($bucket = stream_bucket_make_writeable($in)) {
            $consumed += $bucket->datalen;
            stream_bucket_append($out, $bucket);
        }

        return PSFS_PASS_ON;
    }

    public function onClose(): void
    {
        FileLocks::closed((int) $this->params);
    }
}
