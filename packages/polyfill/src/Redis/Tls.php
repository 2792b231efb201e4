<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill\Redis;

use ClusterLock\Polyfill\Dsn;
use ClusterLock\Polyfill\Quiet;
use ClusterLock\Polyfill\Text;

/** The trust and the identity of a TLS connection. There is no switch to turn the checks off. */
final class Tls
{
    /**
     * @return array<string, mixed> for stream_context_create()'s "ssl"
     *
     * @throws Fault a file is missing, of which OpenSSL would say little
     */
    public static function options(Dsn $dsn): array
    {
        $files = ['ca' => 'cafile', 'cert' => 'local_cert', 'key' => 'local_pk'];
        $options = [
            'verify_peer' => true,
            'verify_peer_name' => true,
            'peer_name' => trim($dsn->tls['tls_name'] ?? $dsn->host, '[]'),
            'allow_self_signed' => false,
            'crypto_method' => STREAM_CRYPTO_METHOD_TLSv1_2_CLIENT | STREAM_CRYPTO_METHOD_TLSv1_3_CLIENT,
        ];
        foreach ($files as $name => $option) {
            if (isset($dsn->tls[$name])) {
                [$file, $why] = Quiet::call(static fn () => fopen($dsn->tls[$name], 're'));
                if ($file === false) {
                    throw Fault::broken('TLS: ' . $name . '=' . Text::path($dsn->tls[$name]) . ": $why");
                }
                fclose($file);
                $options[$option] = $dsn->tls[$name];
            }
        }

        return $options;
    }
}
