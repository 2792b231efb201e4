<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use Cluster_Lock\Content_Check;
use Cluster_Lock\Mounts;
use Cluster_Lock\Verdict;
use PHPUnit\Framework\TestCase;

final class ContentCheckTest extends TestCase
{
    private const LOCAL = '1 0 8:1 / / rw - ext4 /dev/vda rw';
    private const NFS = self::LOCAL . "\n2 1 0:4 / /srv/www rw - nfs4 filer:/www rw";
    private const GLUSTER = self::LOCAL . "\n2 1 0:4 / /srv/www rw - fuse.glusterfs filer:/www rw";

    /** @dataProvider situations */
    public function testVerdict(string $mounts, string $intercept, string $backend, string $status, string $says): void
    {
        $verdict = self::verdict($mounts, $intercept, $backend);
        self::assertSame($status, $verdict->status, $verdict->label);
        self::assertStringContainsString($says, $verdict->description());
    }

    /** @return array<string, array{string, string, string, string, string}> */
    public static function situations(): array
    {
        return [
            'local disk' => [self::LOCAL, '', 'redis', 'good', 'ext4'],
            'NFS, nothing intercepted' => [self::NFS, '', 'redis', 'recommended', 'intercept = &quot;@network&quot;'],
            'NFS, @network' => [self::NFS, '@network', 'redis', 'good', 'filer:/www'],
            'NFS, by path' => [self::NFS, '/mnt/x:/srv/www/wp-content', 'redis', 'good', 'gate'],
            'NFS, a path beside it' => [
                self::NFS, '/srv/www/wp', 'redis', 'recommended', 'intercept = &quot;/srv/www/wp:@network&quot;',
            ],
            'NFS, but each node has its own locks' => [self::NFS, '@network', 'local', 'critical', 'local:'],
            'GlusterFS is not in @network' => [
                self::GLUSTER, '@network', 'redis', 'recommended', 'intercept = &quot;@network:/srv/www/wp-content&quot;',
            ],
            'GlusterFS, by path' => [self::GLUSTER, '/srv/www', 'redis', 'good', 'fuse.glusterfs'],
        ];
    }

    public function testUnderOpenBasedir(): void
    {
        $hook = ['active' => false, 'intercept' => '', 'flock_mode' => 'gate'];
        $verdict = Content_Check::verdict(['/srv/www'], null, $hook, 'redis');
        self::assertSame('recommended', $verdict->status);
        self::assertStringContainsString('open_basedir', $verdict->description());
    }

    public function testOnlyTheUploadsAreShared(): void
    {
        $mounts = new Mounts(self::LOCAL . "\n2 1 0:4 / /data/uploads rw - nfs filer:/u rw");
        $hook = ['active' => false, 'intercept' => '', 'flock_mode' => 'gate'];
        $verdict = Content_Check::verdict(['/var/www/wp-content', '/data/uploads'], $mounts, $hook, 'redis');
        self::assertSame('recommended', $verdict->status);
        self::assertStringContainsString('/data/uploads: nfs, filer:/u', $verdict->description());
        self::assertStringNotContainsString('/var/www', $verdict->description());
    }

    public function testAHookThatIsNotInForceDoesNotCount(): void
    {
        $hook = ['active' => false, 'intercept' => '@network', 'flock_mode' => 'gate'];
        self::assertFalse(Content_Check::is_intercepted('/srv/www', 'nfs4', $hook));
    }

    public function testALinkInTheSettingIsFollowed(): void
    {
        $dir = sys_get_temp_dir() . '/cluster_lock-' . bin2hex(random_bytes(6));
        mkdir("$dir/real", 0700, true);
        symlink("$dir/real", "$dir/link");
        try {
            $hook = ['active' => true, 'intercept' => "$dir/link", 'flock_mode' => 'gate'];
            self::assertTrue(Content_Check::is_intercepted((string) realpath("$dir/real"), 'nfs', $hook));
        } finally {
            unlink("$dir/link");
            rmdir("$dir/real");
            rmdir($dir);
        }
    }

    private static function verdict(string $mounts, string $intercept, string $backend): Verdict
    {
        $hook = ['active' => $intercept !== '', 'intercept' => $intercept, 'flock_mode' => 'gate'];
        $dirs = ['/srv/www/wp-content', '/srv/www/wp-content', '/srv/www/wp-content/uploads'];

        return Content_Check::verdict(array_slice($dirs, 0, 2), new Mounts($mounts), $hook, $backend);
    }
}
