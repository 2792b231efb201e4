<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Attempt;
use ClusterLock\Polyfill\Claim;
use ClusterLock\Polyfill\Clock;
use ClusterLock\Polyfill\Dsn;
use ClusterLock\Polyfill\Failure;
use ClusterLock\Polyfill\Kind;
use ClusterLock\Polyfill\Lease;
use ClusterLock\Polyfill\LockName;
use ClusterLock\Polyfill\Loss;
use ClusterLock\Polyfill\Mode;
use ClusterLock\Polyfill\Report;
use ClusterLock\Polyfill\Settings;
use ClusterLock\Polyfill\Store;
use ClusterLock\Polyfill\Text;
use ClusterLock\Polyfill\Trial;

/** Locks on a Redis or Valkey server, by the protocol of the extension. */
final class RedisStore implements Store
{
    /** How often a command is sent whose connection breaks, if all of that takes no longer than AT_ONCE. */
    private const TRIES = 4;

    /** Seconds. */
    private const AT_ONCE = 0.2;

    /** A wait is over by itself after so many seconds more than it was asked for; its connection is lost then. */
    private const LATE = 0.25;

    /** The longest wait. */
    private const LONGEST = 1.25;

    private const SCAN_COUNT = 1000;

    /** What release.lua and break.lua add to their answer when there is more to be done than one step may do. */
    private const LEFT = 10;

    /** What release.lua answers to the end of a run that does not count, when a later one does. */
    private const LATER = 5;

    /** What renew.lua returns when the lock may be held by our word alone. */
    private const BY_WORD = 5;

    /** The greatest answer of each; a release's says that it was a waiter's. */
    private const MOST = ['release' => 6, 'renew' => self::BY_WORD, 'break' => 4];

    /** For how many seconds, and in how many steps, whoever took the first goes on with it. */
    private const FINISHING = [1.0, 2000];

    private const UNSETTLED = '; whether it was done is not known (see cluster_lock_info())';

    /** The least number of microseconds since 1970 that a server's clock may show: fencing tokens and places. */
    private const LEAST_TIME = 1_000_000_000_000_000;

    private readonly Link $link;

    /** A wait has a connection of its own: with Predis the longest wait is a property of the connection. */
    private readonly Link $waiting;

    private readonly ?int $grace;

    public function __construct(Dsn $dsn, private readonly Settings $settings)
    {
        $this->grace = $dsn->grace;
        $this->link = new Link($dsn, $settings, $settings->commandTimeout);
        $this->waiting = new Link($dsn, $settings, self::LONGEST + self::LATE);
    }

    public function attempt(Claim $claim, bool $giveUp): Attempt
    {
        $lease = Claim::millis($claim->ttl);
        $arguments = [
            $claim->token,
            $claim->run ? 'O' : $claim->mode->value,
            (string) $lease,
            $giveUp ? 'G' : 'Q',
            (string) $claim->place,
            $claim->identity,
            (string) ($lease + Scripts::RETAIN),
        ];
        if ($claim->slack !== self::SLACK || $claim->converts !== 0) {
            array_push($arguments, (string) $claim->slack, (string) $claim->converts);
        }
        $reply = $this->run('acquire', $claim->name, $arguments);
        if (is_int($reply)) {
            return Attempt::held($reply);
        }
        if (self::isCovered($reply)) {
            return Attempt::covered();
        }
        [$place, $left, $holder] = $reply = array_values($reply);

        return $left === -1
            ? Attempt::unfinished($place)
            : Attempt::busy($place, $left, $holder, max(0, $reply[4] ?? 0));
    }

    public function awaitGrant(Claim $claim, float $seconds): void
    {
        // Zero would mean for ever.
        $limit = sprintf('%.3F', max(0.001, $seconds));
        $mailbox = $this->key($claim->name) . ":m:{$claim->token}";
        try {
            $this->waiting->call(['BLPOP', $mailbox, $limit], self::LONGEST + self::LATE);
        } catch (Fault $fault) {
            // It became a replica. The next attempt finds out.
            if (!$fault->is('UNBLOCKED')) {
                throw $this->failed($this->waiting, $fault, $claim->name);
            }
        }
    }

