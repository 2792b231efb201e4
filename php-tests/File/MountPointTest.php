<?php

declare(strict_types=1);

namespace ClusterLock\Tests\File;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\Until;

/**
 * A file that is a mount point by itself, as containers have them: no rename can replace it. It is written in place only when
 * that is allowed (cluster_lock.mount_point_writes), and only under a lock.
 */
final class MountPointTest extends FileTestCase
{
    private const IN_PLACE = ['cluster_lock.mount_point_writes' => 'in_place'];

    /** What the container's file is on the host. */
    private string $source;

    protected function setUp(): void
    {
        parent::setUp();
        $this->source = TempDir::forTest() . '/source';
        file_put_contents($this->source, 'the old content');
        file_put_contents("{$this->dir}/file", 'beneath');
    }

    public function testByDefaultItIsRefused(): void
    {
        $writer = $this->contained(Cluster::redis());
        foreach ([0, LOCK_EX, FILE_APPEND] as $flags) {
            $warning = $writer->try('cluster_file_put_contents', "{$this->dir}/file", 'new', $flags)->warning();
            self::assertStringContainsString('mount point by itself', $warning, 'It says why');
            self::assertStringContainsString('cluster_lock.mount_point_writes', $warning, 'It says what can be done');
            $this->assertSource('the old content');
        }
    }

    /** @dataProvider backends */
    public function testUnderALockItIsWrittenInPlaceWhereThatIsAllowed(Cluster $cluster): void
    {
        $inode = fileinode($this->source);
        $writer = $this->contained($cluster, self::IN_PLACE);
        $long = str_repeat('a longer one', 100_000);
        foreach ([$long, 'short', ''] as $content) {
            $written = $writer->call('cluster_file_put_contents', "{$this->dir}/file", $content, LOCK_EX);
            self::assertSame(strlen($content), $written, 'The count of bytes');
            $this->assertSource($content);
        }
        foreach (['one', ', two'] as $more) {
            $writer->call('cluster_file_put_contents', "{$this->dir}/file", $more, FILE_APPEND);
        }
        $this->assertSource('one, two');
        $writer->call('cluster_lock', 'config');
        $writer->call('cluster_file_put_contents', "{$this->dir}/file", 'by name', 0, 'config');
        $this->assertSource('by name');

        clearstatcache();
        self::assertSame($inode, fileinode($this->source), 'It is the same file');
        self::assertSame(6, $writer->call('cluster_lock_status')['counters']['writes'], 'All were writes');
        $writer->call('cluster_unlock', 'config');
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'No lock stays');
    }

    public function testItIsNotBuiltInPlaceEvenThen(): void
    {
        $cluster = Cluster::redis();
        foreach ([[], self::IN_PLACE] as $settings) {
            $writer = $this->contained($cluster, $settings);
            $outcome = $writer->tryRun('return cluster_file_build($file, static fn () => "new");', file: "{$this->dir}/file");
            self::assertStringEndsWith('look finished: mount its directory instead', $outcome->warning(), 'No setting would help');
            $this->assertSource('the old content');
            self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'No lock stays');
            $writer->quit();
        }
    }

    public function testWithoutAnExclusiveLockItIsNot(): void
    {
        $writer = $this->contained(Cluster::redis(), self::IN_PLACE);
        $writer->call('cluster_lock', 'shared', 0, LOCK_SH);
        foreach ([null, 'shared'] as $lock) {
            $warning = $writer->try('cluster_file_put_contents', "{$this->dir}/file", 'new', 0, $lock)->warning();
            self::assertStringContainsString('only under an exclusive lock', $warning, 'It says why');
            $this->assertSource('the old content');
        }
    }

    public function testNorUnderALockThatWasLost(): void
    {
        $cluster = Cluster::redis();
        $writer = $this->contained($cluster, self::IN_PLACE);
        $writer->call('cluster_lock', 'config');
        $pipe = $this->beginSlowWrite($writer, "{$this->dir}/file", 0, 'config');
        $cluster->observer()->call('cluster_lock_break', 'config');
        $this->finishSlowWrite($pipe);

        self::assertStringContainsString('is unchanged', $writer->outcome()->warning(), 'It says what became of it');
        $this->assertSource('the old content');
    }

    public function testWhatCannotBeReadToItsEndTouchesNothing(): void
    {
        $writer = $this->contained(Cluster::redis(), self::IN_PLACE);
        $outcome = $writer->tryRun(<<<'PHP'
            $fails = new class {
                public function __toString(): string { throw new Exception('half way'); }
            };
            return cluster_file_put_contents($file, ['new', $fails], LOCK_EX);
            PHP, file: "{$this->dir}/file");

        self::assertSame('half way', $outcome->thrown('Exception')->message);
        $this->assertSource('the old content');
    }

    public function testOtherFilesAreReplacedAsEver(): void
    {
        $writer = $this->contained(Cluster::redis(), self::IN_PLACE);
        $other = dirname($this->source) . '/other';
        file_put_contents($other, 'old');
        $inode = fileinode($other);
        $writer->call('cluster_file_put_contents', $other, 'new', LOCK_EX);
        clearstatcache();

        self::assertSame('new', file_get_contents($other));
        self::assertNotSame($inode, fileinode($other), 'A new file took its place');
    }

    public function testTheLockIsHeldUntilItIsWritten(): void
    {
        $cluster = Cluster::redis();
        $writer = $this->contained($cluster, self::IN_PLACE);
        $pipe = $this->beginSlowWrite($writer, "{$this->dir}/file", LOCK_EX);
        Until::true(
            static fn () => count($cluster->observer()->call('cluster_lock_list')) === 1,
            'the write should take one lock'
        );
        $other = $this->contained($cluster, self::IN_PLACE + ['cluster_lock.timeout' => '0']);
        $warning = $other->try('cluster_file_put_contents', "{$this->dir}/file", 'other', LOCK_EX)->warning();
        self::assertStringContainsString('not acquired within', $warning);
        self::assertSame('the old content', file_get_contents($this->source), 'Nothing before all has been read');
        $this->finishSlowWrite($pipe);
        self::assertSame(23, $writer->end());
        $this->assertSource('first half, second half');
    }

    /** A process for which "file" in the directory is the source, mounted there by itself. */
    private function contained(Cluster $cluster, array $settings = []): Actor
    {
        $actor = $cluster->actor($settings);
        $obstacle = $actor->run(<<<'PHP'
            if (!@pcntl_unshare(CLONE_NEWNS)) {
                return pcntl_strerror(pcntl_get_last_error());
            }
            $arguments = escapeshellarg($source) . ' ' . escapeshellarg($file);
            exec("mount --make-rprivate / 2>&1 && mount --bind $arguments 2>&1", $lines, $code);

            return $code === 0 ? null : implode("\n", $lines);
            PHP, source: $this->source, file: "{$this->dir}/file");
        if ($obstacle !== null) {
            self::markTestSkipped("No mount of its own for a process: $obstacle");
        }

        return $actor;
    }

    private function assertSource(string $content): void
    {
        self::assertSame($content, file_get_contents($this->source), 'What the container has written, on the host');
        $this->assertUntouched('beneath', 'what lies beneath the mount');
    }
}
