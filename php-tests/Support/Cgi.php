<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * php-cgi: as a FastCGI server of the test's own with several processes, or for one request.
 */
final class Cgi
{
    use FastCgi;

    private readonly ServerProcess $process;

    /**
     * @param array<string, string|int|float> $settings    php.ini
     * @param array<string, string>           $environment such as PHP_FCGI_MAX_REQUESTS
     */
    public function __construct(array $settings, int $children, array $environment = [])
    {
        $this->dir = TempDir::forTest();
        $this->process = new ServerProcess(
            [...self::command($settings), '-b', $this->socket()],
            $environment + ['PHP_FCGI_CHILDREN' => (string) $children]
        );
        Until::true(
            fn () => @stream_socket_client('unix://' . $this->socket()) && count($this->workers()) === $children,
            fn () => "php-cgi should listen: {$this->process->output()}"
        );
    }

    /**
     * One request as a web server runs a CGI program, which tells it by its environment what is wanted.
     *
     * @param array<string, string|int|float> $settings php.ini
     */
    public static function once(string $code, array $settings): PhpProcess
    {
        $asked = Script::asked(Script::in(TempDir::forTest(), $code));
        $environment = ['REDIRECT_STATUS' => '200'] + $asked;
        $pairs = array_map(static fn ($name, $value) => "$name=$value", array_keys($environment), $environment);

        return PhpProcess::program(['/usr/bin/env', ...$pairs, ...self::command($settings)]);
    }

    /** @return list<int> */
    public function workers(): array
    {
        return $this->process->children();
    }

    public function stop(): void
    {
        $this->process->stop();
    }

    /**
     * @param array<string, string|int|float> $settings
     *
     * @return list<string>
     */
    private static function command(array $settings): array
    {
        return [Sapis::cgi(), ...Php::options($settings + [
            'display_errors' => 1,
            'auto_prepend_file' => dirname(__DIR__) . '/fixtures/prelude.php',
        ])];
    }
}
