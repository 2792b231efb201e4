<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * PHP's own web server, for development: `php -S`, with several processes.
 */
final class BuiltInServer extends WebServer
{
    /** @param array<string, string|int|float> $settings php.ini */
    public function __construct(array $settings, int $workers)
    {
        parent::__construct();
        $settings += [
            'display_errors' => 1,
            'auto_prepend_file' => dirname(__DIR__) . '/fixtures/prelude.php',
        ];
        // At ^C all get SIGINT; none ends the others.
        $this->start(new ServerProcess(
            [PHP_BINARY, ...Php::options($settings), '-S', "127.0.0.1:{$this->port}", '-t', $this->dir],
            ['PHP_CLI_SERVER_WORKERS' => (string) $workers],
            SIGINT,
            true
        ));
    }
}
