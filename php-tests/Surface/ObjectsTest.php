<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Surface;

use ClusterLock\Tests\Support\Actor;
use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TestCase;

/**
 * What kind of objects ClusterLock and the exceptions are.
 */
final class ObjectsTest extends TestCase
{
    private function actor(): Actor
    {
        $actor = Cluster::redis()->actor();
        $actor->run('$GLOBALS["lock"] = new ClusterLock("job"); return true;');

        return $actor;
    }

    public function testItCannotBeCloned(): void
    {
        $thrown = $this->actor()->tryRun('clone $GLOBALS["lock"];')->thrown('Error');

        self::assertSame(
            'Trying to clone an uncloneable object of class ClusterLock',
            $thrown->message,
            "PHP's own message"
        );
    }

    public function testItCannotBeSerialized(): void
    {
        $actor = $this->actor();
        $thrown = $actor->tryRun('serialize($GLOBALS["lock"]);')->thrown('Exception');

        self::assertSame("Serialization of 'ClusterLock' is not allowed", $thrown->message, "PHP's own message");
        $outcome = $actor->tryRun('return unserialize(\'O:11:"ClusterLock":1:{s:4:"name";s:1:"x";}\');');
        self::assertTrue($outcome->thrown !== null || $outcome->value === false, 'Nor can it be unserialized');
    }

    public function testItsNameIsReadonly(): void
    {
        $actor = $this->actor();
        foreach (['$GLOBALS["lock"]->name = "other";', 'unset($GLOBALS["lock"]->name);', '$n = &$GLOBALS["lock"]->name;'] as $code) {
            $thrown = $actor->tryRun($code)->thrown('Error');
            self::assertMatchesRegularExpression('/readonly property ClusterLock::\$name/', $thrown->message, $code);
        }
        self::assertSame('job', $actor->run('return $GLOBALS["lock"]->name;'), 'The name stays');
    }

    public function testItHasNoDynamicProperties(): void
    {
        $outcome = $this->actor()->tryRun('$GLOBALS["lock"]->other = 1;');

        self::assertNotNull($outcome->thrown, 'A property that it does not have cannot be set');
        self::assertSame(
            'Cannot create dynamic property ClusterLock::$other',
            $outcome->thrown->message,
            "PHP's own message"
        );
    }

    public function testItCannotBeExtended(): void
    {
        $process = PhpProcess::code('class Mine extends ClusterLock {}');

        self::assertSame(255, $process->wait(), 'Extending a final class is fatal');
        self::assertMatchesRegularExpression(
            '/final class.*ClusterLock|ClusterLock.*final class/',
            $process->errors(),
            'and the message says so'
        );
    }

    public function testTheConstructorCannotRenameIt(): void
    {
        $actor = $this->actor();
        $outcome = $actor->tryRun('$GLOBALS["lock"]->acquire(0); $GLOBALS["lock"]->__construct("other");');

        self::assertNotNull($outcome->thrown, 'A second constructor call should be refused');
        self::assertSame('job', $actor->run('return $GLOBALS["lock"]->name;'), 'The name stays');
        self::assertTrue($actor->run('return $GLOBALS["lock"]->isHeld();'), 'and so does the lock');
    }

    public function testItCannotBeMadeWithoutItsConstructor(): void
    {
        $outcome = $this->actor()->tryRun('(new ReflectionClass("ClusterLock"))->newInstanceWithoutConstructor();');

        self::assertStringContainsString(
            'without invoking its constructor',
            $outcome->thrown('ReflectionException')->message,
            "PHP's own message"
        );
    }

    public function testItCanBeDumpedComparedAndConvertedLikeAnyObject(): void
    {
        $result = $this->actor()->run(<<<'PHP'
            $lock = $GLOBALS['lock'];
            $other = new ClusterLock('job');
            ob_start();
            var_dump($lock);
            print_r($lock);
            return [get_object_vars($lock), (array) $lock, json_encode($lock), $lock == $lock, $lock === $other, ob_get_clean()];
            PHP);

        self::assertSame(
            [['name' => 'job'], ['name' => 'job'], '{"name":"job"}', true, false],
            array_slice($result, 0, 5),
            'Only its name is to be seen'
        );
        self::assertStringContainsString('"job"', $result[5], 'var_dump() shows the name');
    }

    public function testACycleIsCollectedAndReleased(): void
    {
        $cluster = Cluster::redis();
        $alice = $cluster->actor();
        $alice->run(<<<'PHP'
            $holder = new stdClass();
            $holder->lock = new ClusterLock('job');
            $holder->self = $holder;
            return $holder->lock->acquire(0);
            PHP);
        $cluster->assertHeld('job', 'The cycle is not collected yet');
        $alice->call('gc_collect_cycles');
        $cluster->assertFree('job', 'The garbage collector has destroyed it');
    }

    /** @return array<string, array{string}> */
    public static function exceptions(): array
    {
        return [
            'base' => ['ClusterLockException'],
            'time-out' => ['ClusterLockTimeoutException'],
            'lost' => ['ClusterLockLostException'],
            'connection' => ['ClusterLockConnectionException'],
        ];
    }

    /** @dataProvider exceptions */
    public function testAnExceptionCanBeMadeAndThrownByPhpCode(string $class): void
    {
        [$e, $line] = Cluster::redis()->actor()->run(<<<PHP
            \$previous = new LogicException('cause');
            \$e = new $class('mine', 7, \$previous);
            try {
                throw \$e;
            } catch (ClusterLockException \$caught) {
                return [[\$caught->getMessage(), \$caught->getCode(), \$caught->getPrevious()->getMessage(), \$caught instanceof RuntimeException,
                    count(\$caught->getTrace()) > 0, str_contains(\$caught->getTraceAsString(), '#0')], \$caught->getLine()];
            }
            PHP);

        self::assertSame(['mine', 7, 'cause', true, true, true], $e, 'Message, code, previous, class, trace');
        self::assertSame(2, $line, 'The line where it was made');
    }

    public function testAThrownExceptionCarriesLineFileAndTrace(): void
    {
        $cluster = Cluster::redis();
        $cluster->observer()->call('cluster_lock', 'job');
        $thrown = $cluster->actor()->tryRun(<<<'PHP'
            $inner = static function () {
                return cluster_synchronized('job', static fn () => 1, 0);
            };
            $inner();
            PHP)->thrown('ClusterLockTimeoutException');

        self::assertSame(2, $thrown->line, 'The line of the call');
        self::assertStringContainsString("eval()'d code", $thrown->file, 'The file of the call');
        self::assertMatchesRegularExpression(
            '/cluster_synchronized\(.*\n.*\{closure[:}]/s',
            $thrown->trace,
            'The trace of the call'
        );
    }

    public function testTheBaseExceptionCanBeExtendedTheOthersNot(): void
    {
        $base = PhpProcess::code('class Mine extends ClusterLockException {} say((new Mine("x"))->getMessage());');
        $base->expect('x');
        $final = PhpProcess::code('class Mine extends ClusterLockLostException {}');

        self::assertSame(255, $final->wait(), 'Extending a final class is fatal');
    }
}
