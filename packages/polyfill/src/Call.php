<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** Where in PHP code a lock is asked for, as reports tell unless cluster_lock.report_call is off. Never with arguments. */
final class Call
{
    /** So many calls are looked through at most. */
    private const MOST = 64;

    /** The most bytes told of a function's name. What is told stands in the server's memory once for every waiter. */
    private const MAX_FUNCTION = 256;

    /** The most bytes told of a file's path: of a longer one its end. */
    private const MAX_FILE = 512;

    /** Code in these namespaces locks for its caller, who is told instead. */
    private const WRAPPERS = ['ClusterLock\\', 'Symfony\\Component\\Lock\\'];

    /** What debug_backtrace() calls code outside of functions. */
    private const OUTSIDE = ['include', 'include_once', 'require', 'require_once', 'eval'];

    public function __construct(
        /** Empty outside of functions. */
        public readonly string $function = '',
        /** Empty: it is not known. */
        public readonly string $file = '',
        public readonly int $line = 0,
    ) {
    }

    /** The innermost code outside of this package that is no wrapper. */
    public static function here(): self
    {
        if (!Settings::now()->reportCall) {
            return new self();
        }
        $innermost = null;
        $frames = debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, self::MOST);
        foreach ($frames as $i => $frame) {
            // PHP's functions call without a file.
            if (!isset($frame['file']) || str_starts_with($frame['file'], dirname(__DIR__) . '/')) {
                continue;
            }
            $asks = $frames[$i + 1] ?? [];
            $call = new self(self::name($asks), self::end($frame['file']), (int) ($frame['line'] ?? 0));
            if (!self::wraps($asks)) {
                return $call;
            }
            $innermost ??= $call;
        }

        return $innermost ?? new self();
    }

    /** What an identity has of it; what cannot be read is nothing. */
    public static function decode(mixed $fields): self
    {
        if (!is_array($fields) || !is_string($fields['w'] ?? null)) {
            return new self();
        }
        $function = $fields['f'] ?? '';
        $line = $fields['l'] ?? 0;
        $isReadable = is_string($function) && is_int($line) && $line >= 0 && $line <= 0xffffffff;

        return $isReadable ? new self($function, $fields['w'], $line) : new self();
    }

    /** @return array<string, string|int> */
    public function encoded(): array
    {
        return ($this->function === '' ? [] : ['f' => $this->function]) + ['w' => $this->file, 'l' => $this->line];
    }

    public function isUnknown(): bool
    {
        return $this->file === '';
    }

    /** For people: `compile() at /srv/theme/compiler.php:142`. */
    public function words(): string
    {
        $function = $this->function === '' ? '' : Text::said($this->function) . '() at ';

        return $function . Text::endOf($this->file) . ":{$this->line}";
    }

    /** @return array{function: string, file: string, line: int} */
    public function table(): array
    {
        return ['function' => $this->function, 'file' => $this->file, 'line' => $this->line];
    }

    /** @param array<string, mixed> $frame of debug_backtrace() */
    private static function name(array $frame): string
    {
        $function = $frame['function'] ?? '';
        $class = $frame['class'] ?? '';
        if ($function === '' || ($class === '' && in_array($function, self::OUTSIDE, true))) {
            return '';
        }
        // With a namespace or a path, as versions of PHP have it: file and line tell that.
        $function = str_contains($function, '{closure') ? '{closure}' : $function;

        return ($class === '' ? '' : self::cut($class) . '::') . self::cut($function);
    }

    /** Between two characters. Behind a NUL byte, the name of an anonymous class has a path. */
    private static function cut(string $name): string
    {
        $shown = explode("\0", $name, 2)[0];
        $end = self::MAX_FUNCTION;
        while ($end > self::MAX_FUNCTION - 3 && (ord($shown[$end] ?? '') & 0xc0) === 0x80) {
            $end--;
        }

        return substr($shown, 0, $end);
    }

    /**
     * What is told of a file that PHP knows by an address (`vault://user:password@host/a.php?key=…`): neither who may read
     * it nor its query. Of `data:` the rest is code.
     */
    private static function withoutSecrets(string $file): string
    {
        if (preg_match('/^data:/i', $file)) {
            return 'data:';
        }
        if (!preg_match('~^([a-z0-9+.-]*://)([^?]*)(.*)$~is', $file, $parts)) {
            return $file;
        }
        [, $scheme, $address, $query] = $parts;
        $at = strrpos($address, '@');
        if (str_starts_with($address, '/')) {
            return $scheme . $address;
        }
        // The question mark may stand in a password.
        $shown = $at === false && str_contains($query, '@') ? '' : $address;

        return $scheme . ($at === false ? $shown : substr($address, $at + 1));
    }

    private static function end(string $path): string
    {
        $path = self::withoutSecrets($path);
        if (strlen($path) <= self::MAX_FILE) {
            return $path;
        }

        // From the beginning of a character on.
        return '…' . preg_replace('/^[\x80-\xbf]+/', '', substr($path, -self::MAX_FILE));
    }

    /** @param array<string, mixed> $frame of debug_backtrace() */
    private static function wraps(array $frame): bool
    {
        $name = $frame['class'] ?? $frame['function'] ?? '';
        foreach (self::WRAPPERS as $namespace) {
            if (str_starts_with($name, $namespace)) {
                return true;
            }
        }

        return false;
    }
}
