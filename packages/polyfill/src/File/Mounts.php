<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\File;

use ClusterLock\Polyfill\Quiet;

/** Which files have another machine for a server. */
final class Mounts
{
    /** As /proc/self/mountinfo names them. FUSE is not among them: it hides local and remote ones behind one name. */
    private const NETWORK = '/^(nfs4?|cifs|smb[23]?|ceph|afs|coda|9p|lustre|gpfs)$/D';

    /** Where the node that writes stamps times with its own clock, and not one server with its. */
    private const CLOCKS_OF_NODES = '/^(ceph|afs|coda|lustre|gpfs|ocfs2|gfs2|fuse(\..*)?|fuseblk)$/D';

    /** @var array<int, string> the kind of file system, by device */
    private static array $known = [];

    public static function isNetwork(int $device): bool
    {
        return preg_match(self::NETWORK, self::kind($device)) === 1;
    }

    public static function hasClocksOfNodes(int $device): bool
    {
        return preg_match(self::CLOCKS_OF_NODES, self::kind($device)) === 1;
    }

    private static function kind(int $device): string
    {
        return self::$known[$device] ??= self::look($device);
    }

    private static function look(int $device): string
    {
        $major = ($device >> 8 & 0xfff) | ($device >> 32 & ~0xfff);
        $minor = ($device & 0xff) | ($device >> 12 & ~0xff);
        foreach (Quiet::try(static fn () => file('/proc/self/mountinfo')) ?: [] as $line) {
            [$mount, $source] = explode(' - ', $line, 2) + [1 => ''];
            if ((explode(' ', $mount)[2] ?? '') === "$major:$minor") {
                return explode(' ', $source)[0];
            }
        }

        return '';
    }
}
