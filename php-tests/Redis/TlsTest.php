<?php

declare(strict_types=1);

namespace ClusterLock\Tests\Redis;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\RedisServer;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * rediss://: the server proves who it is, by a CA of our own.
 */
final class TlsTest extends TestCase
{
    private const IMPATIENT = ['cluster_lock.connect_timeout' => '1', 'cluster_lock.command_timeout' => '1'];

    private static ?string $dir = null;

    public function testACaOfOurOwnIsTrusted(): void
    {
        $server = $this->server();
        $cluster = Cluster::at($this->dsn($server, '127.0.0.1') . '?ca=' . self::certificates() . '/ca.crt');
        [$alice, $bob] = $cluster->actors(2, ['cluster_lock.ttl' => '1.5']);

        self::assertTrue($alice->call('cluster_lock', 'job', 0), 'lock over TLS');
        $bob->begin('cluster_lock', 'job', 30);
        $cluster->awaitWaiters('job', 1);
        self::assertFalse($cluster->observer()->call('cluster_lock', 'job', 3.0), 'renewed over TLS');
        self::assertTrue($alice->call('cluster_unlock', 'job'), 'unlock over TLS');
        self::assertTrue($bob->end(), 'wait over TLS');
    }

    public function testAHostNameIsChecked(): void
    {
        $server = $this->server();
        $ca = '?ca=' . self::certificates() . '/ca.crt';
        self::assertTrue(
            Cluster::at($this->dsn($server, 'localhost') . $ca)->actor()->call('cluster_lock', 'job', 0),
            'The name in the certificate is right'
        );
        $outcome = Cluster::at($this->dsn($server, 'ip6-localhost') . $ca)->actor()->try('cluster_lock', 'job', 0);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/ip6-localhost/');
    }

    public function testAnotherNameThanTheHostsCanBeProven(): void
    {
        $server = $this->server();
        $ca = '?ca=' . self::certificates() . '/ca.crt';
        self::assertTrue(
            Cluster::at($this->dsn($server, '127.0.0.1') . "$ca&tls_name=localhost")->actor()->call('cluster_lock', 'job', 0),
            'As at the end of a tunnel'
        );
        $outcome = Cluster::at($this->dsn($server, '127.0.0.1') . "$ca&tls_name=other.example")->actor()->try(
            'cluster_lock',
            'job',
            0
        );

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/certificate|TLS|SSL/i');
    }

    public function testAnUnknownCaIsRefused(): void
    {
        $server = $this->server();
        $outcome = Cluster::at($this->dsn($server, '127.0.0.1'))->actor()->try('cluster_lock', 'job', 0);

        self::assertWarns(
            $outcome,
            'cluster_lock',
            '"job"',
            '/' . preg_quote($server->address(), '/') . '/',
            '/certificate|issuer|TLS/i'
        );
        self::assertSame([], $server->client()->do('KEYS', '*'), 'Nothing was sent');
    }

    public function testAMissingCaFileIsTold(): void
    {
        $server = $this->server();
        $outcome = Cluster::at($this->dsn($server, '127.0.0.1') . '?ca=/nowhere/ca.crt')->actor()->try(
            'cluster_lock',
            'job',
            0
        );

        self::assertStringContainsString('/nowhere/ca.crt', $outcome->warning(), 'It names the file');
    }

    public function testAClientCertificateIsPresented(): void
    {
        $server = $this->server(['tls-auth-clients' => 'yes']);
        $dir = self::certificates();
        $with = $this->dsn($server, '127.0.0.1') . "?ca=$dir/ca.crt&cert=$dir/server.crt&key=$dir/server.key";
        self::assertTrue(
            Cluster::at($with)->actor()->call('cluster_lock', 'job', 0),
            'The server accepts our certificate'
        );
        $outcome = Cluster::at($this->dsn($server, '127.0.0.1') . "?ca=$dir/ca.crt")->actor()->try(
            'cluster_lock',
            'job',
            0
        );

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/' . preg_quote($server->address(), '/') . '/');
    }

    public function testPlainTextToATlsServerIsTold(): void
    {
        $server = $this->server();
        $outcome = Cluster::at($server->dsn())->actor(self::IMPATIENT)->try('cluster_lock', 'job', 0);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/' . preg_quote($server->address(), '/') . '/');
    }

    public function testTlsToAPlainServerIsToldInTime(): void
    {
        $server = RedisServer::own();
        $dsn = 'rediss://' . $server->address() . '?ca=' . self::certificates() . '/ca.crt';
        $outcome = Cluster::at($dsn)->actor(self::IMPATIENT)->try('cluster_lock', 'job', 0);

        self::assertWarns($outcome, 'cluster_lock', '"job"', '/' . preg_quote($server->address(), '/') . '/');
    }

    public function testAForkLeavesTheParentsSessionAlone(): void
    {
        $server = $this->server();
        $cluster = Cluster::at($this->dsn($server, '127.0.0.1') . '?ca=' . self::certificates() . '/ca.crt');
        $process = $cluster->process(<<<'PHP'
            cluster_lock('parent', 0) || exit('not locked');
            $failed = 0;
            for ($i = 0; $i < 20; $i++) {
                if (pcntl_fork() === 0) {
                    exit(cluster_lock("child $i", 0) && cluster_unlock("child $i") ? 0 : 1);
                }
                cluster_lock('other', 0) && cluster_unlock('other') || $failed++;
            }
            while (pcntl_wait($status) > 0) {
                $failed += (int) ($status !== 0);
            }
            say($failed);
            say(cluster_unlock('parent'));
            PHP);
        $process->expect('0', 30);
        $process->expect('true');
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame('', $process->errors(), 'There is nothing to warn of');
    }

    /** @param array<string, string> $options */
    private function server(array $options = []): RedisServer
    {
        $dir = self::certificates();

        return RedisServer::own($options + [
            'port' => '0',
            'tls-port' => RedisServer::PORT,
            'tls-cert-file' => "$dir/server.crt",
            'tls-key-file' => "$dir/server.key",
            'tls-ca-cert-file' => "$dir/ca.crt",
            'tls-auth-clients' => 'no',
        ]);
    }

    private function dsn(RedisServer $server, string $host): string
    {
        return "rediss://$host:{$server->port}";
    }

    /** The directory of ca.crt, server.crt and server.key, made once in a run. */
    private static function certificates(): string
    {
        if (self::$dir === null) {
            $dir = TempDir::forRun();
            $commands = [
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=cluster_lock test CA'"
                    . ' -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign'
                    . " -keyout $dir/ca.key -out $dir/ca.crt",
                "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=localhost'"
                    . " -keyout $dir/server.key -out $dir/server.csr",
                "openssl x509 -req -in $dir/server.csr -CA $dir/ca.crt -CAkey $dir/ca.key -CAcreateserial -days 30"
                    . " -extfile $dir/names -out $dir/server.crt",
            ];
            file_put_contents(
                "$dir/names",
                "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"
            );
            foreach ($commands as $command) {
                exec("$command 2>&1", $lines, $code);
                self::assertSame(0, $code, implode("\n", $lines));
            }
            self::$dir = $dir;
        }

        return self::$dir;
    }
}
