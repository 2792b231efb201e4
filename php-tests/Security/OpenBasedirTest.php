<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Security;

use ClusterLock\Tests\Support\FileTestCase;
use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TempDir;

/**
 * open_basedir holds, also while another process swaps a directory for a link to the outside.
 */
final class OpenBasedirTest extends FileTestCase
{
    public function testASwappedDirectoryLeadsNobodyOut(): void
    {
        $outside = TempDir::forTest();
        mkdir("{$this->dir}/d");
        $swap = PhpProcess::code(<<<'PHP'
            [$dir, $outside] = [hear(), hear()];
            say('begins');
            while (!file_exists("$dir/stop")) {
                rename("$dir/d", "$dir/real");
                symlink($outside, "$dir/d");
                usleep(random_int(0, 100));
                unlink("$dir/d");
                rename("$dir/real", "$dir/d");
                usleep(random_int(0, 100));
            }
            say('ends');
            PHP);
        $swap->tell($this->dir);
        $swap->tell($outside);
        $swap->expect('begins');
        $writer = $this->writer([
            'open_basedir' => $this->dir . ':' . dirname(__DIR__),
            'cluster_lock.durable_writes' => 0,
        ]);
        [$written, $refused] = $writer->run('
            set_error_handler(static fn () => true);
            $written = $refused = 0;
            for ($i = 0; $i < 3000; $i++) {
                cluster_file_put_contents("$dir/d/file", "new") === 3 ? $written++ : $refused++;
            }
            restore_error_handler();
            return [$written, $refused];', dir: $this->dir);
        touch("{$this->dir}/stop");
        $swap->expect('ends');

        self::assertSame(['.', '..'], scandir($outside), "Nothing is outside; $written written, $refused refused");
        self::assertGreaterThan(0, $written, 'Inside it works');
        self::assertGreaterThan(0, $refused, 'The race took place');
    }

    public function testNothingIsAskedAboutWhatIsOutside(): void
    {
        $outside = TempDir::forTest();
        touch("$outside/file");
        $writer = $this->writer(['open_basedir' => $this->dir . ':' . dirname(__DIR__)]);
        $outcome = $writer->try('cluster_clearstatcache', "$outside/file");

        self::assertStringContainsString('open_basedir', $outcome->messages(), 'cluster_clearstatcache() is refused');
    }
}
