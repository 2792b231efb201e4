<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Surface;

use ClusterLock\Tests\Support\PhpProcess;
use ClusterLock\Tests\Support\TestCase;

/**
 * The contract's functions, class, exceptions and settings are there, as it writes them.
 */
final class ContractTest extends TestCase
{
    /** Two functions of the contract come in a later step: cluster_flock, cluster_clearstatcache. */
    private const FUNCTIONS = [
        'cluster_lock' => '(string $name, ?float $timeout = null, int $mode = 2, ?float $ttl = null): bool',
        'cluster_unlock' => '(string $name): bool',
        'cluster_synchronized' => '(string $name, callable $callback, ?float $timeout = null, ?float $ttl = null): mixed',
        'cluster_coalesced' => '(string $name, callable $work, ?float $timeout = null, ?float $ttl = null): bool',
        'cluster_file_put_contents' => '(string $filename, mixed $data, int $flags = 0, ?string $lock = null): int|false',
        'cluster_file_build' => '(string $target, callable $build, array $sources = [], ?float $timeout = null): bool',
        'cluster_lock_fence' => '(string $name): ?int',
        'cluster_lock_info' => '(string $name): ?array',
        'cluster_lock_list' => "(string \$prefix = '', int \$limit = 1000): array",
        'cluster_lock_break' => '(string $name, ?int $fence = null): bool',
        'cluster_lock_servers' => '(): array',
        'cluster_lock_status' => '(): array',
    ];

    private const METHODS = [
        '__construct' => '(string $name, int $mode = 2, ?float $ttl = null)',
        'acquire' => '(?float $timeout = null): bool',
        'release' => '(): void',
        'refresh' => '(?float $ttl = null): void',
        'isHeld' => '(): bool',
        'remaining' => '(): float',
        'fence' => '(): int',
        '__destruct' => '()',
    ];

    private const SETTINGS = [
        'cluster_lock.dsn' => ['redis://127.0.0.1:6379', INI_SYSTEM],
        'cluster_lock.prefix' => ['cluster_lock:', INI_SYSTEM],
        'cluster_lock.timeout' => ['30', INI_ALL],
        'cluster_lock.ttl' => ['10', INI_ALL],
        'cluster_lock.auto_renew' => ['1', INI_ALL],
        'cluster_lock.max_hold' => ['300', INI_ALL],
        'cluster_lock.connect_timeout' => ['1', INI_SYSTEM],
        'cluster_lock.command_timeout' => ['1', INI_SYSTEM],
        'cluster_lock.pool_size' => ['8', INI_SYSTEM],
        'cluster_lock.retry_after' => ['1', INI_SYSTEM],
        'cluster_lock.node' => [null, INI_SYSTEM],
        'cluster_lock.path_map' => ['', INI_SYSTEM],
        'cluster_lock.intercept' => ['', INI_SYSTEM],
        'cluster_lock.intercept_exclude' => ['*.log', INI_SYSTEM],
        'cluster_lock.flock_mode' => ['gate', INI_SYSTEM],
        'cluster_lock.slow_wait' => ['1', INI_ALL],
        'cluster_lock.report_call' => ['1', INI_ALL],
        'cluster_lock.durable_writes' => ['1', INI_ALL],
        'cluster_lock.confirmed_unlocks' => ['1', INI_ALL],
        'cluster_lock.mount_point_writes' => ['refuse', INI_ALL],
    ];

    /** Settings that come with cluster_flock. */
    private const LATER = ['cluster_lock.intercept', 'cluster_lock.intercept_exclude', 'cluster_lock.flock_mode'];

    /** @return array<string, array{string, string}> */
    public static function functions(): array
    {
        return self::pairs(self::FUNCTIONS);
    }

    /** @dataProvider functions */
    public function testTheFunctionHasThisSignature(string $name, string $signature): void
    {
        $functions = self::surface()['functions'];

        self::assertArrayHasKey($name, $functions, "There is no $name()");
        self::assertSame($signature, self::render($functions[$name]), "$name() has another signature");
    }

    /** @return array<string, array{string, string}> */
    public static function methods(): array
    {
        return self::pairs(self::METHODS);
    }

