<?php

declare(strict_types=1);

namespace Bench;

/** A phpredis connection, as an application would open it: no serializer, no prefix, no compression. */
function connect(string $server): \Redis
{
    $redis = new \Redis();
    if (str_starts_with($server, 'unix://')) {
        $ok = $redis->connect(substr($server, 7));
    } else {
        [$host, $port] = explode(':', substr($server, 6));
        $ok = $redis->connect($host, (int) $port, 1.0);
    }
    if (!$ok) {
        throw new \RuntimeException("no connection to $server");
    }

    return $redis;
}

/**
 * EVALSHA; by EVAL once when the server does not have the script.
 *
 * @param list<string|int> $args keys first
 */
function evalSha(\Redis $redis, string $script, string $sha, array $args, int $keys): mixed
{
    $result = $redis->evalSha($sha, $args, $keys);
    if (false === $result && null !== $redis->getLastError()) {
        $error = $redis->getLastError();
        $redis->clearLastError();
        if (!str_starts_with($error, 'NOSCRIPT')) {
            throw new \RuntimeException($error);
        }
        $result = $redis->eval($script, $args, $keys);
        if (null !== $redis->getLastError()) {
            throw new \RuntimeException($redis->getLastError());
        }
    }

    return $result;
}
