<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Inspect;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use ClusterLock\Tests\Support\Until;

/**
 * Reports name the function, the file and the line that asked for a lock.
 */
final class CallTest extends TestCase
{
    private const SETTINGS = ['cluster_lock.timeout' => 30];

    private string $dir;

    protected function setUp(): void
    {
        parent::setUp();
        $this->dir = TempDir::forTest();
    }

    /**
     * Code that takes the lock "job", in the line that says "here", and the function that is to be named.
     *
     * @return array<string, array{string, string}>
     */
    public static function calls(): array
    {
        $static = 'final class Theme { public static function save(): void { $_ = cluster_lock("job"); /* here */ } }';
        $method = "class Theme\n{\n    public function save()\n    {\n        return cluster_lock('job'); // here\n    }\n}";

        return [
            'outside of functions' => ["\n\n\$_ = cluster_lock('job'); // here", ''],
            'a function' => ["function compile()\n{\n    \$_ = cluster_lock('job'); // here\n}\ncompile();", 'compile'],
            'a function of a namespace' => ["namespace App;\nfunction compile() { \$_ = \\cluster_lock('job'); } // here\ncompile();", 'App\compile'],
            'a method' => ["$method\n(new Theme())->save();", 'Theme::save'],
            'a static method' => ["$static\nTheme::save();", 'Theme::save'],
            'a method of a trait' => [
                "trait Saves { function save() { \$_ = cluster_lock('job'); } } // here\nclass Skin { use Saves; }\n(new Skin())->save();",
                'Skin::save',
            ],
            'by __call()' => [
                "class Magic { function __call(\$name, \$list) { \$_ = cluster_lock('job'); } } // here\n(new Magic())->save();",
                'Magic::__call',
            ],
            'an anonymous class' => [
                "\$it = new class { function save() { \$_ = cluster_lock('job'); } }; // here\n\$it->save();",
                'class@anonymous::save',
            ],
            'a closure' => ["(function () {\n    \$_ = cluster_lock('job'); // here\n})();", '{closure}'],
            'a closure of a namespace' => ["namespace App;\n(fn () => \\cluster_lock('job'))(); // here", '{closure}'],
            'a closure of a method' => [
                "class Theme { function save() { (fn () => cluster_lock('job'))(); } } // here\n(new Theme())->save();",
                'Theme::{closure}',
            ],
            'a callback of a PHP function' => ["array_map(function (\$n) {\n    \$_ = cluster_lock(\$n); // here\n}, ['job']);", '{closure}'],
            'called by a PHP function' => ["function all() {\n    array_map('cluster_lock', ['job']); // here\n}\nall();", 'all'],
            'call_user_func()' => ["\$_ = call_user_func('cluster_lock', 'job'); // here", ''],
            'a first-class callable' => ["\$lock = cluster_lock(...);\n\$_ = \$lock('job'); // here", ''],
            'a generator' => [
                "function rows()\n{\n    yield 1;\n    yield cluster_lock('job'); // here\n}\nforeach (rows() as \$row);",
                'rows',
            ],
            'a generator of a generator' => [
                "function inner() { yield 1; \$_ = cluster_lock('job'); } // here\nfunction outer() { yield from inner(); }\n"
                    . 'foreach (outer() as $row);',
                'inner',
            ],
            'a fiber' => ["(new Fiber(function () {\n    \$_ = cluster_lock('job'); // here\n}))->start();", '{closure}'],
            'a fiber that is the function' => ["(new Fiber('cluster_lock'))->start('job'); // here", ''],
            'a destructor' => [
                "class Last { function __destruct() { \$_ = cluster_lock('job'); } } // here\n\$last = new Last();\nunset(\$last);",
                'Last::__destruct',
            ],
            'while an exception is on its way' => [
                "class Last { function __destruct() { \$_ = cluster_lock('job'); } } // here\n"
                    . "function fails() { \$last = new Last(); throw new Exception(); }\ntry { fails(); } catch (Exception) {}",
                'Last::__destruct',
            ],
            'in finally' => [
                "function fails() {\n    try {\n        throw new Exception();\n    } finally {\n"
                    . "        \$_ = cluster_lock('job'); // here\n    }\n}\ntry { fails(); } catch (Exception) {}",
                'fails',
            ],
            'an object' => ["function run()\n{\n    (\$GLOBALS['lock'] = new ClusterLock('job'))->acquire(); // here\n}\nrun();", 'run'],
            'this project\'s packages' => [
                "namespace ClusterLock\\Symfony {\n    class Store { function save() { \$_ = cluster_lock('job'); } }\n}\n"
                    . "namespace Symfony\\Component\\Lock {\n    class Lock { function acquire() { (new \\ClusterLock\\Symfony\\Store())->save(); } }\n}\n"
                    . "namespace {\n    function report()\n    {\n        (new Symfony\\Component\\Lock\\Lock())->acquire(); // here\n    }\n    report();\n}",
                'report',
            ],
            'a package by itself' => [
                "namespace ClusterLock\\Symfony;\nfunction save() { \$_ = \\cluster_lock('job'); }\nsave(); // here",
                '',
            ],
        ];
    }

