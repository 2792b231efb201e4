<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use Cluster_Lock\Mounts;
use PHPUnit\Framework\TestCase;

final class MountsTest extends TestCase
{
    private const TABLE = <<<'TABLE'
        22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
        23 22 0:21 / /proc rw,nosuid - proc proc rw
        40 22 0:44 / /srv/www rw,relatime shared:9 master:2 - nfs4 10.0.0.5:/export/www rw,vers=4.2
        41 40 0:45 / /srv/www/cache rw - tmpfs tmpfs rw
        42 22 0:46 / /srv/with\040blank rw - fuse.glusterfs host:/vol\0401 rw
        43 22 0:47 / /auto rw - autofs /etc/auto.nfs rw
        44 43 0:48 / /auto rw - cifs //host/share rw

        not a mount
        TABLE;

    /** @dataProvider paths */
    public function testWhatIsMountedWhere(string $path, string $type, string $point): void
    {
        $mount = (new Mounts(self::TABLE))->at($path);
        self::assertSame([$type, $point], [$mount['type'] ?? null, $mount['point'] ?? null]);
    }

    /** @return list<array{string, string, string}> */
    public static function paths(): array
    {
        return [
            ['/', 'ext4', '/'],
            ['/srv', 'ext4', '/'],
            ['/srv/www', 'nfs4', '/srv/www'],
            ['/srv/www/wp-content/uploads', 'nfs4', '/srv/www'],
            ['/srv/www2', 'ext4', '/'],
            ['/srv/www/cache/x', 'tmpfs', '/srv/www/cache'],
            ['/srv/with blank/x', 'fuse.glusterfs', '/srv/with blank'],
            ['/auto/x', 'cifs', '/auto'],
        ];
    }

    public function testTheSourceIsTold(): void
    {
        $mounts = new Mounts(self::TABLE);
        self::assertSame('10.0.0.5:/export/www', $mounts->at('/srv/www')['source']);
        self::assertSame('host:/vol 1', $mounts->at('/srv/with blank')['source']);
    }

    public function testAnEmptyTableKnowsNothing(): void
    {
        self::assertNull((new Mounts(''))->at('/srv'));
    }

    public function testThisMachinesOwnTableIsRead(): void
    {
        $mounts = Mounts::of_this_process();
        self::assertNotNull($mounts);
        self::assertSame('proc', $mounts->at('/proc/self')['type'] ?? null);
    }

    public function testNetworkFileSystems(): void
    {
        foreach (['nfs', 'nfs4', 'cifs', 'ceph', 'lustre', '9p', 'fuse.glusterfs', 'gfs2'] as $type) {
            self::assertTrue(Mounts::is_network($type), $type);
        }
        foreach (['ext4', 'xfs', 'btrfs', 'zfs', 'overlay', 'tmpfs', 'fuse.lxcfs', 'fuseblk'] as $type) {
            self::assertFalse(Mounts::is_network($type), $type);
        }
        self::assertFalse(Mounts::is_known('fuse.glusterfs'), 'the kernel calls it FUSE, so @network does not mean it');
    }

    /** The list here is by name, the extension's by number; so many kinds have to be in both. */
    public function testKnowsWhatTheExtensionKnows(): void
    {
        $source = (string) file_get_contents(dirname(__DIR__, 4) . '/core/src/file/nfs.rs');
        self::assertSame(1, preg_match('/const NETWORK: \[u64; \d+\] = \[(.*?)\];/s', $source, $found));
        preg_match_all('~// (\w+)~', $found[1], $kinds);
        $types = [
            'NFS' => 'nfs4', 'SMB' => 'smbfs', 'CIFS' => 'cifs', 'SMB2' => 'smb3', 'Ceph' => 'ceph', 'AFS' => 'afs',
            'Coda' => 'coda', '9P' => '9p', 'Lustre' => 'lustre', 'GPFS' => 'gpfs',
        ];
        self::assertSame(array_keys($types), $kinds[1], 'a kind was added or removed: do so in Mounts::KNOWN, too');
        self::assertSame([], array_diff($types, Mounts::KNOWN));
    }
}
