<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Polyfill\Status;
use ClusterLock\Tests\Support\Php;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use FilesystemIterator;
use RecursiveDirectoryIterator;
use RecursiveIteratorIterator;
use RegexIterator;

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
            'require %1$s; require %1$s;'
                // Of all processes of this user.
                . 'echo cluster_lock(bin2hex(random_bytes(8)), 0) ? cluster_lock_status()["backend"] : "", "\n";',
            var_export(self::BOOTSTRAP, true)
        )]);

        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("local\n", $process->output(), 'Without anything, locks of this host');
        self::assertSame('', $process->errors(), 'in silence');
    }

    /** @return array<string, array{bool}> */
    public static function orders(): array
    {
        return ['its loader comes after' => [false], 'its loader comes before' => [true]];
    }

    /**
     * Two plugins, each with its own copy: the functions are those of the first, and so are all classes, whoever is asked
     * first for a class.
     *
     * @dataProvider orders
     */
    public function testOfTwoVersionsTheFirstOneIsUsedAsAWhole(bool $loaderFirst): void
    {
        $other = TempDir::forTest();
        exec('cp -r ' . escapeshellarg(dirname(__DIR__)) . "/. $other");
        $loader = "spl_autoload_register(static function (string \$class): void {"
            . " \$file = '$other/src/' . str_replace('\\\\', '/', substr(\$class, 21)) . '.php';"
            . " if (str_starts_with(\$class, 'ClusterLock\\\\Polyfill\\\\') && is_file(\$file)) { require \$file; } }, true, true);";
        $first = 'require ' . var_export(self::BOOTSTRAP, true) . ';';
        $code = ($loaderFirst ? $loader . $first : $first . $loader) . "require '$other/bootstrap.php';" . <<<'PHP'
            ClusterLock\Polyfill\configure(['dsn' => "local://$argv[1]"]);
            $h = fopen("$argv[1]/file", 'c+');
            $works = [cluster_lock('job', 0), cluster_flock($h, LOCK_EX), cluster_file_put_contents("$argv[1]/new", 'x'),
                (new ClusterLock('other'))->acquire(0), cluster_lock_status()['backend']];
            echo json_encode([$works, preg_grep("#^$argv[2]/#", get_included_files())]), "\n";
            PHP;
        $process = PhpProcess::program([PHP_BINARY, '-n', '-r', $code, TempDir::forTest(), $other]);

        self::assertSame(0, $process->wait(), $process->transcript());
        [$works, $loaded] = json_decode($process->output(), true);
        self::assertSame([true, true, 1, true, 'local'], $works);
        self::assertSame(["$other/bootstrap.php"], array_values($loaded), 'Nothing of the other one but its beginning');
    }

    /** @return array<string, array{string}> */
    public static function waysToPreload(): array
    {
        return [
            'require' => ['require "%1$s/bootstrap.php";'],
            'opcache_compile_file()' => ['foreach ([...glob("%1$s/*.php"), ...glob("%1$s/global/*.php"), ...glob("%1$s/src/*.php"),'
                . ' ...glob("%1$s/src/*/*.php")] as $file) { opcache_compile_file($file); }'],
        ];
    }

    /**
     * What is preloaded is there in every request, before anything else.
     *
     * @dataProvider waysToPreload
     */
    public function testItCanBePreloadedWithoutComposer(string $preload): void
    {
        $dir = TempDir::forTest();
        file_put_contents("$dir/preload.php", '<?php ' . sprintf($preload, dirname(__DIR__)));
        $code = 'if ($argc > 2) { require $argv[2]; } $GLOBALS["h"] = fopen("$argv[1]/file", "c+");'
            . 'ClusterLock\Polyfill\configure(["dsn" => "local://$argv[1]"]);'
            . 'echo json_encode([cluster_lock("job", 0), cluster_flock($h, LOCK_EX), (new ClusterLock("o"))->acquire(0)]), "\n";';
        $options = Php::options([
            'opcache.enable_cli' => 1, 'opcache.preload' => "$dir/preload.php", 'opcache.preload_user' => 'root',
        ], ['opcache']);
        foreach ([[], [self::BOOTSTRAP]] as $argument) {
            $process = PhpProcess::program([PHP_BINARY, ...self::withoutExtension($options), '-r', $code, $dir, ...$argument]);

            self::assertSame(0, $process->wait(), $process->transcript());
            self::assertSame("[true,true,true]\n", $process->output(), $process->errors());
        }
    }

    public function testAllClassesAreLoadedAtTheFirstCall(): void
    {
        $src = dirname(__DIR__) . '/src/';
        $process = PhpProcess::program([PHP_BINARY, '-n', '-r', 'require $argv[1]; $before = get_included_files();'
            . 'ClusterLock\Polyfill\configure([]); echo json_encode([$before, get_included_files()]);', self::BOOTSTRAP]);
        self::assertSame(0, $process->wait(), $process->transcript());
        $loaded = array_map(
            static fn (array $files): array => preg_grep('/^' . preg_quote($src, '/') . '/', $files),
            json_decode($process->output(), true)
        );
        $all = array_map('strval', iterator_to_array(new RegexIterator(new RecursiveIteratorIterator(
            new RecursiveDirectoryIterator($src, FilesystemIterator::SKIP_DOTS)
        ), '/\.php$/'), false));

        self::assertSame([], $loaded[0], 'None when nothing is called');
        self::assertEqualsCanonicalizing($all, $loaded[1], 'All of src/: global/load.php lists them');
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
        exec("COMPOSER_ALLOW_SUPERUSER=1 composer --no-interaction -d $site install -a 2>&1", $said, $code);
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
        foreach (['cluster_synchronized', 'cluster_coalesced', 'cluster_file_build'] as $function) {
            self::assertSame('mixed', $ours['functions'][$function]['parameters'][1]['type']);
            $ours['functions'][$function]['parameters'][1]['type'] = 'callable';
        }

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

    /**
     * @param list<string> $options
     *
     * @return list<string>
     */
    private static function withoutExtension(array $options): array
    {
        $ours = array_search('extension=' . Php::library(), $options, true);
        array_splice($options, $ours - 1, 2);

        return $options;
    }
}
