<?php

declare(strict_types=1);

// The hand-written lock that wakes: SET NX PX; a waiter sleeps in BLPOP and tries again; the release pushes one token.
// It has no fence, no queue (whoever asks first after the release gets it, often the releaser), no renewal.

namespace Bench;

require_once __DIR__ . '/../connect.php';

return fn (string $server, string $name): Contestant => new class (connect($server), $name) implements Contestant {
    private const RELEASE = <<<'LUA'
        if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
        redis.call('del', KEYS[1], KEYS[2])
        redis.call('rpush', KEYS[2], 1)
        redis.call('pexpire', KEYS[2], 10000)
        return 1
        LUA;

    private string $sha;
    private string $wake;
    private string $token = '';

    public function __construct(private \Redis $redis, private string $name)
    {
        $this->sha = sha1(self::RELEASE);
        $this->wake = $name . ':wake';
    }

    public function lock(): void
    {
        $this->token = random_bytes(16);
        while (!$this->redis->set($this->name, $this->token, ['nx', 'px' => 10000])) {
            $this->redis->blPop([$this->wake], 1);
        }
    }

    public function unlock(): void
    {
        if (1 !== evalSha($this->redis, self::RELEASE, $this->sha, [$this->name, $this->wake, $this->token], 2)) {
            throw new \RuntimeException('not unlocked');
        }
    }
};
