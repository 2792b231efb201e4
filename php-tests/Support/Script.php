<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Support;

/**
 * A script that a web server is asked for.
 */
final class Script
{
    /** A file for each code, so that no cache can mix them up. */
    public static function in(string $dir, string $code): string
    {
        $file = sprintf('%s/%s.php', $dir, md5($code));
        if (!is_file($file)) {
            file_put_contents($file, "<?php\n" . $code);
        }

        return $file;
    }

    /**
     * What a web server tells a CGI program or a FastCGI server.
     *
     * @param array<string, string|int> $arguments
     *
     * @return array<string, string>
     */
    public static function asked(string $file, array $arguments = []): array
    {
        $query = http_build_query($arguments);

        return [
            'SCRIPT_FILENAME' => $file,
            'SCRIPT_NAME' => '/' . basename($file),
            'REQUEST_METHOD' => 'GET',
            'REQUEST_URI' => '/page/' . basename($file, '.php') . ($query === '' ? '' : "?$query"),
            'QUERY_STRING' => $query,
            'SERVER_PROTOCOL' => 'HTTP/1.1',
            'GATEWAY_INTERFACE' => 'CGI/1.1',
            'REMOTE_ADDR' => '127.0.0.1',
        ];
    }
}
