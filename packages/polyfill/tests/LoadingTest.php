<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Polyfill\Status;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * The polyfill defines what is missing, and nothing where the extension is loaded.
 */
final class LoadingTest extends TestCase
{
    private const BOOTSTRAP = __DIR__ . '/../bootstrap.php';

    public function testWhereTheExtensionIsLoadedItDefinesNothing(): void
    {
        $process = PhpProcess::code(sprintf(<<<'PHP'
            $before = [get_defined_functions()['user'], get_declared_classes(), spl_autoload_functions()];
            require '%s';
            say($before === [get_defined_functions()['user'], get_declared_classes(), spl_autoload_functions()]);
            say((new ReflectionFunction('cluster_lock'))->isInternal());
            say(function_exists('ClusterLock\Polyfill\configure'));
            PHP, self::BOOTSTRAP));

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("true\ntrue\nfalse\n", $process->output(), 'Nothing is new');
        self::assertSame('', $process->errors(), 'and nothing is said');
    }

    public function testOneRequireIsEnoughAndTwoDoNoHarm(): void
    {
        $process = PhpProcess::program([PHP_BINARY, '-n', '-r', sprintf(
            'require %1$s; require %1$s; putenv("TMPDIR=%2$s");'
                . 'echo cluster_lock("job", 0) ? cluster_lock_status()["backend"] : "", "\n";',
            var_export(self::BOOTSTRAP, true),
            TempDir::forTest()
        )]);

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("local\n", $process->output(), 'Without anything, locks of this host');
        self::assertSame('', $process->errors(), 'in silence');
    }

    public function testComposerLoadsIt(): void
    {
        if (!is_executable('/usr/bin/composer')) {
            self::markTestSkipped('There is no composer here.');
        }
        $package = dirname(__DIR__);
        exec("composer --no-interaction validate --strict $package/composer.json 2>&1", $said, $code);
        self::assertSame(0, $code, 'composer validate: ' . implode("\n", $said));

        $site = TempDir::forTest();
        $ours = static fn (string $name, string $directory): array => [
            'type' => 'path',
            'url' => $directory,
            'options' => ['versions' => ["cluster-lock/$name" => '1.0.0']],
        ];
        $empty = static fn (string $name, string $version): array => [
            'type' => 'package',
            'package' => ['name' => $name, 'version' => $version, 'type' => 'metapackage'],
        ];
        file_put_contents("$site/composer.json", json_encode([
            'repositories' => [
                $ours('polyfill', $package),
                $ours('symfony-lock', dirname($package) . '/symfony-lock'),
                $empty('symfony/lock', '6.4.0'),
                $empty('psr/log', '3.0.0'),
                ['packagist.org' => false],
            ],
            // The store for symfony/lock requires the extension, for which this stands in.
            'require' => ['cluster-lock/polyfill' => '*', 'cluster-lock/symfony-lock' => '*'],
        ]));
        exec("COMPOSER_ALLOW_SUPERUSER=1 composer --no-interaction -d $site install 2>&1", $said, $code);
        self::assertSame(0, $code, 'composer install: ' . implode("\n", $said));
        $code = "require '$site/vendor/autoload.php';"
            . "ClusterLock\\Polyfill\\configure(['dsn' => 'local://$site/locks']);"
            . 'echo (new ClusterLock("job"))->acquire(0) ? "held" : "", "\n";';
        $process = PhpProcess::program([PHP_BINARY, '-n', '-r', $code]);

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("held\n", $process->output(), 'As installed, it works');
    }

    public function testTheSurfaceIsThatOfTheStub(): void
    {
        $root = dirname(__DIR__, 3);
        $fixture = "$root/php-tests/fixtures/surface.php";
        $stub = PhpProcess::program([PHP_BINARY, '-n', $fixture, "$root/stubs/cluster_lock.stubs.php"]);
        $ours = PhpProcess::program([PHP_BINARY, '-n', $fixture, self::BOOTSTRAP]);
        [$stub, $ours] = array_map(static function (PhpProcess $process): array {
            self::assertSame(0, $process->wait(), $process->transcript());

            return unserialize($process->output());
        }, [$stub, $ours]);
        // PHP code forbids by methods what an extension forbids by handlers.
        foreach (['__clone', '__serialize', '__unserialize', '__set'] as $method) {
            unset($ours['classes']['ClusterLock']['methods'][$method]);
        }

        // In whose scope a method can be called is seen in the function only.
        self::assertSame('mixed', $ours['functions']['cluster_synchronized']['parameters'][1]['type']);
        $ours['functions']['cluster_synchronized']['parameters'][1]['type'] = 'callable';

        self::assertSame($stub, $ours, 'The same functions, classes, parameters and types');
    }

    public function testTheVersionIsThatOfTheExtension(): void
    {
        preg_match('/^version = "(.*)"$/m', (string) file_get_contents(dirname(__DIR__, 3) . '/Cargo.toml'), $version);
        require_once dirname(__DIR__) . '/src/Status.php';

        self::assertSame("$version[1]-polyfill", Status::VERSION, 'Both come from one repository');
    }

    public function testEveryExclusionOfTheSuiteNamesATest(): void
    {
        foreach (require __DIR__ . '/cannot.php' as $why => $patterns) {
            foreach ($patterns as $pattern) {
                [$class, $method] = explode('::', explode(' ', $pattern)[0]);
                $names = preg_grep('/^test/', get_class_methods("ClusterLock\\Tests\\$class"));
                $matching = array_filter($names, static fn (string $name): bool => fnmatch($method, $name));
                self::assertNotSame([], $matching, "There is no $pattern any more ($why)");
            }
        }
    }
}
