<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use Cluster_Lock\Lock_Table;
use Cluster_Lock\Text;
use DOMDocument;
use DOMElement;
use DOMXPath;
use PHPUnit\Framework\TestCase;

final class LockTableTest extends TestCase
{
    private const NOW = 1_790_000_100.0;

    public function testARowSaysWhoHoldsAndWhoWaits(): void
    {
        $row = self::row(self::lock('theme-css', [self::holder('web1')], [self::waiter('web2'), self::waiter('web3', 'shared')]));
        self::assertSame('theme-css', $row->getAttribute('data-lock'));
        self::assertSame('9007199254740993', $row->getAttribute('data-fence'));
        self::assertSame(['web1'], self::values($row, './/@data-node'));
        self::assertSame(['web2', 'web3'], self::values($row, './/@data-waiter'));
        self::assertSame(['4711'], self::values($row, './/*[@data-node]/@data-pid'));
        self::assertSame('theme-css', self::text($row, 'name'));
        self::assertSame('Exclusive', self::text($row, 'mode'));
        self::assertSame('1 min 40 s', self::text($row, 'held'));
        self::assertSame('7.5 s', self::text($row, 'lease'));
        self::assertSame('9007199254740993', self::text($row, 'fence'));
        self::assertStringContainsString('web1, process 4711', self::text($row, 'holder'));
        self::assertStringContainsString('/wp-admin/options.php', self::text($row, 'holder'));
        self::assertStringContainsString('web3, process 4712, shared, for 40 s', self::text($row, 'waiters'));
        self::assertSame(
            'Held by web1, process 4711, /wp-admin/options.php, for 1 min 40 s.',
            $row->getAttribute('data-held-by')
        );
    }

    public function testARunIsSaidToBeOne(): void
    {
        $run = ['run' => true];
        $row = self::row(self::lock('x', [$run + self::holder('a')], [$run + self::waiter('b'), ['run' => false] + self::waiter('c')]));
        self::assertSame('Exclusive, for a run', self::text($row, 'mode'));
        self::assertStringContainsString('b, process 4712, for a run, for 40 s', self::text($row, 'waiters'));
        self::assertStringContainsString('c, process 4712, for 40 s', self::text($row, 'waiters'));
        $row = self::row(self::lock('x', [['run' => false] + self::holder('a')]));
        self::assertSame('Exclusive', self::text($row, 'mode'));
    }

    public function testScriptsOfTheSiteAreShownWithoutItsPath(): void
    {
        $row = self::row(self::lock('x', [['request_uri' => '/blog/a-post/', 'script' => '/srv/www/index.php'] + self::holder('a')]));
        self::assertStringEndsWith('/blog/a-post/index.php', self::text($row, 'holder'));
        $row = self::row(self::lock('x', [['request_uri' => '/blog/wp-admin/options.php'] + self::holder('a')]));
        self::assertStringEndsWith('process 4711/blog/wp-admin/options.php', self::text($row, 'holder'));
        $row = self::row(self::lock('x', [['script' => '/srv/www2/cron.php', 'request_uri' => ''] + self::holder('a')]));
        self::assertStringContainsString('/srv/www2/cron.php', self::text($row, 'holder'));
        self::assertStringContainsString('/srv/www2/cron.php', $row->getAttribute('data-held-by'));
    }

    public function testTheCodeThatAsksIsNamed(): void
    {
        $theme = '/srv/www/wp-content/themes/x/inc/compiler.php';
        $holder = ['function' => 'Theme::compile', 'file' => $theme, 'line' => 142] + self::holder('a');
        $waiter = ['function' => '', 'file' => '/opt/cron.php', 'line' => 7] + self::waiter('b');
        $row = self::row(self::lock('x', [$holder], [$waiter]));
        self::assertStringEndsWith('Theme::compile() at wp-content/themes/x/inc/compiler.php:142', self::text($row, 'holder'));
        self::assertStringEndsWith('for 40 s/opt/cron.php:7', self::text($row, 'waiters'));
        self::assertSame(
            "Held by a, process 4711, /wp-admin/options.php, Theme::compile() at $theme:142, for 1 min 40 s.",
            $row->getAttribute('data-held-by')
        );
        $unknown = ['function' => '', 'file' => '', 'line' => 0];
        $row = self::row(self::lock('x', [$unknown + self::holder('a')], [$unknown + self::waiter('b')]));
        self::assertSame([], self::values($row, './/*[@class="cluster-lock-call"]'), 'It is not told');
    }

    /** @dataProvider hostileTexts */
    public function testHostileTextsStayText(string $text): void
    {
        $call = ['function' => $text, 'file' => $text, 'line' => 3];
        $holder = ['script' => $text, 'request_uri' => $text] + $call + self::holder($text);
        $row = self::row(self::lock($text, [$holder], [$call + self::waiter($text)]));
        self::assertCount(2, self::values($row, './/*[@class="cluster-lock-call"]'));
        self::assertSame($text, Text::name_of($row->getAttribute('data-lock')));
        self::assertSame([Text::printable($text)], self::values($row, './/@data-node'));
        self::assertSame([Text::printable($text)], self::values($row, './/@data-waiter'));
        $allowed = ['th', 'td', 'ul', 'ol', 'li', 'strong', 'code', 'span', 'br', 'button', 'details', 'summary'];
        self::assertSame([], array_values(array_diff(self::values($row, './/*', 'nodeName'), $allowed)));
        self::assertSame([], self::values($row, './/@*[starts-with(name(), "on")]', 'nodeName'));
    }

