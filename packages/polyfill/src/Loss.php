<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** How a lock was lost, in words. */
final class Loss
{
    /** @param bool $told by the server, which therefore has nothing to release */
    private function __construct(public readonly string $how, public readonly bool $told)
    {
    }

    public static function expired(float $ago): self
    {
        $why = 'not renewed: PHP renews only while the request calls a function of cluster_lock, so the ttl has to '
            . 'cover the work in between; or auto_renew is off, max_hold was reached, or the server could not be '
            . 'reached in time';

        return new self(sprintf('its lease ran out %.1f s ago (%s)', $ago, $why), false);
    }

    public static function broken(): self
    {
        return new self('it was broken by an administrator (cluster_lock_break)', true);
    }

    public static function forgotten(): self
    {
        $cause = 'its data was lost (FLUSHALL, restart without data, or eviction), or its clock was set forward';

        return new self("the server no longer knows it: $cause", true);
    }

    public static function superseded(): self
    {
        $cause = 'the server lost data, failed over to a stale replica, or its clock was set forward';

        return new self("another holder has been let in: $cause", true);
    }

    /** What release.lua and renew.lua return: null when the lock, or the place in its queue, was ours. */
    public static function ofStanding(int $standing): ?self
    {
        return match ($standing) {
            1, 6 => null,
            2 => self::broken(),
            3 => self::forgotten(),
            default => self::superseded(),
        };
    }
}
