<?php

declare(strict_types=1);

// The hand-written lock with a fencing token, by two EVALSHA: acquire = SET NX PX, then fence = max(last + 1, time);
// release = compare-and-delete. It has no queue, no wake-up (a waiter polls every millisecond), no renewal.

namespace Bench;

require_once __DIR__ . '/../connect.php';

return fn (string $server, string $name): Contestant => new class (connect($server), $name) implements Contestant {
    private const ACQUIRE = <<<'LUA'
        if not redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
        local time = redis.call('time')
        local fence = time[1] * 1000000 + time[2]
        local last = tonumber(redis.call('get', KEYS[2]) or 0)
        if last >= fence then fence = last + 1 end
        redis.call('set', KEYS[2], string.format('%.0f', fence), 'PX', 60000)
        return fence
        LUA;

    private const RELEASE = <<<'LUA'
        if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
        return 0
        LUA;

    private string $acquire;
    private string $release;
    private string $token = '';
    private int $fence = 0;

    public function __construct(private \Redis $redis, private string $name)
    {
        $this->acquire = sha1(self::ACQUIRE);
        $this->release = sha1(self::RELEASE);
    }

    public function lock(): void
    {
        $this->token = random_bytes(16);
        $args = [$this->name, $this->name . ':fence', $this->token, 10000];
        while (0 === $fence = evalSha($this->redis, self::ACQUIRE, $this->acquire, $args, 2)) {
            usleep(1000);
        }
        if ($fence <= $this->fence) {
            throw new \RuntimeException("fence went from {$this->fence} to $fence");
        }
        $this->fence = $fence;
    }

    public function unlock(): void
    {
        if (1 !== evalSha($this->redis, self::RELEASE, $this->release, [$this->name, $this->token], 1)) {
            throw new \RuntimeException('not unlocked');
        }
    }
};
