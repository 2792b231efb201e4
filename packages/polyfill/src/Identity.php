<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use JsonException;

/** Who asks for a lock, as others will see it: the form that the extension writes and reads. */
final class Identity
{
    /** The most bytes told of a script and a path: they stand in the server's memory for every waiter. */
    private const MOST = 1024;

    private function __construct(
        public readonly string $node,
        public readonly int $pid,
        public readonly string $sapi,
        public readonly string $script,
        public readonly string $requestUri,
        /** It wants, or has, the lock for a run. */
        public readonly bool $run = false,
        public readonly Call $call = new Call(),
    ) {
    }

    /** This request. The query string may hold secrets, and says little about who holds a lock. */
    public static function own(): self
    {
        $server = $_SERVER;
        $uri = explode('?', (string) ($server['REQUEST_URI'] ?? ''), 2)[0];
        $script = (string) ($server['SCRIPT_FILENAME'] ?? '');

        return new self(
            Settings::now()->node,
            (int) getmypid(),
            PHP_SAPI,
            substr($script, 0, self::MOST),
            PHP_SAPI === 'cli' ? '' : substr($uri, 0, self::MOST),
        );
    }

    public function forRun(): self
    {
        return new self($this->node, $this->pid, $this->sapi, $this->script, $this->requestUri, true);
    }

    /** With the call of one lock. */
    public function encode(Call $call): string
    {
        $fields = ['n' => $this->node, 'p' => $this->pid];
        $rest = ['i' => $this->sapi, 's' => $this->script, 'u' => $this->requestUri];
        $fields += array_filter($rest, static fn (string $text): bool => $text !== '');

        return json_encode(
            $fields + ($this->run ? ['o' => true] : []) + ($call->isUnknown() ? [] : ['c' => $call->encoded()]),
            JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR
        );
    }

    /** What cannot be read comes back empty. */
    public static function decode(string $bytes): self
    {
        try {
            // Otherwise json_last_error() would tell the caller of it.
            $fields = json_decode($bytes, true, 512, JSON_THROW_ON_ERROR);
        } catch (JsonException) {
            $fields = null;
        }
        $fields = is_array($fields) ? $fields : [];
        $text = static fn (string $key): string => is_string($fields[$key] ?? null) ? $fields[$key] : '';

        return new self(
            $text('n'),
            (int) ($fields['p'] ?? 0),
            $text('i'),
            $text('s'),
            $text('u'),
            ($fields['o'] ?? false) === true,
            Call::decode($fields['c'] ?? null)
        );
    }

    /**
     * For people: `held by node web2, pid 123 (fpm-fcgi), compile() at /srv/compiler.php:142, for /compile`; where it is
     * not known what has called, `held by node web2, pid 123 (fpm-fcgi) /srv/compile.php /compile`.
     */
    public function inTheWay(): string
    {
        if ($this->node === '' && $this->pid === 0) {
            return 'held by somebody unknown: a server that may have lost its memory lets nobody in until its grace period is '
                . 'over (?grace= in cluster_lock.dsn), or its record of the holder was lost';
        }
        $who = sprintf('held by node %s, pid %d', Text::said($this->node), $this->pid);
        if ($this->sapi !== '') {
            $who .= ' (' . Text::said($this->sapi) . ')';
        }
        if (!$this->call->isUnknown()) {
            // The URL says more than the script that all URLs have.
            $task = $this->requestUri === '' ? $this->script : $this->requestUri;
            $isSaid = $task === '' || $task === $this->call->file;

            return "$who, {$this->call->words()}" . ($isSaid ? '' : ', for ' . Text::said($task));
        }
        foreach ([$this->script, $this->requestUri] as $part) {
            $who .= $part === '' ? '' : ' ' . Text::said($part);
        }

        return $who;
    }
}