    /** @dataProvider methods */
    public function testTheMethodHasThisSignature(string $name, string $signature): void
    {
        $class = self::surface()['classes']['ClusterLock'];

        self::assertArrayHasKey($name, $class['methods'], "There is no ClusterLock::$name()");
        self::assertSame(
            $signature,
            self::render($class['methods'][$name]),
            "ClusterLock::$name() has another signature"
        );
        self::assertSame(['public'], $class['methods'][$name]['modifiers'], "ClusterLock::$name() should be public");
    }

    public function testTheClassIsFinalWithOneReadonlyName(): void
    {
        $class = self::surface()['classes']['ClusterLock'];

        self::assertTrue($class['final'], 'ClusterLock should be final');
        self::assertNull($class['parent'], 'ClusterLock should have no parent');
        // What readonly implies, PHP 8.6 spells out.
        $modifiers = &$class['properties']['name']['modifiers'];
        $modifiers = array_values(array_diff($modifiers, ['protected(set)']));
        self::assertSame(
            ['name' => ['type' => 'string', 'modifiers' => ['public', 'readonly']]],
            $class['properties'],
            'ClusterLock should have public readonly string $name'
        );
        self::assertSame(
            [],
            array_diff(array_keys($class['methods']), array_keys(self::METHODS)),
            'It should have no other methods'
        );
    }

    public function testTheExceptionsFormThisTree(): void
    {
        $expected = [
            'ClusterLockConnectionException' => ['ClusterLockException', true],
            'ClusterLockException' => ['RuntimeException', false],
            'ClusterLockLostException' => ['ClusterLockException', true],
            'ClusterLockTimeoutException' => ['ClusterLockException', true],
        ];
        $classes = self::surface()['classes'];
        unset($classes['ClusterLock']);

        self::assertSame(
            $expected,
            array_map(static fn ($c) => [$c['parent'], $c['final']], $classes),
            'Parents and final'
        );
    }

    public function testNothingElseIsDefined(): void
    {
        $surface = self::surface();
        $later = ['cluster_flock', 'cluster_clearstatcache'];

        self::assertSame(
            [],
            array_diff(array_keys($surface['functions']), array_keys(self::FUNCTIONS), $later),
            'There should be no function that the contract does not know'
        );
        self::assertSame([], $surface['constants'], 'There should be no constant that the contract does not know');
    }

    public function testTheSettingsHaveTheseDefaultsAndPlacesOfChange(): void
    {
        $process = PhpProcess::code('echo json_encode(ini_get_all("cluster_lock"));');
        $process->wait();
        $all = json_decode($process->output(), true);
        $missing = array_diff(array_keys(self::SETTINGS), array_keys($all));
        self::assertSame([], array_diff($missing, self::LATER), 'All settings of the contract should be there');
        self::assertSame([], array_diff(array_keys($all), array_keys(self::SETTINGS)), 'and no others');

        foreach (array_diff_key(self::SETTINGS, array_flip($missing)) as $name => [$default, $access]) {
            $default ??= $name === 'cluster_lock.node' ? gethostname() : null;
            $shown = $all[$name]['global_value'];
            if ($name === 'cluster_lock.node') {
                self::assertContains($shown, [$default, '', null], 'The node is the host name, or empty for it');
            } else {
                self::assertSame($default, (string) $shown, "The default of $name");
            }
            self::assertSame($access, $all[$name]['access'], "Where $name can be changed");
        }
    }

    /** @return array<string, mixed> */
    private static function surface(): array
    {
        $process = PhpProcess::file(dirname(__DIR__) . '/fixtures/surface.php');
        self::assertSame(0, $process->wait(), $process->transcript());

        return unserialize($process->output());
    }

    /** @param array<string, mixed> $function */
    private static function render(array $function): string
    {
        $parameters = array_map(
            static fn (array $p) => trim(($p['type'] ?? '') . ' ') . ($p['type'] === null ? '' : ' ')
                . ($p['by reference'] ? '&' : '') . '$' . $p['name']
                . ($p['optional'] ? ' = ' . match ($p['default']) {
                    null => 'null',
                    [] => '[]',
                    default => var_export($p['default'], true),
                } : ''),
            $function['parameters']
        );

        return '(' . implode(', ', $parameters) . ')' . (
            $function['returns'] === null ? '' : ": {$function['returns']}"
        );
    }

    /**
     * @param array<string, string> $signatures
     *
     * @return array<string, array{string, string}>
     */
    private static function pairs(array $signatures): array
    {
        $pairs = [];
        foreach ($signatures as $name => $signature) {
            $pairs[$name] = [$name, $signature];
        }

        return $pairs;
    }
}
