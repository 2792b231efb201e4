<?php

declare(strict_types=1);

// The usual hand-written lock: SET NX PX with an owner token, EVALSHA compare-and-delete.
// It has no fence, no queue, no wake-up (a waiter polls every millisecond), no renewal.

namespace Bench;

require_once __DIR__ . '/../connect.php';

return fn (string $server, string $name): Contestant => new class (connect($server), $name) implements Contestant {
    private const RELEASE = <<<'LUA'
        if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
        return 0
        LUA;

    private string $sha;
    private string $token = '';

    public function __construct(private \Redis $redis, private string $name)
    {
        $this->sha = sha1(self::RELEASE);
    }

    public function lock(): void
    {
        $this->token = random_bytes(16);
        while (!$this->redis->set($this->name, $this->token, ['nx', 'px' => 10000])) {
            usleep(1000);
        }
    }

    public function unlock(): void
    {
        if (1 !== evalSha($this->redis, self::RELEASE, $this->sha, [$this->name, $this->token], 1)) {
            throw new \RuntimeException('not unlocked');
        }
    }
};
