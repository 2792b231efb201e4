<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Tests;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\TestCase;

/**
 * Functions that are written in PHP are called as PHP's own are: from a class, and between two calls that have a memory.
 */
final class CallersStateTest extends TestCase
{
    public function testPrivateMethodsOfTheCallerAreCallables(): void
    {
        $results = Sides::polyfill(Cluster::local(), 'phpredis')->run(<<<'PHP'
            abstract class Base
            {
                private function own(): string { return 'own'; }
                protected function inherited(): string { return 'inherited'; }
                public function ofBase(): string { return cluster_synchronized('job', [$this, 'own']); }
            }
            final class Caller extends Base
            {
                private function hidden(): string { return 'hidden'; }
                private static function fixed(): string { return 'fixed'; }
                public function all(): array
                {
                    return [
                        cluster_synchronized('job', [$this, 'hidden']),
                        cluster_synchronized('job', [self::class, 'fixed']),
                        cluster_synchronized('job', 'Caller::fixed'),
                        cluster_synchronized('job', [$this, 'inherited']),
                        (fn () => cluster_synchronized('job', [$this, 'hidden']))(),
                        $this->ofBase(),
                    ];
                }
            }
            $results = (new Caller())->all();
            try {
                cluster_synchronized('job', [new Caller(), 'hidden']);
            } catch (TypeError $e) {
                $results[] = $e->getMessage();
            }
            return $results;
            PHP);

        self::assertSame([
            'hidden',
            'fixed',
            'fixed',
            'inherited',
            'hidden',
            'own',
            'cluster_synchronized(): Argument #2 ($callback) must be a valid callback, cannot access private method '
                . 'Caller::hidden()',
        ], $results);
    }

    public function testWhatPhpRemembersForTheCallerStays(): void
    {
        foreach (Cluster::backends() as $backend => [$cluster]) {
            $cluster->observer()->call('cluster_lock', 'busy', 0);
            $process = Sides::process('phpredis', <<<'PHP'
                $_SERVER['REQUEST_URI'] = '/page?query';
                $word = strtok('one two three', ' ');
                json_decode('{');
                @trigger_error('mine');
                cluster_lock('job', 0);
                cluster_lock('busy', 0);
                cluster_lock_info('busy');
                cluster_unlock('job');
                say(strtok(' '));
                say(json_last_error() === JSON_ERROR_SYNTAX);
                say(error_get_last()['message']);
                PHP, $cluster->settings());

            self::assertSame(0, $process->wait(), $process->transcript());
            self::assertSame("two\ntrue\nmine\n", $process->output(), "$backend: " . $process->transcript());
        }
    }
}
