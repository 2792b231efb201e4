<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use Throwable;
use ValueError;

/**
 * The settings: by configure(), a constant, the environment (getenv(), $_ENV, $_SERVER: of loaders of .env files some fill
 * one of them only), php.ini, or the default, in this order.
 * php.ini keeps entries that no extension has claimed, too (get_cfg_var()), so one file serves both.
 */
final class Settings
{
    private const DEFAULTS = [
        'dsn' => null,
        'prefix' => 'cluster_lock:',
        'timeout' => '30',
        'ttl' => '10',
        'auto_renew' => '1',
        'max_hold' => '300',
        'connect_timeout' => '1',
        'command_timeout' => '1',
        'pool_size' => '8',
        'retry_after' => '1',
        'node' => '',
        'path_map' => '',
        'intercept' => '',
        'intercept_exclude' => '*.log',
        'flock_mode' => 'gate',
        'slow_wait' => '1',
        'report_call' => '1',
        'durable_writes' => '1',
        'confirmed_unlocks' => '1',
        'mount_point_writes' => 'refuse',
        // Of the polyfill alone: who speaks to the server.
        'client' => '',
    ];

    /** @var array<string, string|Secret> by configure() */
    private static array $given = [];

    private static ?self $now = null;

    /** @var list<string> what has been refused, and is not told yet */
    private static array $untold = [];

    /** Seconds; INF: no limit. */
    public float $timeout;
    public float $ttl;
    public bool $autoRenew;
    /** Seconds; INF: no limit. */
    public float $maxHold;
    /** Seconds; INF: off. */
    public float $slowWait;
    public bool $reportCall;
    public bool $durableWrites;
    public string $mountPointWrites;
    public float $connectTimeout;
    public float $commandTimeout;
    public float $retryAfter;
    public int $poolSize;
    public string $prefix;
    public string $node;
    public string $flockMode;
    public PathMap $pathMap;
    public string $intercept;
    public string $interceptExclude;
    public string $client;

    /** Null: it is not usable, or none is set. */
    private ?Dsn $dsn = null;
    private ?Failure $dsnProblem = null;

    /** What may be shown. */
    private string $dsnShown = 'local:';

    private ?string $fingerprint = null;

    private function __construct()
    {
    }

    public static function now(): self
    {
        return self::$now ??= self::gathered(self::$given, static function (string $message): void {
            self::$untold[] = $message;
        });
    }

    /** Tells of bad values, once. When an error handler throws at one, the others are told all the same. */
    public static function tell(): void
    {
        self::now();
        $first = null;
        while (self::$untold !== []) {
            $message = array_shift(self::$untold);
            try {
                trigger_error("cluster_lock: $message", E_USER_WARNING);
            } catch (Throwable $thrown) {
                $first ??= $thrown;
            }
        }
        if ($first !== null) {
            throw $first;
        }
    }

    /**
     * @param Secret $settings an array, as configure() takes it
     *
     * @throws ValueError
     */
    public static function configure(Secret $settings): void
    {
        $given = self::$given;
        foreach ($settings->reveal() as $name => $value) {
            $name = (string) $name;
            if (!array_key_exists($name, self::DEFAULTS)) {
                throw new ValueError('cluster_lock.' . Text::said($name) . ': there is no such setting');
            }
            if (!is_scalar($value)) {
                throw new ValueError("cluster_lock.$name: a string, a number or a bool is allowed");
            }
            $value = is_bool($value) ? (string) (int) $value : (string) $value;
            $given[$name] = $name === 'dsn' ? self::checked(Secret::take($value)) : $value;
        }
        // Only what is given now may be wrong with it: the rest has been told already.
        $refuse = static function (string $message, string $name) use ($settings): void {
            if (array_key_exists($name, $settings->reveal())) {
                throw new ValueError($message);
            }
        };
        self::$now = self::gathered($given, $refuse);
        self::$given = $given;
    }

    /**
     * Where the locks live. Locks of this host only, when and only when no DSN is set anywhere: a node that fell
     * back on them would go on by itself while the others lock on a server.
     *
     * @throws Failure it is not usable
     */
    public function dsn(): Dsn
    {
        return $this->dsn ?? throw Failure::config($this->dsnProblem->getMessage());
    }

    public function backend(): string
    {
        return $this->dsn?->backend ?? 'none';
    }

    /** The DSN without credentials. */
    public function dsnShown(): string
    {
        return $this->dsnShown;
    }

