<?php

declare(strict_types=1);

namespace ClusterLock\Tests\LifeCycle;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\Fpm;
use ClusterLock\Tests\Support\TempDir;
use ClusterLock\Tests\Support\TestCase;

/**
 * A session's handler in PHP writes when the request ends, after its last line: what it has locked is held until then.
 */
final class SessionTest extends TestCase
{
    private const HANDLER = <<<'PHP'
        final class Handler implements SessionHandlerInterface
        {
            public function __construct(private string $file) {}
            public function open($path, $name): bool { return true; }
            public function close(): bool { return true; }
            public function destroy($id): bool { return true; }
            public function gc($lifetime): int { return 0; }
            // Without these two, PHP 8.6 warns of PHP 9.
            public function create_sid(): string { return 'one'; }
            public function validateId($id): bool { return true; }

            public function read($id): string
            {
                cluster_lock('session') || exit('not locked');

                return (string) file_get_contents($this->file);
            }

            public function write($id, $data): bool
            {
                // Whoever got in meanwhile has read by now.
                usleep(2000);

                return file_put_contents($this->file, $data) !== false;
            }
        }
        $handler = new Handler($_GET['file']);
        if ($_GET['how'] === 'object') {
            session_set_save_handler($handler, false);
        } else {
            // Deprecated since PHP 8.4, and there.
            @session_set_save_handler([$handler, 'open'], [$handler, 'close'], [$handler, 'read'], [$handler, 'write'],
                [$handler, 'destroy'], [$handler, 'gc']);
        }
        session_id('one');
        session_start(['use_cookies' => 0, 'use_strict_mode' => 0, 'cache_limiter' => '']);
        $_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
        echo 'ok';
        PHP;

    /** @return array<string, array{string}> */
    public static function ways(): array
    {
        return ['an object' => ['object'], 'callbacks' => ['callbacks']];
    }

    /** @dataProvider ways */
    public function testNoChangeIsLost(string $how): void
    {
        if (!extension_loaded('session')) {
            self::markTestSkipped('This PHP has no sessions.');
        }
        $cluster = Cluster::redis();
        $fpm = new Fpm($cluster->settings(), 4);
        $file = TempDir::forTest() . '/session';
        touch($file);
        for ($round = 0; $round < 10; $round++) {
            $requests = [];
            for ($i = 0; $i < 4; $i++) {
                $requests[] = $fpm->begin(self::HANDLER, ['file' => $file, 'how' => $how]);
            }
            foreach ($requests as $request) {
                self::assertSame('ok', $request->body());
            }
        }
        // The answer may be there before the end of the request is.
        self::assertTrue($cluster->observer()->call('cluster_lock', 'session', 20));

        self::assertSame('count|i:40;', file_get_contents($file));
    }
}