    public function grace(): ?int
    {
        return $this->grace;
    }

    public function release(LockName $name, string $token, ?Lease $lease = null): ?Loss
    {
        $arguments = [$token];
        if ($this->grace !== null && $lease !== null && $lease->loss() === null) {
            array_push($arguments, $lease->mode->value, (string) $lease->fence);
        }
        $standing = $this->finish($name, $token, $this->run('release', $name, $arguments, $wasLost));

        // The first try, whose reply was lost, released it, and others have come and gone since.
        return $standing === 4 && $wasLost ? null : Loss::ofStanding($standing);
    }

    public function complete(LockName $name, string $token, int $fence): ?Loss
    {
        $standing = $this->finish($name, $token, $this->run('release', $name, [$token, 'O', (string) $fence]));

        return $standing === self::LATER ? null : Loss::ofStanding($standing);
    }

    public function renew(Lease $lease, float $ttl): ?Loss
    {
        $arguments = [$lease->token, (string) Claim::millis($ttl)];
        // What its record consists of, for a server without its memory; unless it is over.
        if ($this->grace !== null && $lease->loss() === null) {
            array_push($arguments, '0', (string) $lease->fence, $lease->mode->value, $lease->identity);
        }

        $standing = $this->run('renew', $lease->name, $arguments);
        if ($standing === self::BY_WORD) {
            // Which counts while the lease is not over: others have been let in since, perhaps.
            return $lease->loss();
        }

        return Loss::ofStanding($standing);
    }

    public function info(LockName $name): ?array
    {
        $reply = $this->run('inspect', $name, [(string) Report::TOLD]);
        try {
            return Record::report($name, $reply);
        } catch (Fault $fault) {
            throw $this->failed($this->link, $fault, $name);
        }
    }

    public function list(string $prefix, int $limit): array
    {
        $start = $this->settings->prefix . '{';
        // Neither the prefix nor an encoded name contains a glob character.
        $pattern = $start . LockName::encode($prefix) . '*}';
        $scan = ['MATCH', $pattern, 'COUNT', (string) self::SCAN_COUNT, 'TYPE', 'string'];
        // The first by name, and their names, the last on top.
        [$cursor, $reports, $last, $asked] = ['0', [], new \SplMaxHeap(), false];
        do {
            $reply = $this->call(
                ['SCAN', $cursor, ...$scan],
                static fn (mixed $reply): bool => is_array($reply) && is_array($reply[1] ?? null)
            );
            foreach ($reply[1] as $key) {
                $name = str_starts_with($key, $start) && str_ends_with($key, '}')
                    ? LockName::decode(substr($key, strlen($start), -1))
                    : null;
                // SCAN may return a key twice.
                if ($name === null || isset($reports["=$name->bytes"])) {
                    continue;
                }
                // Keys come in no order; what is behind the last one when there are enough is not looked at.
                if (count($reports) >= $limit && strcmp("=$name->bytes", $last->top()) > 0) {
                    continue;
                }
                $asked = true;
                $report = $this->listed($name);
                if ($report !== null) {
                    $reports["=$name->bytes"] = $report;
                    $last->insert("=$name->bytes");
                    if (count($reports) > $limit) {
                        unset($reports[$last->extract()]);
                    }
                }
            }
            $cursor = (string) $reply[0];
        } while ($cursor !== '0');
        if (!$asked) {
            // Without locks nothing has shown yet that they could be looked at.
            $this->info(Trial::name());
        }
        ksort($reports, SORT_STRING);

        return array_values($reports);
    }

    public function break(LockName $name, ?int $meant): bool
    {
        $broken = $this->run('break', $name, $meant === null ? [] : [(string) $meant], $wasLost);
        $broken = $this->finish($name, Claim::newToken(), $broken);

        // The first try, whose reply was lost, has broken it.
        return $broken === 1 || ($wasLost && $broken >= 3);
    }

