<?php

declare(strict_types=1);

namespace ClusterLock\Tests\File;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\Xattr;

/**
 * Mode, owner, ACL and attributes: a new file's by umask, an old file's are kept.
 */
final class AttributesTest extends FileTestCase
{
    public function testANewFileGetsItsModeFromTheUmask(): void
    {
        $writer = $this->writer();
        foreach ([022 => 0644, 027 => 0640, 077 => 0600, 0 => 0666] as $umask => $mode) {
            $writer->run(
                'umask($umask); return cluster_file_put_contents($file, "x");',
                umask: $umask,
                file: "{$this->dir}/$umask"
            );
            self::assertSame(decoct($mode), self::mode("{$this->dir}/$umask"), sprintf('0666 & ~%03o', $umask));
        }
        self::assertSame(0, $writer->call('umask', 022), 'The umask of the process is its own');
    }

    public function testAnOldFileKeepsItsMode(): void
    {
        $writer = $this->writer();
        foreach ([0600, 0640, 0604, 0755, 0777, 0400] as $mode) {
            $file = sprintf('%s/%o', $this->dir, $mode);
            touch($file);
            chmod($file, $mode);
            $writer->call('cluster_file_put_contents', $file, 'new');
            self::assertSame(decoct($mode), self::mode($file), 'The mode is kept');
            $writer->run('umask(077); return cluster_file_put_contents($file, "again");', file: $file);
            self::assertSame(decoct($mode), self::mode($file), 'whatever the umask');
            self::assertSame('again', file_get_contents($file), 'and the content is new');
        }
    }

    public function testAnOldFileKeepsItsOwnerAndGroup(): void
    {
        $this->needsRoot();
        $file = "{$this->dir}/file";
        touch($file);
        chown($file, 12345);
        chgrp($file, 23456);
        chmod($file, 0640);
        $this->writer()->call('cluster_file_put_contents', $file, 'new');
        clearstatcache();

        self::assertSame(
            [12345, 23456, '640'],
            [fileowner($file), filegroup($file), self::mode($file)],
            'Owner, group, mode'
        );
    }

    public function testAnOwnerThatMayNotBeKeptIsNoError(): void
    {
        $this->needsRoot();
        $file = "{$this->dir}/file";
        file_put_contents($file, 'old');
        chmod($this->dir, 0777);
        chmod($file, 0666);
        $writer = $this->unprivilegedWriter();

        self::assertSame(3, $writer->call('cluster_file_put_contents', $file, 'new'), 'It is written all the same');
        clearstatcache();
        self::assertSame('new', file_get_contents($file), 'The content is new');
        self::assertSame('666', self::mode($file), 'The mode is kept');
        self::assertSame(65534, fileowner($file), 'The owner could not be kept');
    }

    public function testASetuidBitDoesNotMoveToAnotherOwner(): void
    {
        $this->needsRoot();
        $file = "{$this->dir}/file";
        file_put_contents($file, 'old');
        chmod($this->dir, 0777);
        chmod($file, 06777);
        $writer = $this->unprivilegedWriter();
        $writer->call('cluster_file_put_contents', $file, 'new');
        clearstatcache();

        self::assertSame(0, fileperms($file) & 06000, 'A file of another owner is not setuid or setgid');
    }

    public function testAttributesAndAclAreKept(): void
    {
        if (!Xattr::isAvailable($this->dir)) {
            self::markTestSkipped('There are no extended attributes here.');
        }
        $file = "{$this->dir}/file";
        touch($file);
        Xattr::set($file, 'user.origin', "kept\0binary");
        Xattr::set($file, 'user.empty', '');
        // Version 2: owner rw-, user 1000 r--, group r--, mask r--, others ---.
        $entries = [[1, 6, -1], [2, 4, 1000], [4, 4, -1], [16, 4, -1], [32, 0, -1]];
        $acl = pack('V', 2) . implode('', array_map(static fn (array $e) => pack('vvV', ...$e), $entries));
        $hasAcl = Xattr::set($file, 'system.posix_acl_access', $acl);
        $this->writer()->call('cluster_file_put_contents', $file, 'new');

        self::assertSame("kept\0binary", Xattr::get($file, 'user.origin'), 'An attribute is kept');
        self::assertSame('', Xattr::get($file, 'user.empty'), 'An empty one, too');
        if ($hasAcl) {
            self::assertSame(
                bin2hex($acl),
                bin2hex((string) Xattr::get($file, 'system.posix_acl_access')),
                'The ACL is kept'
            );
        }
    }

    public function testAppendingKeepsThemToo(): void
    {
        $file = "{$this->dir}/file";
        file_put_contents($file, 'old ');
        chmod($file, 0604);
        Cluster::local()->actor()->call('cluster_file_put_contents', $file, 'new', FILE_APPEND);

        self::assertSame('604', self::mode($file), 'The mode is kept');
        self::assertSame('old new', file_get_contents($file), 'The content is appended');
    }

    private static function mode(string $file): string
    {
        clearstatcache();

        return decoct(fileperms($file) & 07777);
    }

    private function needsRoot(): void
    {
        if (posix_geteuid() !== 0) {
            self::markTestSkipped('Only root can give files away.');
        }
    }
}
