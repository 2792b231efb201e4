<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ClusterLock\Polyfill\Redis\Fault;
use ClusterLock\Polyfill\Redis\PasswordFile;

/** Where the locks live: the extension's DSN, as far as PHP can serve it. */
final class Dsn
{
    private const ALLOWED = 'redis://[user[:password]@]host[:port][/db], rediss:// (TLS, with ?ca=, ?cert=, ?key=, '
        . '?tls_name=), redis+unix:///path.sock?db=, each also as valkey and with ?password_file= and ?grace=; local: or '
        . 'local:///dir';

    /** How long a grace period may be, in seconds. */
    private const GRACE = ['min_range' => 5, 'max_range' => 3600];

    private const HIDDEN = '***';

    private function __construct(
        /** `redis` or `local`, as reports name it. */
        public readonly string $backend,
        public readonly string $host = '',
        public readonly int $port = 6379,
        /** Of a Unix socket; or the directory of locks on this host, '' for the default one. */
        public readonly string $path = '',
        public readonly ?string $user = null,
        private readonly ?Secret $password = null,
        public readonly int $database = 0,
        /**
         * PEM files, and the name that the server must prove in the place of the host's; null: no TLS.
         *
         * @var array{ca?: string, cert?: string, key?: string, tls_name?: string}|null
         */
        public readonly ?array $tls = null,
        /** The file that has the password, which may change. */
        public readonly ?string $passwordFile = null,
        /** For how many seconds a server lets nobody in when it finds itself without its memory; no lease may be longer. */
        public readonly ?int $grace = null,
    ) {
    }

    /** @throws Failure that says what is wrong without repeating the text, in which a password may stand */
    public static function parse(Secret $text): self
    {
        $scheme = strstr(ltrim($text->reveal()), ':', true);
        [$family, $kind] = explode('+', (string) $scheme, 2) + [1 => ''];
        if ($family === 'local' && $kind === '') {
            return self::local($text);
        }
        $tls = match ($family) {
            'redis', 'valkey' => false,
            'rediss', 'valkeys' => true,
            '' => throw self::bad('it has no scheme'),
            default => throw self::bad('its scheme is not known'),
        };
        if (self::hasStrayAt($text)) {
            $how = 'in a user, a password or a path / ? # @ are written %2F %3F %23 %40';
            throw self::bad("an @ stands behind the host; $how");
        }

        return match (true) {
            $kind === '' => self::server($text, $tls),
            $kind === 'unix' && !$tls => self::unix($text),
            in_array($kind, ['sentinel', 'cluster', 'quorum'], true)
                => throw self::bad("redis+$kind:// needs the extension cluster_lock, this is its polyfill in PHP"),
            default => throw self::bad('its scheme is not known'),
        };
    }

    /** Without credentials, for messages and reports. */
    public function redacted(): string
    {
        if ($this->backend === 'local') {
            return $this->path === '' ? 'local:' : 'local://' . Text::path($this->path);
        }
        $login = $this->user ?? '';
        if ($this->password !== null) {
            $login .= ':' . self::HIDDEN;
        }
        $login .= $login === '' ? '' : '@';
        if ($this->path !== '') {
            $database = $this->database === 0 ? '' : "?db={$this->database}";

            return "redis+unix://$login" . Text::path($this->path) . $database;
        }
        $host = str_contains($this->host, ':') ? "[{$this->host}]" : $this->host;
        $database = $this->database === 0 ? '' : "/{$this->database}";

        return ($this->tls === null ? 'redis' : 'rediss') . "://$login" . Text::said($host)
            . ":{$this->port}$database";
    }

    /** What may be shown of a DSN. Of one that does not parse, in which anything may be a secret, the scheme. */
    public static function redact(Secret $text): string
    {
        try {
            return self::parse($text)->redacted();
        } catch (Failure) {
            return preg_match('#^([a-z+]*)://#', $text->reveal(), $match) ? "$match[1]://" . self::HIDDEN : self::HIDDEN;
        }
    }

    /**
     * The password of now.
     *
     * @throws Fault the file that has it cannot be used
     */
    public function password(): ?Secret
    {
        return $this->passwordFile === null ? $this->password : PasswordFile::read($this->passwordFile);
    }

    /** @return list<string|null> as the DSN gives them, to tell two of them apart */
    public function credentials(): array
    {
        return [$this->user, $this->password?->reveal(), $this->passwordFile];
    }

    /** A text of the server, in which the password may be repeated. */
    public static function withoutPassword(string $text, ?Secret $password): string
    {
        return $password === null ? $text : str_replace($password->reveal(), self::HIDDEN, $text);
    }

    /** @return array<string, mixed> for var_dump() and its kin */
    public function __debugInfo(): array
    {
        return ['dsn' => $this->redacted()];
    }

    private static function bad(string $what): Failure
    {
        return Failure::config("cluster_lock.dsn is not usable: $what. Allowed: " . self::ALLOWED);
    }

    /** An @ behind the host: very likely a password with a slash in it, of which the rest would be shown. */
    private static function hasStrayAt(Secret $text): bool
    {
        $rest = (string) self::rest($text);

        return str_contains(substr($rest, strcspn($rest, '/?#')), '@');
    }

