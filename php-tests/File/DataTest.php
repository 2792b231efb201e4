<?php

declare(strict_types=1);

namespace ClusterLock\Tests\File;

use ClusterLock\Tests\Support\Cluster;
use ClusterLock\Tests\Support\FileTestCase;

/**
 * What may be written: everything that file_put_contents() writes, with the same bytes and the same count.
 */
final class DataTest extends FileTestCase
{
    /** @return array<string, array{string}> PHP code for $data */
    public static function kinds(): array
    {
        $stringable = 'new class { public function __toString(): string { return "stringable"; } }';
        $kinds = [
            '"text"', '""', '"\0binary\xff\r\n"', 'str_repeat("large ", 1000000)',
            '42', '-1', '0', '1.5', '1e100', '-0.0', 'INF', 'true', 'false', 'null',
            '[]', '["a", "b", "c"]', '["a", 1, 2.5, null, true, false]', '["k" => "v", 7 => "w"]',
            $stringable, "['a', $stringable]", 'new Exception("converted") instanceof Stringable ? "yes" : "no"',
            '(function () { $s = fopen("php://memory", "w+"); fwrite($s, "0123456789"); rewind($s); return $s; })()',
            '(function () { $s = fopen("php://memory", "w+"); fwrite($s, "0123456789"); fseek($s, 4); return $s; })()',
            '(function () { $s = fopen("php://memory", "w+"); fwrite($s, "0123456789"); return $s; })()',
            '(function () { $s = fopen("php://temp", "w+"); fwrite($s, random_bytes(8) . str_repeat("x", 3000000)); fseek($s, 8); return $s; })()',
            '(function () { $s = fopen("data:,filtered", "r"); stream_filter_append($s, "string.toupper"); return $s; })()',
            'array_fill(0, 5000, "line\n")',
            '[["nested"]]',
        ];

        return array_combine(
            array_map(static fn ($k) => substr($k, 0, 90), $kinds),
            array_map(static fn ($k) => [$k], $kinds)
        );
    }

    /** @dataProvider kinds */
    public function testItWritesWhatFilePutContentsWrites(string $code): void
    {
        $result = $this->writer()->tryRun(<<<PHP
            \$count = file_put_contents("\$dir/php", $code);
            \$ours = cluster_file_put_contents("\$dir/ours", $code);
            return [\$count, \$ours, file_get_contents("\$dir/php") === file_get_contents("\$dir/ours")];
            PHP, dir: $this->dir);
        self::assertNull($result->thrown, (string) $result->thrown?->full);
        [$count, $ours, $same] = $result->value;

        self::assertSame($count, $ours, 'The count should be the same');
        self::assertTrue($same, 'The bytes should be the same');
        $warnings = array_column($result->warnings, 1);
        self::assertCount(0, array_diff($warnings, ['Array to string conversion']), implode("\n", $warnings));
        self::assertTrue(
            count($warnings) % 2 === 0,
            "PHP's own warnings should come twice: " . implode("\n", $warnings)
        );
        self::assertSame(['ours', 'php'], $this->names(), 'No temporary file may stay');
    }

    public function testAnExistingFileIsReplacedWhole(): void
    {
        $writer = $this->writer();
        foreach ([str_repeat('long ', 100000), 'short', '', 'again'] as $data) {
            self::assertSame(
                strlen($data),
                $writer->call('cluster_file_put_contents', "{$this->dir}/file", $data),
                'The count'
            );
            self::assertSame($data, file_get_contents("{$this->dir}/file"), 'The content');
        }
        self::assertSame(['file'], $this->names(), 'No temporary file may stay');
    }

    /** @return array<string, array{string}> */
    public static function unwritable(): array
    {
        return [
            'an object' => ['new stdClass()'],
            'a closure' => ['static fn () => 1'],
            'a closed stream' => ['(function () { $s = fopen("php://memory", "r"); fclose($s); return $s; })()'],
            'a resource that is no stream' => ['stream_context_create()'],
        ];
    }

