<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

/**
 * Notices the end of a stream. A plain file has a context of its own, which is made when an option of it is asked for, and
 * which PHP frees when the stream has been flushed and closed: this object is one of its options, and no data passes it.
 * Should somebody have kept the options for longer, the next call notices.
 */
final class ClosingWatch
{
    private function __construct(private readonly int $stream)
    {
    }

    /** @param resource $stream */
    public static function attach($stream): void
    {
        $watch = stream_context_get_options($stream)['cluster_lock']['closing'] ?? null;
        if (!$watch instanceof self || $watch->stream !== get_resource_id($stream)) {
            stream_context_set_option($stream, 'cluster_lock', 'closing', new self(get_resource_id($stream)));
        }
    }

    public function __destruct()
    {
        // Not of this one alone: what ends a context is the end of its stream, or another value of the option.
        FileLocks::sweep();
    }
}