    private static function server(Secret $text, bool $tls): self
    {
        self::rest($text) ?? throw self::bad('it names no host');
        [$path, $options] = self::tail($text, $tls);
        [$user, $password, $host] = self::authority($text, $options);
        if (str_contains($host, ',')) {
            throw self::bad('it names several hosts; that needs the extension cluster_lock');
        }
        if (!preg_match('/^(\[[0-9A-Fa-f:.]+]|[^\s:\[\]]+)(?::(\d{1,5}))?$/D', $host, $match)) {
            throw self::bad($host === '' ? 'it names no host' : 'its host or its port is not valid');
        }
        $port = (int) ($match[2] ?? 6379);
        if ($port > 65535) {
            throw self::bad('invalid port number');
        }
        $parts = array_values(array_filter(explode('/', $path), static fn (string $part): bool => $part !== ''));
        if (count($parts) > 1 || ($parts !== [] && isset($options['db']))) {
            throw self::bad('its path is too long, or names a second database');
        }

        return new self(
            'redis',
            host: trim(rawurldecode($match[1]), '[]'),
            port: $port,
            user: $user,
            password: $password,
            database: self::database($parts[0] ?? $options['db'] ?? '0'),
            tls: $tls ? array_diff_key($options, ['db' => '', 'password_file' => '', 'grace' => '']) : null,
            passwordFile: $options['password_file'] ?? null,
            grace: isset($options['grace']) ? (int) $options['grace'] : null,
        );
    }

    private static function unix(Secret $text): self
    {
        [$path, $options] = self::tail($text, false);
        [$user, $password, $host] = self::authority($text, $options);
        if ($host !== '') {
            throw self::bad('the path of the socket must be absolute');
        }
        if ($path === '') {
            throw self::bad('it names no path');
        }

        return new self(
            'redis',
            path: rawurldecode($path),
            user: $user,
            password: $password,
            database: self::database($options['db'] ?? '0'),
            passwordFile: $options['password_file'] ?? null,
            grace: isset($options['grace']) ? (int) $options['grace'] : null,
        );
    }

    private static function local(Secret $text): self
    {
        $rest = substr(trim($text->reveal()), strlen('local:'));
        if (str_contains($rest, '?grace=')) {
            throw self::bad('?grace= does not go with local:, where no server can lose its memory');
        }
        $directory = str_starts_with($rest, '//') ? substr($rest, 2) : $rest;
        if ($directory !== '' && ($rest === $directory || !str_starts_with($directory, '/'))) {
            throw self::bad('the directory must be absolute (local:///dir)');
        }

        return new self('local', path: $directory);
    }

    /** What stands behind the scheme. */
    private static function rest(Secret $text): ?string
    {
        return explode('://', trim($text->reveal()), 2)[1] ?? null;
    }

    /**
     * @param array<string, string> $options
     *
     * @return array{string|null, Secret|null, string} user, password, host
     */
    private static function authority(Secret $text, array $options): array
    {
        $rest = (string) self::rest($text);
        $authority = substr($rest, 0, strcspn($rest, '/?#'));
        $at = strrpos($authority, '@');
        if ($at === false) {
            return [null, null, $authority];
        }
        [$user, $password] = array_map(rawurldecode(...), explode(':', substr($authority, 0, $at), 2) + [1 => '']);
        if ($password === self::HIDDEN) {
            throw self::bad('its password is hidden (***), as reports show it: write the password itself');
        }
        $file = isset($options['password_file']);
        if ($file && $password !== '') {
            throw self::bad('it gives a password, and a file that has it: one of them, please');
        }
        if ($user !== '' && $password === '' && !$file) {
            // The server would be spoken to as the default user.
            throw self::bad('it names a user and gives no password (user:password@host, or ?password_file=)');
        }

        return [
            $user === '' ? null : $user,
            $password === '' ? null : Secret::take($password),
            substr($authority, $at + 1),
        ];
    }

    /** @return array{string, array<string, string>} path and options */
    private static function tail(Secret $text, bool $tls): array
    {
        $rest = (string) self::rest($text);
        $tail = substr($rest, strcspn($rest, '/?#'));
        [$path, $query] = explode('?', explode('#', $tail, 2)[0], 2) + [1 => ''];
        $options = [];
        foreach ($query === '' ? [] : explode('&', $query) as $pair) {
            [$name, $value] = array_map(urldecode(...), explode('=', $pair, 2) + [1 => '']);
            $ofTls = in_array($name, ['ca', 'cert', 'key', 'tls_name'], true);
            if ($ofTls && !$tls) {
                throw self::bad("?$name= goes with rediss:// or valkeys:// only");
            }
            if (!$ofTls && !in_array($name, ['db', 'password_file', 'grace'], true)) {
                throw self::bad('it has an unknown option; known are db, password_file, grace, ca, cert, key, tls_name');
            }
            if ($name === 'password_file' && !str_starts_with($value, '/')) {
                throw self::bad('?password_file= takes an absolute path');
            }
            if ($name === 'grace' && filter_var($value, FILTER_VALIDATE_INT, ['options' => self::GRACE]) === false) {
                throw self::bad('?grace= takes 5 to 3600 seconds');
            }
            if ($name === 'tls_name' && !preg_match('/^(\[[0-9A-Fa-f:.]+]|[^\s:\[\]]+)$/D', $value)) {
                throw self::bad("?tls_name= takes a host's name");
            }
            $options[$name] = $value;
        }
        if (isset($options['cert']) !== isset($options['key'])) {
            throw self::bad('?cert= and ?key= go together');
        }

        return [$path, $options];
    }

    private static function database(string $text): int
    {
        return preg_match('/^\d{1,9}$/D', $text) ? (int) $text : throw self::bad('the database is not a number');
    }
}
