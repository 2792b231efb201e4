<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Quiet;

/** The socket of a client library, to look at. */
final class Socket
{
    /**
     * Whether the peer has closed it: known without a round trip, and before a command is sent into it whose outcome
     * would be unknown for no reason.
     *
     * @param resource|null $socket
     */
    public static function isClosed($socket): bool
    {
        return $socket !== null && (!is_resource($socket) || Quiet::try(static fn (): bool => feof($socket)));
    }

    /**
     * The one that was made by $connect: phpredis does not tell, but PHP knows all its streams.
     *
     * @param callable(): mixed $connect
     *
     * @return resource|null
     */
    public static function madeBy(callable $connect)
    {
        $before = get_resources('stream');
        $connect();
        foreach (array_diff_key(get_resources('stream'), $before) as $stream) {
            if (str_contains(stream_get_meta_data($stream)['stream_type'], 'socket')) {
                return $stream;
            }
        }

        return null;
    }
}
