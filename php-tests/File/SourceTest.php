<?php

declare(strict_types=1);

namespace ClusterLock\Tests\File;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;

/**
 * The stream that a write reads from may be closed by code of the user that runs meanwhile.
 */
final class SourceTest extends FileTestCase
{
    /** What reads the stream => and whether the extension itself does. */
    private const WAYS = [
        'cluster_file_put_contents() with LOCK_EX' => 'cluster_file_put_contents($file, $source, LOCK_EX)',
        'cluster_file_put_contents(), appending' => 'cluster_file_put_contents($file, $source, FILE_APPEND)',
        'file_put_contents() with LOCK_EX' => 'file_put_contents($file, $source, LOCK_EX)',
        'file_put_contents(), appending' => 'file_put_contents($file, $source, LOCK_EX | FILE_APPEND)',
    ];

    /** @return iterable<string, array{string, string}> the call, and how the handler closes the stream */
    public static function calls(): iterable
    {
        foreach (self::WAYS as $way => $call) {
            yield "$way, fclose()" => [$call, 'is_resource($GLOBALS["source"]) && fclose($GLOBALS["source"])'];
            yield "$way, the last variable" => [$call, '$GLOBALS["source"] = gc_collect_cycles()'];
        }
    }

    /** @dataProvider calls */
    public function testAHandlerOfASignalMayCloseIt(string $call, string $close): void
    {
        $cluster = Cluster::redis();
        $file = "{$this->dir}/file";
        file_put_contents($file, 'old');
        $holder = $cluster->actor();
        $holder->call('cluster_lock', "file:$file");
        $process = $cluster->process(
            'pcntl_async_signals(true);'
            . "pcntl_signal(SIGUSR1, static function () { $close; say('closed'); });"
            . 'set_error_handler(static function (int $level, string $message) { say($message); return true; });'
            . '$file = ' . var_export($file, true) . '; $source = fopen("php://temp", "w+");'
            . 'fwrite($source, str_repeat("new", 10_000)); rewind($source);'
            . "say('waiting'); say(json_encode($call)); say('goes on');",
            $this->settingsFor($call)
        );
        $process->expect('waiting');
        $cluster->awaitWaiters("file:$file", 1);
        $process->signal(SIGUSR1);
        $process->expect('closed');
        $holder->call('cluster_unlock', "file:$file");
        self::assertSame(0, $process->wait(), $process->transcript());

        if (str_contains($close, 'fclose')) {
            self::assertMatchesRegularExpression(
                '/^waiting\nclosed\n.*\bsource stream was closed\b.*\n(.*\n)?false\ngoes on\n$/',
                $process->output(),
                'It fails, and says why'
            );
            $this->assertUntouched('old', 'nothing could be read');
        } else {
            self::assertStringEndsWith("\n30000\ngoes on\n", $process->output(), 'The call keeps its argument open');
        }
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'No lock stays');
    }

    /** @dataProvider calls */
    public function testAHandlerOfTheWarningMayCloseIt(string $call, string $close): void
    {
        $process = Cluster::at('redis://127.0.0.1:1')->process(
            "set_error_handler(static function () { $close; say('closed'); return true; });"
            . '$file = ' . var_export("{$this->dir}/file", true) . '; $source = fopen("php://temp", "w+");'
            . 'fwrite($source, "new"); rewind($source);'
            . "say(json_encode($call)); say('goes on');",
            $this->settingsFor($call)
        );
        self::assertSame(0, $process->wait(), $process->transcript());

        self::assertStringEndsWith("\ngoes on\n", $process->output());
    }

    public function testAHandlerOfTheWarningOfALossMayCloseIt(): void
    {
        foreach (['is_resource($GLOBALS["source"]) && fclose($GLOBALS["source"])', '$GLOBALS["source"] = null'] as $close) {
            $cluster = Cluster::redis();
            $file = "{$this->dir}/file";
            file_put_contents($file, 'old');
            $process = $cluster->process(
                "set_error_handler(static function (int \$level, string \$message) { $close; say(\$message); return true; });"
                . '$file = ' . var_export($file, true) . '; $source = fopen("php://temp", "w+");'
                . 'fwrite($source, str_repeat("new", 10_000)); rewind($source);'
                . 'cluster_lock("file:$file", null, LOCK_EX, 0.1) || exit("not locked");'
                . 'while (cluster_lock_fence("file:$file") !== null) { usleep(1000); }'
                . 'say(json_encode(cluster_file_put_contents($file, $source, LOCK_EX))); say("goes on");',
                ['cluster_lock.auto_renew' => '0']
            );
            self::assertSame(0, $process->wait(), $process->transcript());

            self::assertStringContainsString('it was held and is lost', $process->output());
            if (str_contains($close, 'fclose')) {
                self::assertStringContainsString('source stream was closed', $process->output());
                self::assertStringEndsWith("\nfalse\ngoes on\n", $process->output());
                $this->assertUntouched('old', 'nothing could be read');
            } else {
                self::assertStringEndsWith("\n30000\ngoes on\n", $process->output(), 'The call keeps its argument open');
            }
        }
    }

    public function testAnElementThatIsConvertedMayChangeTheArray(): void
    {
        $process = Cluster::at('redis://127.0.0.1:1')->process(
            '$text = str_repeat("x", 100); $data = ["a", new class { function __toString(): string {'
            . ' $GLOBALS["data"] = null; $GLOBALS["text"] = null; gc_collect_cycles(); return "b"; } }, &$text, "c"];'
            . 'say(json_encode(cluster_file_put_contents(' . var_export("{$this->dir}/file", true) . ', $data)));'
        );
        self::assertSame(0, $process->wait(), $process->transcript());
        self::assertSame("3\n", $process->output(), 'What the array is when its turn comes');
        self::assertSame('abc', file_get_contents("{$this->dir}/file"));
    }

    /** @return array<string, string> */
    private function settingsFor(string $call): array
    {
        return str_starts_with($call, 'file_put_contents') ? ['cluster_lock.intercept' => $this->dir] : [];
    }
}
