<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TestCase;

/**
 * wp cluster-lock, with a real server and the real extension. WP-CLI itself is a stand-in: see fixtures/wp-cli.php.
 */
final class CommandTest extends TestCase
{
    private RedisServer $redis;

    protected function setUp(): void
    {
        $this->redis = RedisServer::own([], 's3cret');
    }

    public function testStatusNamesTheServerAndNoPassword(): void
    {
        $process = $this->wp(['status', '--format=json']);
        self::assertSame(0, $process->wait(), $process->transcript());
        $fields = array_column(json_decode($process->output(), true, 8, JSON_THROW_ON_ERROR), 'value', 'field');
        self::assertSame('redis', $fields['backend']);
        self::assertSame('tester', $fields['node']);
        self::assertStringContainsString($this->redis->address(), $fields['server']);
        self::assertStringNotContainsString('s3cret', $process->transcript());
    }

    public function testStatusFailsWithoutAServer(): void
    {
        $this->redis->kill();
        $process = $this->wp(['status']);
        self::assertSame(1, $process->wait());
        self::assertStringContainsString('Connection refused', $process->errors());
        self::assertStringNotContainsString('s3cret', $process->transcript());
    }

    public function testListAndInfo(): void
    {
        $this->holder('theme-css');
        $this->holder("b\0\xff");
        $process = $this->wp(['list', '--format=json']);
        self::assertSame(0, $process->wait(), $process->transcript());
        $locks = json_decode($process->output(), true, 8, JSON_THROW_ON_ERROR);
        self::assertEqualsCanonicalizing(['base64:YgD/', 'theme-css'], array_column($locks, 'lock'));
        self::assertSame(['holder', 'holder'], array_column($locks, 'node'));
        self::assertMatchesRegularExpression('/^\S.*:\d+$/', $locks[0]['call'], 'The code that asks');
        self::assertSame(['', ''], array_column($locks, 'run'), 'None is for a run');

        $process = $this->wp(['list', 'theme', '--format=count']);
        self::assertSame(0, $process->wait());
        self::assertSame("1\n", $process->output());

        $process = $this->wp(['list', '--limit=1', '--format=count']);
        self::assertSame(0, $process->wait());
        self::assertSame("1\n", $process->output());
        self::assertStringContainsString('There are more locks', $process->errors());

        $process = $this->wp(['info', 'base64:YgD/', '--format=json']);
        self::assertSame(0, $process->wait(), $process->transcript());
        $rows = json_decode($process->output(), true, 8, JSON_THROW_ON_ERROR);
        self::assertSame(['holder'], array_column($rows, 'role'));
        self::assertGreaterThanOrEqual(0, $rows[0]['for']);
    }

    public function testInfoShowsWhoWaits(): void
    {
        $this->holder('theme-css');
        $waiter = $this->process('waiter', 'say("going"); cluster_lock("theme-css") && say("mine"); hear();');
        $waiter->expect('going');
        do {
            $process = $this->wp(['info', 'theme-css', '--format=json']);
            self::assertSame(0, $process->wait(), $process->transcript());
            $rows = json_decode($process->output(), true, 8, JSON_THROW_ON_ERROR);
        } while (count($rows) < 2);
        self::assertSame(['holder', 'waiter'], array_column($rows, 'role'));
        self::assertSame(['holder', 'waiter'], array_column($rows, 'node'));
        self::assertSame($waiter->pid(), $rows[1]['pid']);
        self::assertMatchesRegularExpression('/^\S.*:\d+$/', $rows[1]['call'], 'The code that asks');

        $process = $this->wp(['break', 'theme-css', '--yes']);
        self::assertSame(0, $process->wait(), $process->transcript());
        $waiter->expect('mine');
    }

