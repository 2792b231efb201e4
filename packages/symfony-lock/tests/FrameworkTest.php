<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests;

use ClusterLock\Symfony\Tests\Support\StoreTestCase;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;

/**
 * The configuration of the README, in a real FrameworkBundle.
 */
final class FrameworkTest extends StoreTestCase
{
    protected function setUp(): void
    {
        if (!is_file('/usr/share/php/Symfony/Bundle/FrameworkBundle/autoload.php')) {
            self::markTestSkipped("Debian's php-symfony-framework-bundle is not installed.");
        }
    }

    public function testTheConfigurationOfTheReadmeMakesBothFactories(): void
    {
        $readme = file_get_contents(dirname(__DIR__) . '/README.md');
        preg_match_all('/^```yaml\n# (\S+)\n(.*?)^```/ms', $readme, $blocks);
        self::assertSame(['config/packages/lock.yaml', 'config/services.yaml'], $blocks[1], 'README.md has both');
        $dir = TempDir::forTest();
        file_put_contents("$dir/lock.yaml", $blocks[2][0]);
        file_put_contents("$dir/services.yaml", $blocks[2][1]);

        $cluster = Cluster::redis();
        $process = $cluster->process(
            'require hear();',
            ['auto_prepend_file' => __DIR__ . '/fixtures/remote.php', 'error_reporting' => E_ALL & ~E_DEPRECATED],
            ['posix', 'pcntl', 'ctype', 'dom', 'tokenizer']
        );
        $process->tell(__DIR__ . '/fixtures/framework.php');
        $process->tell($dir);
        $process->expect('default: true');
        $process->expect('jobs: true');
        $cluster->assertHeld('default', 'The default factory uses the extension');
        $cluster->assertHeld('jobs', 'The other factory uses the extension');
        $process->tell('how long?');
        self::assertWithin(200.0, 297.0, (float) $process->line(), 'A lease of 300 s, less a hundredth');
        self::assertWithin(297.0, 300.0, (float) $process->line(), 'The rest of cluster_lock.max_hold');
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertStringContainsString(
            'Successfully acquired the "default" lock.',
            $process->errors(),
            "The factory has the application's logger"
        );

        $cluster->assertFree('default', 'The request has ended');
    }
}
