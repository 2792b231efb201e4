<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Clock;
use ClusterLock\Polyfill\Dsn;
use ClusterLock\Polyfill\Quiet;
use Redis;
use RedisException;
use SensitiveParameter;

/** phpredis. */
final class PhpRedisDriver implements Driver
{
    private readonly Redis $redis;

    /** @var resource|null */
    private $socket;

    private float $patience;

    /** @throws Fault */
    public function __construct(Dsn $dsn, float $timeout)
    {
        $this->redis = new Redis();
        $this->patience = $timeout;
        $secure = $dsn->tls === null ? '' : 'tls://';
        [$host, $port] = $dsn->path !== '' ? [$dsn->path, 0] : [$secure . $dsn->host, $dsn->port];
        $context = $dsn->tls === null ? [] : ['stream' => Tls::options($dsn)];
        // Never persistent: a request that ends within a command would leave its reply to the next one.
        [$cause, $warning] = Quiet::call(function () use ($host, $port, $timeout, $context): ?string {
            try {
                $this->socket = Socket::madeBy(
                    fn () => $this->redis->connect($host, $port, $timeout, null, 0, $timeout, $context)
                );

                return $this->redis->isConnected() ? null : 'no connection';
            } catch (RedisException $e) {
                return self::isOurs($e) ? $e->getMessage() : throw $e;
            }
        });
        if ($cause !== null) {
            throw Fault::broken($warning === '' ? $cause : $warning);
        }
        // A connection that it made by itself would know neither our user nor our database.
        $this->redis->setOption(Redis::OPT_MAX_RETRIES, 0);
    }

    public function call(#[SensitiveParameter] array $words, float $patience): mixed
    {
        if ($patience !== $this->patience) {
            $this->redis->setOption(Redis::OPT_READ_TIMEOUT, $patience);
            $this->patience = $patience;
        }
        if (Socket::isClosed($this->socket)) {
            throw Fault::broken('the server closed the connection', false);
        }
        $started = Clock::now();
        [[$reply, $thrown]] = Quiet::call(function () use ($words): array {
            try {
                $this->redis->clearLastError();

                return [$this->redis->rawCommand(...$words), null];
            } catch (RedisException $e) {
                return self::isOurs($e) ? [null, $e->getMessage()] : throw $e;
            }
        });
        $error = $thrown === null || $this->redis->isConnected() ? $this->redis->getLastError() : null;
        if ($error !== null) {
            throw Fault::refused($error);
        }
        if ($thrown !== null) {
            throw Fault::broken(Connection::cause($thrown, Clock::now() - $started, $patience));
        }

        // An empty list and none are the same to it; so are nil and false.
        return $reply === false ? null : $reply;
    }

    /** Or one of code that ran meanwhile. */
    private static function isOurs(RedisException $e): bool
    {
        return $e->getFile() === __FILE__;
    }
}