    /** @dataProvider unwritable */
    public function testWhatCannotBeWrittenIsRefused(string $code): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $outcome = $this->writer()->tryRun(
            "return cluster_file_put_contents(\$file, $code);",
            file: "{$this->dir}/file"
        );

        self::assertTrue(
            $outcome->value === false || in_array($outcome->thrown?->class, ['TypeError', 'Error'], true),
            'It should be refused'
        );
        $this->assertUntouched('old', 'there was nothing to write');
    }

    public function testAnObjectWithoutTextIsATypeErrorThatNamesTheArgument(): void
    {
        $thrown = $this->writer()->tryRun('cluster_file_put_contents($file, new stdClass());', file: "{$this->dir}/file")->thrown(
            'TypeError'
        );

        self::assertStringStartsWith(
            'cluster_file_put_contents(): Argument #2 ($data) must be ',
            $thrown->message,
            "In PHP's own words"
        );
        self::assertSame([], $this->names(), 'Nothing was written');
    }

    /** @return array<string, array{string, string}> */
    public static function interruptions(): array
    {
        $stringable = 'new class { public function __toString(): string { throw new DomainException("mine"); } }';

        return [
            'an object' => ["return cluster_file_put_contents(\$file, $stringable);", 'DomainException'],
            'an element' => ["return cluster_file_put_contents(\$file, ['a', $stringable, 'b']);", 'DomainException'],
            'an element, locked' => [
                "return cluster_file_put_contents(\$file, ['a', $stringable, 'b'], LOCK_EX);",
                'DomainException',
            ],
            'a stream' => [
                self::BAD_STREAM . 'return cluster_file_put_contents($file, fopen("bad://throw", "r"));',
                'DomainException',
            ],
        ];
    }

    /** A stream of three chunks, at whose second one something happens. */
    private const BAD_STREAM = <<<'PHP'
        if (!in_array('bad', stream_get_wrappers())) {
            eval('final class BadStream {
                public $context;
                private int $reads = 0;
                private string $what;
                public function stream_open($path) { $this->what = parse_url($path, PHP_URL_HOST); return true; }
                public function stream_eof() { return $this->reads > 2; }
                public function stream_stat() { return []; }
                public function stream_read($n) {
                    if (++$this->reads === 2) {
                        match ($this->what) {
                            "throw" => throw new DomainException("mine"),
                            "exit" => exit(7),
                            "fatal" => trigger_error("fatal", E_USER_ERROR),
                            "memory" => str_repeat("x", 500_000_000),
                        };
                    }
                    return str_repeat("x", $n);
                }
            }');
            stream_wrapper_register('bad', 'BadStream');
        }
        PHP . "\n";

    /** @dataProvider interruptions */
    public function testAnExceptionWhileTheDataIsReadLeavesTheOldFile(string $code, string $class): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $cluster = Cluster::local();
        $actor = $cluster->actor();

        self::assertSame(
            'mine',
            $actor->tryRun($code, file: "{$this->dir}/file")->thrown($class)->message,
            'The exception comes through'
        );
        $this->assertUntouched('old', 'an exception ended the write');
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'and no lock may stay');
        self::assertSame(
            3,
            $actor->call('cluster_file_put_contents', "{$this->dir}/file", 'new'),
            'The next write works'
        );
    }

    /** @return array<string, array{string, int}> */
    public static function ends(): array
    {
        return ['exit' => ['exit', 7], 'fatal error' => ['fatal', 255], 'memory limit' => ['memory', 255]];
    }

    /** @dataProvider ends */
    public function testTheEndOfTheRequestWhileTheDataIsReadLeavesTheOldFile(string $how, int $code): void
    {
        file_put_contents("{$this->dir}/file", 'old');
        $cluster = Cluster::local();
        $process = $cluster->process(
            self::BAD_STREAM . "cluster_file_put_contents('{$this->dir}/file', fopen('bad://$how', 'r'), LOCK_EX);"
        );

        self::assertSame($code, $process->wait(), $process->transcript());
        $this->assertUntouched('old', "$how ended the write");
        self::assertSame([], $cluster->observer()->call('cluster_lock_list'), 'and no lock may stay');
    }
}
