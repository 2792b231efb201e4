<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Text;
use Exception;

/** Why an exchange failed. After one that is not a refusal the connection is unusable. */
final class Fault extends Exception
{
    private function __construct(
        /** The code of the server's error (`NOSCRIPT`, `WRONGPASS`); null: the connection broke. */
        public readonly ?string $refusal,
        string $text,
        /** Whether the command may have been carried out all the same. */
        public readonly bool $wasSent,
    ) {
        parent::__construct($text);
    }

    /** The socket failed, the peer closed it, or time ran out. */
    public static function broken(string $cause, bool $wasSent = true): self
    {
        return new self(null, Text::said($cause), $wasSent);
    }

    /** The server answered with an error. One that does not know a command repeats what it was sent: passwords. */
    public static function refused(string $error): self
    {
        $error = explode(', with args', $error, 2)[0];
        // Redis before 7 wraps the error of a command that a script called.
        $error = preg_replace('/^ERR Error running script.*?@user_script: \d+: -?(?=[A-Z]{2,} )/', '', $error) ?? $error;
        [$code, $text] = explode(' ', $error, 2) + [1 => ''];

        return new self(Text::said($code), Text::said($text), true);
    }

    public function is(string $code): bool
    {
        return $this->refusal === $code;
    }

    public function isBroken(): bool
    {
        return $this->refusal === null;
    }

    /**
     * The server is not the primary, or not yet, or not any more, or has lost its replicas: the lock may live on another
     * one by now. Some servers put that into the text of another error.
     */
    public function isOfNoPrimary(): bool
    {
        $codes = '(READONLY|MASTERDOWN|UNBLOCKED|LOADING|NOREPLICAS)';

        return preg_match("/^$codes$/D", (string) $this->refusal) === 1
            || ($this->is('ERR') && preg_match("/(?<![A-Z])$codes(?![A-Z])/", $this->getMessage()) === 1);
    }

    /** The server does not know who we are, or not any more. */
    public function isUnauthenticated(): bool
    {
        return $this->is('WRONGPASS') || $this->is('NOAUTH')
            || ($this->is('ERR') && str_contains($this->getMessage(), 'invalid password'));
    }

    /** The server has no HELLO, by that name, or does not permit it. */
    public function lacksHello(): bool
    {
        return $this->is('NOPERM') || $this->is('NOPROTO')
            || (!$this->isBroken() && preg_match('/unknown (\S+ )?command/i', $this->getMessage()) === 1);
    }

    /** Something else has written to the keys of a lock. */
    public function isForeignKey(): bool
    {
        return $this->is('NOTALOCK') || $this->is('WRONGTYPE')
            || (!$this->isBroken() && str_contains($this->getMessage(), 'WRONGTYPE'));
    }

    /** What it means, and what to do about it where that is known. */
    public function explained(): string
    {
        $hint = match (true) {
            $this->isBroken() => '',
            $this->isForeignKey()
                => " (something else has written to this lock's keys: cluster_lock_break() clears them)",
            str_contains($this->getMessage(), 'scripting engine') => ' (every lock is a Lua script, and this server was '
                . 'built or started without Lua: it needs that)',
            preg_match('/unknown (\S+ )?command/i', $this->getMessage()) === 1 => ' (locks need this command: a '
                . "rename-command in the server's configuration, or a proxy before it, takes it away)",
            $this->is('NOPERM')
                || preg_match('/user executing the script|ACL failure in script/i', $this->getMessage()) === 1
                => " (the ACL user lacks a right: see the ACL line in cluster_lock's README)",
            default => match ($this->refusal) {
                'NOSCRIPT' => ' (it was sent the whole script: a proxy in between does not pass scripts on as they are)',
                'WRONGPASS', 'NOAUTH' => ' (check user and password in cluster_lock.dsn)',
                'READONLY' => ' (this server is a replica: point cluster_lock.dsn at the primary)',
                'OOM' => ' (the server is full: raise maxmemory, or give locks a server of their own)',
                'LOADING' => ' (the server is starting; try again)',
                'BUSY' => ' (another script blocks the server: SCRIPT KILL)',
                'MISCONF' => ' (the server cannot save to its disk and refuses writes)',
                'MOVED', 'ASK', 'CLUSTERDOWN' => ' (a Redis Cluster: that needs the extension cluster_lock)',
                default => '',
            },
        };

        return trim("{$this->refusal} {$this->getMessage()}$hint");
    }
}
