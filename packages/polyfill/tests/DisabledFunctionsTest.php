<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;
use FilesystemIterator;
use RecursiveDirectoryIterator;
use RecursiveIteratorIterator;
use ReflectionFunction;

/**
 * Hosts take functions of PHP away (disable_functions): what is left works, or warns and is false. A page never dies of
 * it.
 */
final class DisabledFunctionsTest extends TestCase
{
    private const PACKAGE = __DIR__ . '/..';

    /** One call after the other, of which each says in one letter whether it has worked. */
    private const CALLS = <<<'PHP'
        const CLUSTER_LOCK_DSN = '%2$s';
        require '%1$s/bootstrap.php';
        echo cluster_lock('job', 0) ? 'T' : 'F';
        echo cluster_unlock('job') ? 'T' : 'F';
        echo cluster_file_put_contents('%3$s', 'content') === 7 ? 'T' : 'F';
        echo cluster_file_put_contents('%3$s', 'content', LOCK_EX) === 7 ? 'T' : 'F';
        try {
            $stream = fopen('%3$s', 'r+');
        } catch (Error) {
            $stream = STDIN;
        }
        echo cluster_flock($stream, LOCK_EX) ? 'T' : 'F';
        echo cluster_flock($stream, LOCK_UN) ? 'T' : 'F';
        echo cluster_file_build('%3$s', static fn () => 'content', [__DIR__]) ? 'T' : 'F';
        try {
            $object = new ClusterLock('job');
            echo $object->acquire(0) ? 'T' : 'F';
        } catch (ClusterLockException) {
            echo 'F';
        }
        unset($object);
        cluster_clearstatcache('%3$s');
        echo cluster_lock_info('job') === null && cluster_lock_list() === [] ? 'T' : 'F';
        cluster_lock_servers();
        echo cluster_lock_status()['held'] === [] ? 'T' : 'F';
        PHP;

    /** @return array<string, array{string}> all functions of PHP that this package calls */
    public static function functions(): array
    {
        $names = [];
        foreach (self::sources() as $source) {
            $tokens = array_values(array_filter(
                token_get_all($source),
                static fn ($token): bool => !in_array($token[0], [T_WHITESPACE, T_COMMENT, T_DOC_COMMENT], true)
            ));
            $members = [T_OBJECT_OPERATOR, T_NULLSAFE_OBJECT_OPERATOR, T_DOUBLE_COLON, T_FUNCTION, T_NEW];
            foreach ($tokens as $i => $token) {
                $isName = in_array($token[0], [T_STRING, T_NAME_FULLY_QUALIFIED], true);
                $isCall = $isName && $tokens[$i + 1] === '(' && !in_array($tokens[$i - 1][0], $members, true);
                $name = $isCall ? strtolower(ltrim($token[1], '\\')) : '';
                if ($isCall && function_exists($name) && (new ReflectionFunction($name))->isInternal()) {
                    $names[$name] = [$name];
                }
            }
        }
        ksort($names);

        return $names;
    }

    /** @dataProvider functions */
    public function testAPageDoesNotDieOfIt(string $function): void
    {
        $directory = TempDir::forTest();
        $file = "$directory/file";
        file_put_contents($file, 'content');
        $process = self::calls($function, "local://$directory/locks", $file);
        self::assertSame(0, $process->wait(), $process->transcript());
        $worked = $process->output();

        self::assertMatchesRegularExpression('/^[TF]{10}$/', $worked, $process->transcript());
        self::assertDoesNotMatchRegularExpression('/Uncaught|Fatal|Deprecated/', $process->errors());
        if ($worked !== 'TTTTTTTTTT' && $function !== 'trigger_error') {
            self::assertStringContainsString("$function()", $process->errors(), 'What does not work says why');
        }
        self::assertContains(substr($worked, 0, 2), ['TT', 'FF'], 'What is taken is given back');
    }

    public function testThoseThatHostsDisableCanBeDoneWithout(): void
    {
        $cluster = Cluster::redis();
        $disabled = 'chgrp,chown,error_log,get_cfg_var,gethostname,getmypid,opendir,php_uname,readlink,realpath,scandir,'
            . 'posix_geteuid,posix_getpid,posix_mkfifo,pcntl_fork,pcntl_async_signals,gc_disable';
        $dsn = (string) $cluster->settings()['cluster_lock.dsn'];
        foreach (['local://' . TempDir::forTest(), $dsn] as $where) {
            $file = TempDir::forTest() . '/file';
            touch($file);
            $process = self::calls($disabled, $where, $file, ['igbinary', 'redis']);

            self::assertSame(0, $process->wait(), $process->transcript());
            self::assertSame('TTTTTTTTTT', $process->output(), $process->transcript());
            self::assertSame('', $process->errors());
        }
    }

    public function testADsnThatCannotBeSeenIsNotReplacedByLocksOfThisHost(): void
    {
        foreach (['getenv', 'get_cfg_var'] as $function) {
            $process = PhpProcess::program([
                PHP_BINARY, '-n', '-d', "disable_functions=$function", '-d', 'display_errors=stderr', '-r',
                sprintf("require '%s/bootstrap.php'; echo cluster_lock('job', 0) ? 'T' : 'F';", self::PACKAGE),
            ]);
            $process->wait();

            self::assertSame('F', $process->output());
            self::assertStringContainsString("$function() is disabled", $process->errors());
        }
    }

    public function testASlowWaitIsNoTroubleWhereNobodyCanBeTold(): void
    {
        $cluster = Cluster::local();
        $waiter = Sides::polyfill($cluster, 'phpredis', [
            'disable_functions' => 'error_log',
            'cluster_lock.slow_wait' => '0.001',
            'cluster_lock.ttl' => '600',
        ]);
        $holder = $cluster->observer();
        $holder->call('cluster_lock', 'job');
        $waiter->begin('cluster_lock', 'job', 30);
        $cluster->awaitWaiters('job', 1);
        $holder->call('cluster_unlock', 'job');

        self::assertTrue($waiter->end(), 'It has waited');
        self::assertTrue($waiter->call('cluster_unlock', 'job'), 'and has what it waited for');
        $cluster->assertFree('job', 'It was given back');
    }

    /** @param list<string> $more extensions */
    private static function calls(string $disabled, string $dsn, string $file, array $more = []): PhpProcess
    {
        $options = ['-n', '-d', "disable_functions=$disabled", '-d', 'display_errors=stderr', '-d', 'html_errors=0'];
        foreach (['posix', ...$more] as $extension) {
            if (is_file(ini_get('extension_dir') . "/$extension.so")) {
                array_push($options, '-d', "extension=$extension");
            }
        }

        return PhpProcess::program([
            PHP_BINARY, ...$options, '-r', sprintf(self::CALLS, self::PACKAGE, $dsn, $file),
        ]);
    }

    /** @return iterable<string> */
    private static function sources(): iterable
    {
        foreach (['src', 'global'] as $folder) {
            $files = new RecursiveDirectoryIterator(self::PACKAGE . "/$folder", FilesystemIterator::SKIP_DOTS);
            foreach (new RecursiveIteratorIterator($files) as $file) {
                yield (string) file_get_contents($file->getPathname());
            }
        }
        yield (string) file_get_contents(self::PACKAGE . '/bootstrap.php');
    }
}
