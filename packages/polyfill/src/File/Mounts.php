<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Quiet;

/** Which files have another machine for a server. */
final class Mounts
{
    /** As /proc/self/mountinfo names them. FUSE is not among them: it hides local and remote ones behind one name. */
    private const NETWORK = '/^(nfs4?|cifs|smb[23]?|ceph|afs|coda|9p|lustre|gpfs)$/D';

    /** @var array<int, bool> by device */
    private static array $known = [];

    public static function isNetwork(int $device): bool
    {
        return self::$known[$device] ??= self::look($device);
    }

    private static function look(int $device): bool
    {
        $major = ($device >> 8 & 0xfff) | ($device >> 32 & ~0xfff);
        $minor = ($device & 0xff) | ($device >> 12 & ~0xff);
        foreach (Quiet::try(static fn () => file('/proc/self/mountinfo')) ?: [] as $line) {
            [$mount, $source] = explode(' - ', $line, 2) + [1 => ''];
            if ((explode(' ', $mount)[2] ?? '') === "$major:$minor") {
                return preg_match(self::NETWORK, explode(' ', $source)[0]) === 1;
            }
        }

        return false;
    }
}