    /** @dataProvider calls */
    public function testTheCallOfAHolderIsNamed(string $code, string $function): void
    {
        $cluster = Cluster::redis();
        $file = $this->file($code);
        $alice = $cluster->actor(self::SETTINGS);
        $alice->run('require $file;', file: $file);

        self::assertCall($cluster, 'holders', $function, $file, self::line($code));
    }

    /** @dataProvider backends */
    public function testWhoHoldsAndWhoWaitsAreNamed(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, self::SETTINGS);
        $holder = $this->file("function holds() { \$_ = cluster_lock('job'); } // here\nholds();", 'holder.php');
        $waiter = $this->file("\nfunction waits()\n{\n    return cluster_lock('job'); // here\n}\nreturn waits();", 'waiter.php');
        $alice->run('require $file;', file: $holder);
        $bob->beginRun('return require $file;', file: $waiter);
        $cluster->awaitWaiters('job', 1);
        self::assertCall($cluster, 'holders', 'holds', $holder, 2);
        self::assertCall($cluster, 'waiters', 'waits', $waiter, 5);
        $alice->call('cluster_unlock', 'job');
        self::assertTrue($bob->end(), 'It is his turn');

        self::assertCall($cluster, 'holders', 'waits', $waiter, 5);
        self::assertSame(self::call($cluster), self::callOf($cluster->observer()->call('cluster_lock_list')[0]['holders'][0]));
    }

    public function testEachLockOfARequestHasACallOfItsOwn(): void
    {
        $cluster = Cluster::redis();
        $alice = $cluster->actor();
        $alice->tryRun('require $file;', file: $this->file("\$_ = cluster_lock('other');\n\$_ = cluster_lock('another');", 'others.php'));

        self::assertSame(2, self::call($cluster, 'other')['line'], 'The first');
        self::assertSame(3, self::call($cluster, 'another')['line'], 'The second');
    }

    public function testAConversionIsTheNewCall(): void
    {
        $cluster = Cluster::redis();
        $code = "\$_ = cluster_lock('job', 0, LOCK_SH);\nfunction writes() { \$_ = cluster_lock('job', 0, LOCK_EX); } // here\nwrites();";
        $file = $this->file($code);
        $alice = $cluster->actor();
        $alice->run('require $file;', file: $file);

        self::assertCall($cluster, 'holders', 'writes', $file, 3);
    }

    public function testCodeOfEvalIsNamedAsPhpDoes(): void
    {
        $cluster = Cluster::redis();
        $alice = $cluster->actor();
        $alice->run("function compiled() {\n \$_ = cluster_lock('job');\n}\ncompiled();");
        $call = self::call($cluster);

        self::assertSame(['compiled', 2], [$call['function'], $call['line']]);
        self::assertMatchesRegularExpression('/actor\.php\(\d+\) : eval\(\)\'d code$/', $call['file']);
    }

    /** @dataProvider backends */
    public function testASlowWaitNamesTheCallAndHowManyWereBefore(Cluster $cluster): void
    {
        $log = "{$this->dir}/php_errors";
        $file = $this->file("function compile() { \$_ = cluster_lock('job'); } // here\ncompile();");
        [$alice, $bob, $carol] = $cluster->actors(3, self::SETTINGS);
        $logging = ['cluster_lock.slow_wait' => '0.05', 'log_errors' => 1, 'error_log' => $log];
        $dora = $cluster->actor($logging + self::SETTINGS);
        $erin = $cluster->actor(['error_log' => "$log.erin"] + $logging + self::SETTINGS);
        $alice->run('require $file;', file: $file);
        foreach ([$bob, $carol, $dora] as $place => $waiter) {
            $waiter->begin('cluster_lock', 'job');
            $cluster->awaitWaiters('job', $place + 1);
        }
        self::assertFalse($erin->call('cluster_lock', 'job', 0.1), 'Others have come before');
        self::assertStringContainsString(' behind 3 others; held by node ', self::onlyLine("$log.erin"));
        $since = $cluster->info('job')['waiters'][2]['since'];
        Until::true(static fn () => microtime(true) - $since > 0.15, 'time should pass');
        foreach ([$alice, $bob, $carol] as $holder) {
            $holder === $alice || $holder->end();
            $holder->call('cluster_unlock', 'job');
        }
        self::assertTrue($dora->end(), 'It is her turn');

        $script = dirname(__DIR__) . '/fixtures/actor.php';
        $who = "held by node [^,]+, pid {$alice->pid()} \(cli\), compile\(\) at " . preg_quote("$file:2, for $script", '/');
        self::assertMatchesRegularExpression('/^\[.*\] cluster_lock: waited \d+\.\d s for lock "job" behind 2 others; ' . $who . '$/', self::onlyLine($log));
    }

    public function testWhoIsNextIsBehindNobody(): void
    {
        $cluster = Cluster::redis();
        $log = "{$this->dir}/php_errors";
        $alice = $cluster->actor();
        $bob = $cluster->actor(['cluster_lock.slow_wait' => '0.05', 'log_errors' => 1, 'error_log' => $log]);
        $alice->call('cluster_lock', 'job');
        self::assertFalse($bob->call('cluster_lock', 'job', 0.1), 'Alice has it');

        self::assertStringContainsString('for lock "job"; held by', self::onlyLine($log));
    }

    public function testATimeOutOfSynchronizedNamesTheCall(): void
    {
        $cluster = Cluster::redis();
        $file = $this->file("function compile() { \$_ = cluster_lock('job'); } // here\ncompile();");
        [$alice, $bob] = $cluster->actors(2);
        $alice->run('require $file;', file: $file);
        $thrown = $bob->tryRun('return cluster_synchronized("job", "pi", 0.05);')->thrown;

        self::assertStringContainsString(" compile() at $file:2, for ", (string) $thrown?->message);
    }

    public function testSynchronizedNamesItsCaller(): void
    {
        $cluster = Cluster::redis();
        $file = $this->file("function compile()\n{\n    return cluster_synchronized('job', fn () => cluster_lock_info('job')); // here\n}\nreturn compile();");
        $info = $cluster->actor()->run('return require $file;', file: $file);

        self::assertSame(['function' => 'compile', 'file' => $file, 'line' => 4], self::callOf($info['holders'][0]));
    }

    public function testAWriteNamesItsCaller(): void
    {
        $cluster = Cluster::redis();
        [$alice, $bob] = $cluster->actors(2, self::SETTINGS);
        $target = "{$this->dir}/style.css";
        $alice->call('cluster_lock', "file:$target");
        $code = "function save(\$target)\n{\n    return cluster_file_put_contents(\$target, 'x', LOCK_EX); // here\n}\nreturn save(\$target);";
        $file = $this->file($code);
        $bob->beginRun('return require $file;', file: $file, target: $target);
        $cluster->awaitWaiters("file:$target", 1);
        $call = self::callOf($cluster->info("file:$target")['waiters'][0]);
        $alice->call('cluster_unlock', "file:$target");

        self::assertSame(1, $bob->end(), 'Written');
        self::assertSame(['function' => 'save', 'file' => $file, 'line' => 4], $call);
    }

    /** @dataProvider fileLocks */
    public function testALockOnAFileNamesItsCaller(string $code, bool $intercepted = true): void
    {
        $cluster = Cluster::redis();
        $alice = $cluster->actor($intercepted ? ['cluster_lock.intercept' => $this->dir] : []);
        $file = $this->file("function save(\$target)\n{\n    \$GLOBALS['h'] = $code // here\n}\nsave(\$target);");
        $target = "{$this->dir}/style.css";
        touch($target);
        $alice->run('require $file;', file: $file, target: $target);

        self::assertCall($cluster, 'holders', 'save', $file, 4, "file:$target");
    }

    /** @return array<string, array{0: string, 1?: bool}> */
    public static function fileLocks(): array
    {
        return [
            'cluster_flock()' => ['fopen($target, "c"); cluster_flock($GLOBALS["h"], LOCK_EX);', false],
            'flock()' => ['fopen($target, "c"); flock($GLOBALS["h"], LOCK_EX);'],
            'SplFileObject::flock()' => ['new SplFileObject($target, "c"); $GLOBALS["h"]->flock(LOCK_EX);'],
        ];
    }

    /** @dataProvider backends */
    public function testASignalsHandlerThatLocksDoesNotChangeWhoWaits(Cluster $cluster): void
    {
        [$alice, $bob] = $cluster->actors(2, self::SETTINGS);
        $alice->call('cluster_lock', 'job');
        $file = $this->file(
            "pcntl_async_signals(true);\nfunction handles() { \$_ = cluster_lock('from the handler'); }\npcntl_signal(SIGUSR1, 'handles');\n"
                . "function waits()\n{\n    return cluster_lock('job'); // here\n}\nreturn waits();"
        );
        $bob->beginRun('return require $file;', file: $file);
        $cluster->awaitWaiters('job', 1);
        posix_kill($bob->pid(), SIGUSR1);
        Until::true(fn () => $cluster->info('from the handler') !== null, 'the handler should run');
        self::assertCall($cluster, 'waiters', 'waits', $file, 7);
        $alice->call('cluster_unlock', 'job');
        self::assertTrue($bob->end(), 'It is his turn');

        self::assertCall($cluster, 'holders', 'waits', $file, 7);
        self::assertSame('handles', self::call($cluster, 'from the handler')['function']);
    }

    public function testWhereNoCodeAsksNoneIsNamed(): void
    {
        $cluster = Cluster::redis();
        $go = "{$this->dir}/go";
        $code = "\$_ = cluster_lock('first'); register_shutdown_function('cluster_lock', 'job');"
            . " register_shutdown_function(function () { \$_ = cluster_lock('second'); while (!file_exists('$go')) { usleep(5000); } });";
        $process = $cluster->process($code);
        Until::true(fn () => $cluster->info('second') !== null, 'it should end');
        $calls = [self::call($cluster), self::call($cluster, 'second')];
        touch($go);
        self::assertSame(0, $process->wait(), $process->transcript());

        self::assertSame(['function' => '', 'file' => '', 'line' => 0], $calls[0], 'PHP calls by itself');
        self::assertSame('{closure}', $calls[1]['function'], 'Its own shutdown functions are code');
    }

    public function testItCanBeTurnedOff(): void
    {
        $cluster = Cluster::redis();
        $alice = $cluster->actor(['cluster_lock.report_call' => '0']);
        $file = $this->file("function compile() { \$_ = cluster_lock('job'); } // here\ncompile();");
        $alice->run('require $file;', file: $file);
        self::assertSame(['function' => '', 'file' => '', 'line' => 0], self::call($cluster), 'Nothing is told');
        $alice->call('cluster_unlock', 'job');
        $alice->call('ini_set', 'cluster_lock.report_call', '1');
        $alice->run('compile();');
        self::assertSame('compile', self::call($cluster)['function'], 'On again, in the same request');
        $alice->call('cluster_unlock', 'job');
        $alice->call('ini_set', 'cluster_lock.report_call', '0');
        $alice->run('compile();');

        self::assertSame(['function' => '', 'file' => '', 'line' => 0], self::call($cluster), 'and off');
    }

    public function testOfALongPathTheEndIsTold(): void
    {
        $cluster = Cluster::redis();
        $dir = $this->dir . str_repeat('/' . str_repeat('é', 120), 14);
        mkdir($dir, 0700, true);
        $long = str_repeat('f', 2000);
        file_put_contents("$dir/compiler.php", "<?php\nfunction $long() { \$_ = cluster_lock('job'); }\n$long();");
        $alice = $cluster->actor();
        $alice->run('require $file;', file: "$dir/compiler.php");
        $call = self::call($cluster);

        self::assertStringStartsWith('…', $call['file'], 'It is cut');
        self::assertStringEndsWith('é/compiler.php', $call['file'], 'at its beginning');
        self::assertSame(1, preg_match('//u', $call['file']), 'between two characters');
        self::assertStringNotContainsString("\u{fffd}", $call['file'], 'between two characters');
        self::assertLessThanOrEqual(515, strlen($call['file']), 'What waiters tell does not fill the server');
        self::assertSame(str_repeat('f', 256), $call['function']);
    }

    public function testALongNameIsCutBetweenTwoCharacters(): void
    {
        $cluster = Cluster::redis();
        foreach (['é', 'aé', '€', 'a€', 'aa€'] as $number => $letters) {
            $name = "f$number" . str_repeat($letters, 300);
            $cluster->observer()->run("function $name(\$lock) { \$_ = cluster_lock(\$lock); } $name('job$number');");
            $function = self::call($cluster, "job$number")['function'];

            self::assertStringStartsWith($function, $name, 'It is cut');
            self::assertGreaterThan(250, strlen($function), 'at its end');
        }
    }

    /** @dataProvider addresses */
    public function testOfAnAddressNoSecretIsTold(string $address, string $told): void
    {
        $cluster = Cluster::redis();
        $alice = $cluster->actor();
        $alice->run(<<<'PHP'
            class Vault
            {
                public $context;
                private string $code = '<?php $_ = cluster_lock("job");';
                function stream_open($path, $mode, $options, &$opened) { return true; }
                function stream_read($count) { [$code, $this->code] = [$this->code, '']; return $code; }
                function stream_eof() { return $this->code === ''; }
                function stream_stat() { return []; }
                function stream_set_option($option, $a, $b) { return false; }
                function stream_close() {}
            }
            stream_wrapper_unregister('data');
            stream_wrapper_register('data', 'Vault');
            stream_wrapper_register('x.vault+1', 'Vault');
            include $address;
            PHP, address: $address);

        self::assertSame(['function' => '', 'file' => $told, 'line' => 1], self::call($cluster));
    }

    /** @return array<string, array{string, string}> */
    public static function addresses(): array
    {
        return [
            'no secret' => ['x.vault+1://host/path.php', 'x.vault+1://host/path.php'],
            'user and password' => ['x.vault+1://user:secret@host/path.php', 'x.vault+1://host/path.php'],
            'not encoded' => ['x.vault+1://user:se@cr/et@host/path.php', 'x.vault+1://host/path.php'],
            'a question mark' => ['x.vault+1://user:sec?ret@host/path.php', 'x.vault+1://'],
            'a query' => ['x.vault+1://user@host/path.php?key=secret&to=a@b', 'x.vault+1://host/path.php'],
            'a path' => ['x.vault+1:///srv/a@b/path.php?key=secret', 'x.vault+1:///srv/a@b/path.php'],
            'data' => ['data:text/plain,<?php secret();', 'data:'],
            'data, encoded' => ['DATA://text/plain;base64,c2VjcmV0', 'data:'],
        ];
    }

    public function testNoPathForgesALine(): void
    {
        $cluster = Cluster::redis();
        $log = "{$this->dir}/php_errors";
        mkdir($dir = "{$this->dir}/d\n[error] \x1b[2J\xff");
        file_put_contents("$dir/x.php", "<?php\nfunction f\xff() { \$_ = cluster_lock('job'); }\nf\xff();");
        $alice = $cluster->actor();
        $bob = $cluster->actor(['cluster_lock.slow_wait' => '0.05', 'log_errors' => 1, 'error_log' => $log]);
        $alice->run('require $file;', file: "$dir/x.php");
        self::assertFalse($bob->call('cluster_lock', 'job', 0.1), 'Alice has it');

        self::assertStringContainsString("f\u{fffd}() at {$this->dir}/d\\n[error] \\u{1b}[2J\u{fffd}/x.php:2", self::onlyLine($log));
    }

    /** Code in a file, behind a first line. */
    private function file(string $code, string $name = 'code.php'): string
    {
        file_put_contents("{$this->dir}/$name", "<?php\n$code");

        return "{$this->dir}/$name";
    }

    private static function line(string $code): int
    {
        $lines = explode("\n", $code);
        foreach ($lines as $number => $line) {
            if (str_contains($line, 'here')) {
                return $number + 2;
            }
        }

        return 0;
    }

    private static function onlyLine(string $log): string
    {
        Until::true(static fn () => is_file($log), 'there should be a line in the log');
        $lines = file($log, FILE_IGNORE_NEW_LINES);
        self::assertCount(1, $lines, 'One line for one wait');

        return $lines[0];
    }

    private static function assertCall(
        Cluster $cluster,
        string $group,
        string $function,
        string $file,
        int $line,
        string $name = 'job'
    ): void {
        $call = self::call($cluster, $name, $group);
        self::assertSame($function, $call['function'], 'function');
        self::assertSame($file, $call['file'], 'file');
        self::assertSame($line, $call['line'], 'line');
    }

    /** @return array{function: string, file: string, line: int} */
    private static function call(Cluster $cluster, string $name = 'job', string $group = 'holders'): array
    {
        return self::callOf($cluster->info($name)[$group][0] ?? []);
    }

    /**
     * @param array<string, mixed> $who
     *
     * @return array<string, mixed>
     */
    private static function callOf(array $who): array
    {
        return array_intersect_key($who, ['function' => 0, 'file' => 0, 'line' => 0]);
    }
}
