<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Surface;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Outcome;
use ClusterLock\Tests\Support\TestCase;

/**
 * Bad arguments throw PHP's own errors, which name the function and the argument; nothing connects.
 */
final class ArgumentErrorsTest extends TestCase
{
    /** @return array<string, array{string, string, string}> code, class, start of the message */
    public static function mistakes(): array
    {
        $long = 'str_repeat("x", 1025)';
        $named = [];
        foreach (['cluster_lock', 'cluster_unlock', 'cluster_lock_fence', 'cluster_lock_info', 'cluster_lock_break'] as $function) {
            $named["$function: empty name"] = [
                "$function('');",
                'ValueError',
                "$function(): Argument #1 (\$name) must",
            ];
            $named["$function: long name"] = [
                "$function($long);",
                'ValueError',
                "$function(): Argument #1 (\$name) must",
            ];
            $named["$function: no name"] = ["$function();", 'ArgumentCountError', "$function() expects "];
            $named["$function: array"] = [
                "$function([]);",
                'TypeError',
                "$function(): Argument #1 (\$name) must be of type string, array given",
            ];
            $named["$function: object"] = [
                "$function(new stdClass());",
                'TypeError',
                "$function(): Argument #1 (\$name) must be of type string, stdClass given",
            ];
            $named["$function: unknown named argument"] = [
                "$function(nam: 'x');",
                'Error',
                'Unknown named parameter $nam',
            ];
        }

        return $named + [
            'too many' => [
                'cluster_lock("x", 0, LOCK_EX, 1, 2);',
                'ArgumentCountError',
                'cluster_lock() expects at most 4 arguments, 5 given',
            ],
            'too few' => [
                'cluster_lock();',
                'ArgumentCountError',
                'cluster_lock() expects at least 1 argument, 0 given',
            ],
            'unlock too many' => [
                'cluster_unlock("x", 1);',
                'ArgumentCountError',
                'cluster_unlock() expects exactly 1 argument, 2 given',
            ],
            'status with an argument' => [
                'cluster_lock_status(1);',
                'ArgumentCountError',
                'cluster_lock_status() expects exactly 0 arguments, 1 given',
            ],
            'break too many' => [
                'cluster_lock_break("x", 1, 2);',
                'ArgumentCountError',
                'cluster_lock_break() expects at most 2 arguments, 3 given',
            ],
            'fence 0' => [
                'cluster_lock_break("x", 0);',
                'ValueError',
                'cluster_lock_break(): Argument #2 ($fence) must',
            ],
            'negative fence' => [
                'cluster_lock_break("x", -1);',
                'ValueError',
                'cluster_lock_break(): Argument #2 ($fence) must',
            ],
            'fence text' => [
                'cluster_lock_break("x", "newest");',
                'TypeError',
                'cluster_lock_break(): Argument #2 ($fence) must be of type ?int, string given',
            ],
            'negative time-out' => [
                'cluster_lock("x", -1);',
                'ValueError',
                'cluster_lock(): Argument #2 ($timeout) must',
            ],
            'barely negative time-out' => [
                'cluster_lock("x", -0.001);',
                'ValueError',
                'cluster_lock(): Argument #2 ($timeout) must',
            ],
            'time-out -INF' => [
                'cluster_lock("x", -INF);',
                'ValueError',
                'cluster_lock(): Argument #2 ($timeout) must',
            ],
            'time-out NAN' => ['cluster_lock("x", NAN);', 'ValueError', 'cluster_lock(): Argument #2 ($timeout) must'],
            'time-out text' => [
                'cluster_lock("x", "soon");',
                'TypeError',
                'cluster_lock(): Argument #2 ($timeout) must be of type ?float, string given',
            ],
            'time-out array' => [
                'cluster_lock("x", []);',
                'TypeError',
                'cluster_lock(): Argument #2 ($timeout) must be of type ?float, array given',
            ],
            'mode 0' => ['cluster_lock("x", 0, 0);', 'ValueError', 'cluster_lock(): Argument #3 ($mode) must'],
            'mode LOCK_UN' => [
                'cluster_lock("x", 0, LOCK_UN);',
                'ValueError',
                'cluster_lock(): Argument #3 ($mode) must',
            ],
            'mode only LOCK_NB' => [
                'cluster_lock("x", 0, LOCK_NB);',
                'ValueError',
                'cluster_lock(): Argument #3 ($mode) must',
            ],
            'mode -1' => ['cluster_lock("x", 0, -1);', 'ValueError', 'cluster_lock(): Argument #3 ($mode) must'],
            'mode 8' => [
                'cluster_lock("x", 0, 8 | LOCK_EX);',
                'ValueError',
                'cluster_lock(): Argument #3 ($mode) must',
            ],
            'mode null' => [
                'declare(strict_types=1); cluster_lock("x", 0, null);',
                'TypeError',
                'cluster_lock(): Argument #3 ($mode) must be of type int, null given',
            ],
            'ttl 0' => ['cluster_lock("x", 0, LOCK_EX, 0);', 'ValueError', 'cluster_lock(): Argument #4 ($ttl) must'],
            'ttl too short' => [
                'cluster_lock("x", 0, LOCK_EX, 0.0999);',
                'ValueError',
                'cluster_lock(): Argument #4 ($ttl) must',
            ],
            'ttl negative' => [
                'cluster_lock("x", 0, LOCK_EX, -5);',
                'ValueError',
                'cluster_lock(): Argument #4 ($ttl) must',
            ],
            'ttl NAN' => [
                'cluster_lock("x", 0, LOCK_EX, NAN);',
                'ValueError',
                'cluster_lock(): Argument #4 ($ttl) must',
            ],
            'synchronized: empty name' => [
                'cluster_synchronized("", "pi");',
                'ValueError',
                'cluster_synchronized(): Argument #1 ($name) must',
            ],
            'synchronized: not callable' => [
                'cluster_synchronized("x", "no such function");',
                'TypeError',
                'cluster_synchronized(): Argument #2 ($callback) must be a valid callback, function "no such function" not found',
            ],
            'synchronized: time-out' => [
                'cluster_synchronized("x", "pi", -1);',
                'ValueError',
                'cluster_synchronized(): Argument #3 ($timeout) must',
            ],
            'synchronized: ttl' => [
                'cluster_synchronized("x", "pi", 1, 0);',
                'ValueError',
                'cluster_synchronized(): Argument #4 ($ttl) must',
            ],
            'list: limit 0' => [
                'cluster_lock_list("", 0);',
                'ValueError',
                'cluster_lock_list(): Argument #2 ($limit) must',
            ],
            'list: limit -1' => [
                'cluster_lock_list("", -1);',
                'ValueError',
                'cluster_lock_list(): Argument #2 ($limit) must',
            ],
            'list: prefix' => [
                'cluster_lock_list([]);',
                'TypeError',
                'cluster_lock_list(): Argument #1 ($prefix) must be of type string, array given',
            ],
            'write: NUL' => [
                'cluster_file_put_contents("/tmp/a\0b", "");',
                'ValueError',
                'cluster_file_put_contents(): Argument #1 ($filename) must not contain any null bytes',
            ],
            'write: name' => [
                'cluster_file_put_contents([], "");',
                'TypeError',
                'cluster_file_put_contents(): Argument #1 ($filename) must be ',
            ],
            'write: lock name' => [
                'cluster_file_put_contents("/tmp/x", "", 0, "");',
                'ValueError',
                'cluster_file_put_contents(): Argument #4 ($lock) must',
            ],
            'write: flags' => [
                'cluster_file_put_contents("/tmp/x", "", "all");',
                'TypeError',
                'cluster_file_put_contents(): Argument #3 ($flags) must be of type int, string given',
            ],
            'new: empty name' => [
                'new ClusterLock("");',
                'ValueError',
                'ClusterLock::__construct(): Argument #1 ($name) must',
            ],
            'new: long name' => [
                "new ClusterLock($long);",
                'ValueError',
                'ClusterLock::__construct(): Argument #1 ($name) must',
            ],
            'new: no name' => [
                'new ClusterLock();',
                'ArgumentCountError',
                'ClusterLock::__construct() expects at least 1 argument, 0 given',
            ],
            'new: mode' => [
                'new ClusterLock("x", 0);',
                'ValueError',
                'ClusterLock::__construct(): Argument #2 ($mode) must',
            ],
            'new: LOCK_UN' => [
                'new ClusterLock("x", LOCK_UN);',
                'ValueError',
                'ClusterLock::__construct(): Argument #2 ($mode) must',
            ],
            'new: ttl' => [
                'new ClusterLock("x", LOCK_EX, 0.05);',
                'ValueError',
                'ClusterLock::__construct(): Argument #3 ($ttl) must',
            ],
            'acquire: time-out' => [
                '(new ClusterLock("x"))->acquire(-1);',
                'ValueError',
                'ClusterLock::acquire(): Argument #1 ($timeout) must',
            ],
            'acquire: NAN' => [
                '(new ClusterLock("x"))->acquire(NAN);',
                'ValueError',
                'ClusterLock::acquire(): Argument #1 ($timeout) must',
            ],
            'acquire: text' => [
                '(new ClusterLock("x"))->acquire("soon");',
                'TypeError',
                'ClusterLock::acquire(): Argument #1 ($timeout) must be of type ?float, string given',
            ],
            'refresh: ttl' => [
                '(new ClusterLock("x"))->refresh(0.01);',
                'ValueError',
                'ClusterLock::refresh(): Argument #1 ($ttl) must',
            ],
            'release: too many' => [
                '(new ClusterLock("x"))->release(1);',
                'ArgumentCountError',
                'ClusterLock::release() expects exactly 0 arguments, 1 given',
            ],
        ];
    }