    public function forget(LockName $name): void
    {
        $key = $this->key($name);
        // A script that was refused a command has written what comes before it there: a queue, waiters, readers.
        $keys = [$key, "$key:q", "$key:w", "$key:r", "$key:i"];
        $expire = static fn (string $key): array => ['PEXPIRE', $key, '1'];
        foreach ([['DEL', ...$keys], ...array_map($expire, $keys)] as $words) {
            try {
                $this->call($words);
                if ($words[0] === 'DEL') {
                    return;
                }
            } catch (Failure $failure) {
                if ($failure->kind === Kind::Connection) {
                    return;
                }
            }
        }
    }

    public function takeTexts(LockName $name): void
    {
        [$key, $token] = [$this->key($name), Claim::newToken()];
        $lease = 1000;
        $acquire = [$token, Mode::Exclusive->value, (string) $lease, 'G', '0', '{}', (string) ($lease + Scripts::RETAIN)];
        try {
            $this->text('acquire', $key, $acquire);
            $this->text('release', $key, [$token]);
        } catch (Fault $fault) {
            throw $this->failed($this->link, $fault, $name);
        }
    }

    public function servers(): array
    {
        $report = Survey::of($this->link, $this->settings->prefix, $this->settings->commandTimeout, $this->grace);
        $report['error'] ??= Trial::of($this, $this->settings->commandTimeout);

        return [$report];
    }

    public function server(): string
    {
        return $this->link->server;
    }

    public function status(): array
    {
        $links = [$this->link, $this->waiting];

        return [
            'version' => $this->link->version,
            'role' => $this->link->role,
            'open' => array_sum(array_map(static fn (Link $link): int => $link->open(), $links)),
            'created' => array_sum(array_column($links, 'created')),
            'discarded' => array_sum(array_column($links, 'discarded')),
        ];
    }

    /** Null: nobody holds it, or something else stands there. */
    private function listed(LockName $name): ?array
    {
        try {
            $reply = $this->script('inspect', $this->key($name), [(string) Report::TOLD_OF_EACH]);

            return Record::report($name, $reply);
        } catch (Fault $fault) {
            return $fault->isForeignKey() ? null : throw $this->failed($this->link, $fault, $name);
        }
    }

    /**
     * Goes on with what a release or a break has left: the lock is given back, but who is next not yet let in. Returns what
     * the first step answered, but for that.
     */
    private function finish(LockName $name, string $token, int $answer): int
    {
        [$limit, $steps] = self::FINISHING;
        $end = Clock::now() + $limit;
        $last = $answer;
        while ($last >= self::LEFT && $steps-- > 0 && Clock::now() < $end) {
            try {
                $last = $this->run('release', $name, [$token]);
            } catch (Failure) {
                break; // those who wait go on with it
            }
        }

        return $answer % self::LEFT;
    }

    private function key(LockName $name): string
    {
        return $this->settings->prefix . '{' . LockName::encode($name->bytes) . '}';
    }

    /**
     * Runs a script on a lock. When the connection breaks the outcome is unknown; the script is run again on a new
     * connection, which settles it, because every script but a break that means nobody in particular is idempotent.
     * Again, too, when that one breaks at once; not after a time-out.
     *
     * @param list<string> $arguments
     * @param bool|null    $wasLost   set: whether a reply was lost
     */
    private function run(string $script, LockName $name, array $arguments, ?bool &$wasLost = null): mixed
    {
        $began = Clock::now();
        for ($tries = 1; true; $tries++) {
            try {
                return $this->script($script, $this->key($name), $arguments);
            } catch (Fault $fault) {
                $isUnsettled = $fault->isBroken() && $fault->wasSent;
                $wasLost = $wasLost || $isUnsettled;
                $last = $tries > 1 && ($tries >= self::TRIES || Clock::now() - $began >= self::AT_ONCE);
                $once = $isUnsettled && $script === 'break' && $arguments === [];
                if ($last || !$fault->isBroken() || $once) {
                    throw $this->failed($this->link, $fault, $name, $wasLost && $script === 'break');
                }
            } catch (Failure $failure) {
                throw $wasLost && $script === 'break'
                    ? new Failure($failure->kind, $failure->getMessage() . self::UNSETTLED)
                    : $failure;
            }
        }
    }

