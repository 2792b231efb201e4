<?php

declare(strict_types=1);

namespace ClusterLock\Symfony\Tests;

use ClusterLock\Symfony\Tests\Support\StoreTestCase;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;

/**
 * What the README shows works as it stands there.
 */
final class ReadmeTest extends StoreTestCase
{
    private const PRELUDE = ['auto_prepend_file' => __DIR__ . '/fixtures/remote.php'];

    public function testTheExamplesRun(): void
    {
        $examples = self::blocks('php');
        self::assertCount(2, $examples, 'The README has two');
        $uses = "use Symfony\\Component\\Lock\\Key;\n";
        $process = Cluster::redis()->process($uses . $examples[0] . <<<'PHP'
            $body = 'text';
            $db = new class () {
                public function executeStatement(string $sql, array $values): void
                {
                    say(substr_count($sql, '?') === count($values) && is_int($values[1]) && $values[1] > 0);
                }
            };
            PHP . "\n" . $examples[1], self::PRELUDE);

        $process->expect('true');
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame('', $process->errors(), 'There is nothing to warn of');
    }

    public function testTheConfigurationMakesBothFactories(): void
    {
        if (!is_file('/usr/share/php/Symfony/Bundle/FrameworkBundle/autoload.php')) {
            self::markTestSkipped("Debian's php-symfony-framework-bundle is not installed.");
        }
        $dir = TempDir::forTest();
        foreach (self::blocks('yaml') as $block) {
            self::assertSame(1, preg_match('/^# \S+\/(\w+\.yaml)\n/', $block, $file), 'A file begins with its name');
            file_put_contents("$dir/$file[1]", $block);
        }
        $cluster = Cluster::redis();
        $process = $cluster->process(
            'require hear();',
            // Symfony 5.4 is older than PHP 8.4.
            self::PRELUDE + ['error_reporting' => E_ALL & ~E_DEPRECATED],
            ['posix', 'pcntl', 'ctype', 'dom', 'tokenizer']
        );
        $process->tell(__DIR__ . '/fixtures/framework.php');
        $process->tell($dir);
        $process->expect('default: true');
        $process->expect('jobs: true');
        $cluster->assertHeld('default', 'The default factory uses the extension');
        $cluster->assertHeld('jobs', 'The other factory uses the extension');
        $process->tell('how long?');
        $default = (float) $process->line();
        self::assertWithin(200.0, 297.0, $default, 'A lease of 300 s, less a hundredth');
        self::assertWithin($default + 1.0, 300.0, (float) $process->line(), 'The rest of cluster_lock.max_hold');
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertStringContainsString(
            'Successfully acquired the "default" lock.',
            $process->errors(),
            "The factory has the application's logger"
        );

        $cluster->assertFree('default', 'The request has ended');
    }

    /** @return list<string> */
    private static function blocks(string $language): array
    {
        preg_match_all("/^```$language\n(.*?)^```/ms", file_get_contents(dirname(__DIR__) . '/README.md'), $blocks);

        return $blocks[1];
    }
}