    /** @dataProvider mistakes */
    public function testAMistakeIsNamed(string $code, string $class, string $message): void
    {
        // Nobody listens there: an argument has to be refused before anything is connected.
        // Of a result that is not used PHP 8.5 warns first.
        $code = preg_replace('/\bcluster_lock\(/', '\$result = cluster_lock(', $code);
        $outcome = Cluster::at('redis://127.0.0.1:1')->actor()->tryRun($code);

        self::assertStringStartsWith($message, $outcome->thrown($class)->message, "The message of $class");
        self::assertSame([], $outcome->warnings, 'An exception comes without a warning');
    }

    public function testLimitsAreInclusive(): void
    {
        $actor = Cluster::redis()->actor();

        self::assertTrue($actor->call('cluster_lock', str_repeat('x', 1024)), '1024 bytes are allowed');
        self::assertTrue($actor->call('cluster_lock', 'a', 0.0), 'A time-out of 0 is allowed');
        self::assertTrue($actor->call('cluster_lock', 'b', -0.0), 'and so is minus zero');
        self::assertTrue($actor->call('cluster_lock', 'c', INF), 'and so is INF');
        self::assertTrue($actor->call('cluster_lock', 'd', 0, LOCK_EX, 0.1), 'A ttl of 0.1 is allowed');
        self::assertTrue($actor->call('cluster_lock', 'e', 0, LOCK_EX, 86400 * 365), 'and so is a year');
    }