    /**
     * By its digest, and by its text when the server does not know the digest.
     *
     * @param list<string> $arguments
     *
     * @throws Fault|Failure
     */
    private function script(string $script, string $key, array $arguments): mixed
    {
        try {
            return $this->evaluate('EVALSHA', $script, Scripts::get($script)[1], $key, $arguments);
        } catch (Fault $fault) {
            return $fault->is('NOSCRIPT') ? $this->text($script, $key, $arguments) : throw $fault;
        }
    }

    /**
     * By its text.
     *
     * @param list<string> $arguments
     *
     * @throws Fault|Failure
     */
    private function text(string $script, string $key, array $arguments): mixed
    {
        return $this->evaluate('EVAL', $script, Scripts::get($script)[0], $key, $arguments);
    }

    /** @param list<string> $arguments */
    private function evaluate(string $verb, string $script, string $body, string $key, array $arguments): mixed
    {
        $words = $this->grace === null
            ? ['1', $key, ...$arguments]
            : ['2', $key, Survey::born($this->settings->prefix), ...$arguments, (string) ($this->grace * 1000)];
        $isWhole = static fn (mixed $reply): bool => self::isWhole($script, $reply);

        return $this->link->call([$verb, $body, ...$words], $this->settings->commandTimeout, $isWhole);
    }

    /** Client libraries take what has come of a reply, when the connection breaks within it, for all of it. */
    private static function isWhole(string $script, mixed $reply): bool
    {
        return match ($script) {
            'acquire' => is_int($reply) ? $reply >= self::LEAST_TIME : self::isBusy($reply) || self::isCovered($reply),
            'release', 'renew', 'break' => is_int($reply) && $reply >= 0 && $reply < 2 * self::LEFT
                && $reply % self::LEFT >= ($script === 'break' ? 0 : 1)
                && $reply % self::LEFT <= self::MOST[$script],
            'inspect' => is_array($reply) && count($reply) === 7,
        };
    }

    /** By a run: its fencing token comes before this word. */
    private static function isCovered(mixed $reply): bool
    {
        return is_array($reply) && count($reply) === 2 && is_int($reply[0] ?? null) && ($reply[1] ?? null) === 'run';
    }

    private static function isBusy(mixed $reply): bool
    {
        $parts = is_array($reply) ? array_values($reply) : [];
        // How many are ahead is not told to a question that is late.
        [$place, $left, $holder, $again, $ahead] = in_array(count($parts), [4, 5], true) ? [...$parts, 0] : [0, '', 0, '', ''];

        return is_int($place) && is_int($left) && is_string($holder) && is_int($again) && is_int($ahead)
            && ($place === 0 || $place >= self::LEAST_TIME);
    }

    /**
     * @param list<string>                 $words
     * @param (callable(mixed): bool)|null $isWhole
     *
     * @throws Failure
     */
    private function call(array $words, ?callable $isWhole = null): mixed
    {
        try {
            return $this->link->call($words, $this->settings->commandTimeout, $isWhole);
        } catch (Fault $fault) {
            throw $this->failed($this->link, $fault);
        }
    }

    private function failed(Link $link, Fault $fault, ?LockName $name = null, bool $isUnsettled = false): Failure
    {
        $cause = $fault->explained();
        if ($fault->isBroken()) {
            $cause .= $isUnsettled ? self::UNSETTLED : '';

            return Failure::connection($link->server, $cause);
        }
        if ($name !== null && $fault->isForeignKey()) {
            $key = Text::said($this->key($name));
            $cause .= "; by hand: DEL $key $key:q $key:w $key:r $key:i $key:o $key:d";
        }

        return Failure::server($link->server, $cause);
    }
}
