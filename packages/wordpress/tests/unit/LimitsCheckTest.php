<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use Cluster_Lock\Limits_Check;
use PHPUnit\Framework\TestCase;

final class LimitsCheckTest extends TestCase
{
    private const DEFAULTS = [
        'timeout' => '30', 'ttl' => '10', 'auto_renew' => '1', 'max_hold' => '300', 'connect_timeout' => '1',
        'command_timeout' => '1', 'retry_after' => '1', 'slow_wait' => '1',
    ];

    /**
     * @dataProvider settings
     * @param array<string, string> $settings
     * @param list<string>          $found
     */
    public function testContradictions(array $settings, int $maxExecution, array $found): void
    {
        $contradictions = Limits_Check::contradictions($settings + self::DEFAULTS, $maxExecution);
        self::assertSame($found, array_keys($contradictions), implode("\n", $contradictions));
    }

    /** @return array<string, array{array<string, string>, int, list<string>}> */
    public static function settings(): array
    {
        return [
            'as delivered' => [[], 30, []],
            'as delivered, on the command line' => [[], 0, []],
            'limits switched off' => [['max_hold' => '0', 'slow_wait' => '0'], 30, []],
            'one try' => [['timeout' => '0', 'slow_wait' => '0'], 30, []],
            'slow_wait means nothing with one try' => [['timeout' => '0'], 30, []],
            'a lost renewal is the end' => [['ttl' => '3', 'command_timeout' => '2'], 30, ['command_timeout']],
            'a lost renewal is just not the end' => [['ttl' => '3.1', 'command_timeout' => '2'], 30, []],
            'no renewals, so no matter' => [['ttl' => '40', 'command_timeout' => '30', 'auto_renew' => '0'], 30, ['timeout']],
            'not renewed' => [['auto_renew' => 'off'], 30, ['auto_renew']],
            'not renewed, requests are short' => [['auto_renew' => '0', 'ttl' => '20'], 20, ['timeout']],
            'not renewed, no limit' => [['auto_renew' => ''], 0, ['auto_renew']],
            'never renewed' => [['max_hold' => '5'], 30, ['max_hold']],
            'renewed too short' => [['max_hold' => '60'], 120, ['max_hold']],
            'waits until the gateway gives up' => [['timeout' => '90'], 120, ['timeout']],
            'waits for ever' => [['timeout' => 'INF'], 0, ['timeout']],
            'waits longer than it may run' => [['timeout' => '20'], 15, ['timeout']],
            'gives up before a dead holder is gone' => [['timeout' => '5'], 30, ['timeout']],
            'the dead block for long' => [['ttl' => '120', 'timeout' => '60'], 60, ['timeout', 'ttl']],
            'no wait is ever slow' => [['slow_wait' => '30'], 30, ['slow_wait']],
            'hangs' => [['connect_timeout' => '10'], 30, ['connect_timeout']],
            'out for long' => [['retry_after' => '60'], 30, ['retry_after']],
        ];
    }

    public function testWhatIsSaid(): void
    {
        $verdict = Limits_Check::verdict(['timeout' => '5'] + self::DEFAULTS, 30);
        self::assertSame('recommended', $verdict->status);
        self::assertStringContainsString('Waiting ends after 5 s (timeout)', $verdict->description());
        self::assertStringContainsString('free after 10 s (ttl)', $verdict->description());

        $verdict = Limits_Check::verdict(['ttl' => '1', 'command_timeout' => '5'] + self::DEFAULTS, 30);
        self::assertSame('critical', $verdict->status);

        $verdict = Limits_Check::verdict(self::DEFAULTS, 30);
        self::assertSame('good', $verdict->status);
        self::assertStringContainsString('at most 30 s', $verdict->description());
    }

    /** The rules are only as good as the defaults that they are tested with. */
    public function testTheDefaultsAreTheExtensions(): void
    {
        if (!extension_loaded('cluster_lock')) {
            self::markTestSkipped('without the extension there is nothing to compare with');
        }
        foreach (self::DEFAULTS as $name => $value) {
            self::assertSame($value, ini_get("cluster_lock.$name"), $name);
        }
    }
}