    public function testARidiculousLeaseDoesNotOverflow(): void
    {
        $actor = Cluster::redis()->actor();
        foreach ([1e18, 1e300, INF] as $i => $ttl) {
            $outcome = $actor->try('cluster_lock', "job $i", 0, LOCK_EX, $ttl);
            // Refused or granted: either is sane; a lease that is over at once is not.
            if ($outcome->thrown !== null) {
                self::assertSame('ValueError', $outcome->thrown->class, $outcome->thrown->full);
            } else {
                self::assertTrue($outcome->value(), "A ttl of $ttl should work or be refused");
                self::assertTrue($actor->call('cluster_unlock', "job $i"), "A ttl of $ttl should last");
            }
        }
    }

    public function testTheMessagesSayWhatIsAllowed(): void
    {
        $actor = Cluster::at('redis://127.0.0.1:1')->actor();
        $message = static fn (Outcome $outcome): string => $outcome->thrown('ValueError')->message;

        self::assertMatchesRegularExpression(
            '/1024/',
            $message($actor->try('cluster_lock', str_repeat('x', 2000))),
            'The longest name'
        );
        self::assertMatchesRegularExpression(
            '/LOCK_EX.*LOCK_SH|LOCK_SH.*LOCK_EX/',
            $message($actor->try('cluster_lock', 'x', 0, 0)),
            'The modes'
        );
        self::assertMatchesRegularExpression(
            '/0\.1/',
            $message($actor->try('cluster_lock', 'x', 0, LOCK_EX, 0.01)),
            'The shortest lease'
        );
        self::assertMatchesRegularExpression(
            '/greater than or equal to 0|negative/',
            $message($actor->try('cluster_lock', 'x', -1)),
            'The time-outs'
        );
    }
}
