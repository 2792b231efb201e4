<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Intercept;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FlockTestCase;
use ClusterLock\Tests\Support\Fpm;

/**
 * A stream is closed whose lock was lost: what the warning's handler finds, and when there is one no more.
 */
final class ClosingTest extends FlockTestCase
{
    /** Locks the file by a stream that the end of the request closes, after the extensions' own, and loses the lock. */
    private const CLOSED_LATE = <<<'PHP'
        $h = fopen($file, 'c+');
        flock($h, LOCK_EX);
        cluster_lock_break("file:$file");
        register_shutdown_function(static function () use ($h): void {});
        unset($h);
        PHP;

    /** @return iterable<string, array{string, string}> */
    public static function uses(): iterable
    {
        $uses = [
            'writes' => '$o->fwrite("x")',
            'reads' => '$o->fgets()',
            'reads to its end' => '[$o->eof(), $o->current(), $o->fgetc(), $o->fread(9), $o->valid()]',
            'seeks' => '[$o->fseek(3), $o->ftell(), $o->rewind()]',
            'truncates' => '$o->ftruncate(0)',
            'asks' => '$o->fstat()',
            'flushes' => '$o->fflush()',
            'locks' => '$o->flock(LOCK_EX)',
            'unlocks' => '$o->flock(LOCK_UN)',
        ];
        foreach (array_keys(self::modes()) as $mode) {
            foreach ($uses as $name => $use) {
                yield "$name, $mode" => [$mode, $use];
            }
        }
    }

    /** @dataProvider uses */
    public function testTheHandlerMayUseTheObjectThatIsBeingDestroyed(string $mode, string $use): void
    {
        $process = Cluster::redis()->process(
            '$file = ' . var_export($this->file, true) . '; $object = new SplFileObject($file, "c+");'
            . '$known = WeakReference::create($object);'
            . 'set_error_handler(static function (int $level, string $message) use ($known) {'
            . ' static $within = false; if ($within) { return true; } $within = true;'
            . ' say(str_contains($message, "was lost") ? "told" : $message);'
            . " \$o = \$known->get(); try { \$o && $use; } catch (Throwable \$e) { } \$within = false; return true; });"
            . '$object->flock(LOCK_EX); cluster_lock_break("file:$file"); $object = null;'
            . 'say("goes on"); $other = fopen($file, "r"); say(flock($other, LOCK_SH | LOCK_NB)); say(fgets($other));',
            ['cluster_lock.intercept' => $this->dir, 'cluster_lock.flock_mode' => $mode]
        );
        $code = $process->wait();
        if (PHP_DEBUG && str_contains($process->errors(), 'SplFileObject::fstat(): Return value must be of type array')) {
            self::markTestSkipped('This PHP checks what its own fstat() returns, which is false for a stream without a status');
        }
        self::assertSame(0, $code, $process->transcript());
        self::assertSame("told\ngoes on\ntrue\ncontent\n", $process->output());
    }

    /** PHP calls no handler then, and counts the warning as handled. */
    public function testWhileAnExceptionIsOnItsWayTheLogIsTold(): void
    {
        foreach (['1', '0'] as $wanted) {
            $log = "{$this->dir}/errors-$wanted.log";
            $process = Cluster::redis()->process(
                '$file = ' . var_export($this->file, true) . ';' . <<<'PHP'
                function write(string $file): never
                {
                    $h = fopen($file, 'c+');
                    flock($h, LOCK_EX);
                    cluster_lock_break("file:$file");
                    throw new Exception('on its way');
                }
                set_error_handler(static fn () => say('a handler'));
                try {
                    write($file);
                } catch (Exception $e) {
                    say($e->getMessage());
                }
                PHP,
                ['cluster_lock.intercept' => $this->dir, 'error_log' => $log, 'log_errors' => $wanted]
            );
            self::assertSame(0, $process->wait(), $process->transcript());
            self::assertSame("on its way\n", $process->output());
            self::assertSame(
                (int) $wanted,
                substr_count((string) @file_get_contents($log), "\"{$this->name}\": was lost"),
                "log_errors = $wanted"
            );
        }
    }

    public function testAfterTheEndOfTheRequestOnlyTheLogIsTold(): void
    {
        foreach (['1', '0'] as $wanted) {
            $log = "{$this->dir}/errors-$wanted.log";
            $process = Cluster::redis()->process(
                '$file = ' . var_export($this->file, true) . '; set_error_handler(static fn () => say("a handler"));'
                . self::CLOSED_LATE . 'say("ends");',
                ['cluster_lock.intercept' => $this->dir, 'error_log' => $log, 'log_errors' => $wanted]
            );
            self::assertSame(0, $process->wait(), $process->transcript());
            self::assertSame("ends\n", $process->output());
            self::assertSame(
                (int) $wanted,
                substr_count((string) @file_get_contents($log), "\"{$this->name}\": was lost"),
                "log_errors = $wanted"
            );
        }
    }

    public function testNothingOfOneRequestReachesTheNext(): void
    {
        $cluster = Cluster::redis();
        $fpm = new Fpm($cluster->settings(['cluster_lock.intercept' => $this->dir]));
        $first = $fpm->get(
            'set_error_handler(static function () { putenv("LEFT=behind"); return true; });'
            . '$file = ' . var_export($this->file, true) . ';' . self::CLOSED_LATE . 'echo getmypid();'
        );
        $second = $fpm->get('echo json_encode([getmypid(), getenv("LEFT")]);');

        self::assertSame([(int) $first, false], json_decode($second, true));
    }
}