    /** What an engine is made of: another one for other values. */
    public function fingerprint(): string
    {
        return $this->fingerprint ??= sha1(serialize([
            $this->dsnShown, $this->dsn?->credentials(), $this->dsn?->tls, $this->prefix, $this->node, $this->client,
            $this->connectTimeout, $this->commandTimeout, $this->retryAfter, $this->dsnProblem?->getMessage(),
        ]));
    }

    /** @return array<string, string> for var_dump() and its kin: no secret */
    public function __debugInfo(): array
    {
        return ['dsn' => $this->dsnShown, 'prefix' => $this->prefix];
    }

    private static function checked(Secret $dsn): Secret
    {
        try {
            Dsn::parse($dsn);
        } catch (Failure $failure) {
            throw new ValueError($failure->getMessage());
        }

        return $dsn;
    }

    /**
     * @param array<string, string|Secret>   $given
     * @param callable(string, string): void $refuse a bad value: its default stands in for it
     */
    private static function gathered(array $given, callable $refuse): self
    {
        $settings = new self();
        foreach (self::DEFAULTS as $name => $default) {
            $value = $given[$name] ?? self::found($name);
            if ($name === 'dsn') {
                $settings->setDsn(is_string($value) ? Secret::take($value) : $value);
                continue;
            }
            try {
                $settings->set($name, trim($value ?? $default));
            } catch (ValueError $error) {
                $shown = Text::quoted(substr((string) $value, 0, 200));
                $refuse("cluster_lock.$name: $shown is refused: {$error->getMessage()}", $name);
                $settings->set($name, $default);
            }
        }

        return $settings;
    }

    /** By a constant, the environment, or php.ini. An empty value is a value: a variable that was forgotten. */
    private static function found(string $name): ?string
    {
        $constant = 'CLUSTER_LOCK_' . strtoupper($name);
        $environment = getenv($constant);
        $sources = [
            defined($constant) ? constant($constant) : null,
            $environment === false ? null : $environment,
            $_ENV[$constant] ?? null,
            $_SERVER[$constant] ?? null,
        ];
        foreach ($sources as $value) {
            if (is_scalar($value)) {
                return is_bool($value) ? (string) (int) $value : (string) $value;
            }
        }
        $value = get_cfg_var("cluster_lock.$name");

        return is_string($value) ? $value : null;
    }

    private function setDsn(?Secret $text): void
    {
        $none = 'local:';
        try {
            foreach ($text === null ? ['getenv', 'get_cfg_var'] : [] as $source) {
                function_exists($source) || throw Failure::config("PHP's function $source() is disabled "
                    . '(disable_functions), so that a cluster_lock.dsn that is set would go unseen: set it by a constant, '
                    . 'CLUSTER_LOCK_DSN, or by configure(), also if it is "local:"');
            }
            $this->dsn = Dsn::parse($text ?? Secret::take($none));
        } catch (Failure $failure) {
            $this->dsnProblem = $failure;
        }
        $this->dsnShown = $text === null ? 'local:' : Dsn::redact($text);
    }

    private function set(string $name, string $text): void
    {
        match ($name) {
            'timeout' => $this->timeout = Value::limit($text),
            'ttl' => $this->ttl = Value::seconds($text, Value::MIN_TTL, Value::MAX_TTL),
            'auto_renew' => $this->autoRenew = Value::switch($text),
            'max_hold' => $this->maxHold = Value::limit($text) ?: INF,
            'slow_wait' => $this->slowWait = Value::limit($text) ?: INF,
            'report_call' => $this->reportCall = Value::switch($text),
            'durable_writes' => $this->durableWrites = Value::switch($text),
            // Whoever does not insist on the answer may be given it all the same.
            'confirmed_unlocks' => Value::switch($text),
            'mount_point_writes' => $this->mountPointWrites = Value::oneOf(strtolower($text), 'refuse', 'in_place'),
            'connect_timeout' => $this->connectTimeout = Value::seconds($text, 0.001, 3600.0),
            'command_timeout' => $this->commandTimeout = Value::seconds($text, 0.001, 3600.0),
            'retry_after' => $this->retryAfter = Value::seconds($text, 0.0, 3600.0),
            'pool_size' => $this->poolSize = Value::connections($text),
            'prefix' => $this->prefix = Value::prefix($text),
            'node' => $this->node = Value::node($text),
            'path_map' => $this->pathMap = PathMap::parse($text),
            'flock_mode' => $this->flockMode = Value::oneOf(strtolower($text), 'gate', 'replace'),
            'intercept' => $this->intercept = Value::nothing($text),
            'intercept_exclude' => $this->interceptExclude = $text,
            'client' => $this->client = Value::oneOf(strtolower($text), '', 'phpredis', 'predis'),
        };
    }
}