    /** @return array<string, array{string}> */
    public static function hostileTexts(): array
    {
        return [
            'a script' => ['<script>alert(1)</script>'],
            'out of an attribute' => ['" onmouseover="alert(1)" x="'],
            'single quotes' => ["' onclick='alert(1)"],
            'an entity' => ['&lt;b&gt; &amp;amp;'],
            'half a tag' => ['<img src=x onerror=alert(1)//'],
            'the end of a comment' => ['--><svg onload=alert(1)>'],
            'placeholders' => ['%s %1$s %d %'],
            'no UTF-8' => ["\xff<b>\xc3("],
            'NUL and others' => ["\0\x1b[31m\u{202e}<i>"],
            'looks encoded' => ['base64:PGI+'],
            'long' => [str_repeat('<b>', 341)],
        ];
    }

    public function testLongNamesAreFoldedAway(): void
    {
        $row = self::row(self::lock(str_repeat('n', 1024), [self::holder('a')]));
        $details = self::values($row, './/details/summary/code');
        self::assertCount(1, $details);
        self::assertSame(120, Text::length($details[0]));
        self::assertSame([str_repeat('n', 1024)], self::values($row, './/details/code'));
    }

    public function testManyHoldersAndWaitersAreCounted(): void
    {
        $holders = array_map(static fn (int $i): array => self::holder("n$i"), range(1, 40));
        $waiters = array_map(static fn (int $i): array => self::waiter("w$i"), range(1, 11));
        $row = self::row(self::lock('x', $holders, $waiters, 'shared'));
        self::assertCount(10, self::values($row, './/@data-node'));
        self::assertStringContainsString('and 30 more', self::text($row, 'holder'));
        self::assertCount(10, self::values($row, './/@data-waiter'));
        self::assertStringContainsString('and 1 more', self::text($row, 'waiters'));
        self::assertStringContainsString('and 30 more', $row->getAttribute('data-held-by'));
    }

    public function testWhomAReportDoesNotNameIsCounted(): void
    {
        $lock = ['more_holders' => 5, 'more_waiters' => 900] + self::lock('x', [self::holder('a')], [self::waiter('b')], 'shared');
        $row = self::row($lock);
        self::assertStringContainsString('and 5 more', self::text($row, 'holder'));
        self::assertStringContainsString('and 5 more', $row->getAttribute('data-held-by'));
        self::assertStringContainsString('and 900 more', self::text($row, 'waiters'));
        self::assertSame('1 lock held, 901 processes waiting.', Lock_Table::summary([$lock], false));
        $dead = ['waiters' => []] + $lock;
        self::assertStringContainsString('and 900 more', self::text(self::row($dead), 'waiters'));
    }

    public function testClocksThatDifferShowNoNegativeTimes(): void
    {
        $row = self::row(['since' => self::NOW + 5] + self::lock('x', [self::holder('a')]));
        self::assertSame('0 ms', self::text($row, 'held'));
    }

    public function testSummary(): void
    {
        $free = self::lock('a', [self::holder('a')]);
        $waited = self::lock('b', [self::holder('a')], [self::waiter('b'), self::waiter('c')]);
        self::assertSame('No lock is held.', Lock_Table::summary([], false));
        self::assertSame('1 lock held, 0 processes waiting.', Lock_Table::summary([$free], false));
        self::assertSame('2 locks held, 2 processes waiting.', Lock_Table::summary([$free, $waited], false));
        self::assertStringStartsWith('The first 1,000 locks', Lock_Table::summary(array_fill(0, 1000, $free), true));
    }

    /**
     * @param list<array<string, mixed>> $holders
     * @param list<array<string, mixed>> $waiters
     * @return array<string, mixed>
     */
    private static function lock(string $name, array $holders, array $waiters = [], string $mode = 'exclusive'): array
    {
        $lock = compact('name', 'mode', 'holders', 'waiters');

        return $lock + ['fence' => 9_007_199_254_740_993, 'ttl' => 7.5, 'since' => self::NOW - 100];
    }

    /** @return array<string, mixed> */
    private static function holder(string $node): array
    {
        return [
            'node' => $node, 'pid' => 4711, 'sapi' => 'fpm-fcgi', 'script' => '/srv/www/wp-admin/options.php',
            'request_uri' => '/wp-admin/options.php', 'since' => self::NOW - 100, 'fence' => 9_007_199_254_740_993,
        ];
    }

    /** @return array<string, mixed> */
    private static function waiter(string $node, string $mode = 'exclusive'): array
    {
        return ['node' => $node, 'pid' => 4712, 'since' => self::NOW - 40, 'mode' => $mode];
    }

    /** @param array<string, mixed> $lock */
    private static function row(array $lock): DOMElement
    {
        $html = Lock_Table::html(Lock_Table::row($lock, self::NOW, '/srv/www/'));
        self::assertNotFalse(json_encode(Lock_Table::row($lock, self::NOW, '/srv/www/')), json_last_error_msg());
        $document = new DOMDocument();
        $wasInternal = libxml_use_internal_errors(true);
        $document->loadHTML('<?xml encoding="utf-8"?><table>' . $html . '</table>');
        libxml_clear_errors();
        libxml_use_internal_errors($wasInternal);
        $rows = $document->getElementsByTagName('tr');
        self::assertSame(1, $rows->length);
        $row = $rows->item(0);
        self::assertInstanceOf(DOMElement::class, $row);

        return $row;
    }

    private static function text(DOMElement $row, string $column): string
    {
        $found = self::values($row, ".//*[@class='column-$column']");
        self::assertCount(1, $found);

        return $found[0];
    }

    /** @return list<string> */
    private static function values(DOMElement $row, string $query, string $property = 'textContent'): array
    {
        $values = [];
        foreach ((new DOMXPath($row->ownerDocument))->query($query, $row) as $node) {
            $values[] = $node->$property;
        }

        return $values;
    }
}