    public function testListAndInfoShowARunAndWhoWaitsForOne(): void
    {
        $code = 'function compile(): void { cluster_coalesced("theme-css", function () { say("inside"); hear(); }); } compile();';
        $runner = $this->process('runner', $code);
        $runner->expect('inside');
        $this->process('waiter', $code);
        do {
            $process = $this->wp(['info', 'theme-css', '--format=json']);
            self::assertSame(0, $process->wait(), $process->transcript());
            $rows = json_decode($process->output(), true, 8, JSON_THROW_ON_ERROR);
        } while (count($rows) < 2);
        self::assertSame([['holder', 'yes'], ['waiter', 'yes']], array_map(static fn (array $row): array => [$row['role'], $row['run']], $rows));
        foreach ($rows as $row) {
            self::assertMatchesRegularExpression('/^compile\(\) at \S.*:\d+$/', $row['call']);
        }

        $process = $this->wp(['list', '--fields=lock,run,call', '--format=json']);
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame(
            [['lock' => 'theme-css', 'run' => 'yes', 'call' => $rows[0]['call']]],
            json_decode($process->output(), true, 8, JSON_THROW_ON_ERROR)
        );
    }

    public function testNobodyHoldsIt(): void
    {
        foreach ([['info', 'nobody'], ['break', 'nobody', '--yes']] as $arguments) {
            $process = $this->wp($arguments);
            self::assertSame(1, $process->wait());
            self::assertSame("Error: Nobody holds the lock \"nobody\".\n", $process->errors());
        }
    }

    public function testBreakAsksAndNamesTheHolder(): void
    {
        $holder = $this->holder('theme-css');
        $process = $this->wp(['break', 'theme-css']);
        self::assertStringContainsString("Held by holder, process {$holder->pid()},", $process->line());
        $process->tell('n');
        self::assertSame(0, $process->wait());
        $holder->tell('unlock');
        $holder->expect('true');
    }

    public function testBreakIsLogged(): void
    {
        $holder = $this->holder('theme-css');
        $process = $this->wp(['break', 'theme-css', '--yes']);
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertStringContainsString('Success: The lock "theme-css" was broken.', $process->output());
        self::assertMatchesRegularExpression(
            '/Lock "theme-css" \(fence \d+\) was broken by the command line\. Held by node "holder", pid ' . $holder->pid() . ', ".*", .+:\d+\.$/m',
            $process->errors()
        );
        self::assertStringContainsString('cluster_lock_broken by 0', $process->errors());
        $holder->tell('unlock');
        $holder->expect('false');
    }

    public function testBreakSparesANewHolder(): void
    {
        $first = $this->holder('theme-css');
        $process = $this->wp(['break', 'theme-css']);
        $process->line();
        $first->tell('unlock');
        $first->expect('true');
        $second = $this->holder('theme-css');
        $process->tell('y');
        self::assertSame(1, $process->wait());
        self::assertMatchesRegularExpression(
            "/has a new holder meanwhile.*not broken.*process {$second->pid()},.*Fencing token: \d+/",
            $process->errors()
        );
        $second->tell('unlock');
        $second->expect('true');
    }

    public function testTest(): void
    {
        $process = $this->wp(['test', '--format=csv']);
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame(9, substr_count($process->output(), ',ok,'), $process->output());
        self::assertStringContainsString('Success', $process->output());
        self::assertSame([], $this->redis->client()->do('KEYS', '*:wp:test:*'), 'It leaves no lock behind');
    }

    public function testTestFailsWithoutAServer(): void
    {
        $this->redis->kill();
        $process = $this->wp(['test', '--format=csv']);
        self::assertSame(1, $process->wait());
        self::assertStringContainsString('Connection refused', $process->output());
        self::assertStringContainsString('Locks do not work here', $process->errors());
    }

    /** @param list<string> $arguments */
    private function wp(array $arguments): PhpProcess
    {
        return PhpProcess::file(__DIR__ . '/fixtures/wp-cli.php', $this->settings('tester'), $arguments);
    }

    /** A process that has the lock, and unlocks it when it is told to. */
    private function holder(string $name): PhpProcess
    {
        $name = var_export(base64_encode($name), true);
        $process = $this->process('holder', "\$name = base64_decode($name); say(cluster_lock(\$name, 5)); hear(); say(@cluster_unlock(\$name)); hear();");
        $process->expect('true');

        return $process;
    }

    private function process(string $node, string $code): PhpProcess
    {
        return PhpProcess::code($code, $this->settings($node));
    }

    /** @return array<string, string> */
    private function settings(string $node): array
    {
        return ['cluster_lock.dsn' => "redis://:s3cret@{$this->redis->address()}", 'cluster_lock.node' => $node];
    }
}
