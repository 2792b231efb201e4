<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use Cluster_Lock\Text;
use PHPUnit\Framework\TestCase;

final class TextTest extends TestCase
{
    /** @dataProvider printables */
    public function testBytesBecomePrintableText(string $bytes, string $text): void
    {
        self::assertSame($text, Text::printable($bytes));
    }

    /** @return array<string, array{string, string}> */
    public static function printables(): array
    {
        return [
            'plain' => ['theme-css', 'theme-css'],
            'other scripts' => ['тема 主题 é 😀', 'тема 主题 é 😀'],
            'HTML stays text' => ['<b>"&\'', '<b>"&\''],
            'no UTF-8' => ["a\xffb\xc3", 'a\xffb\xc3'],
            'overlong and surrogates' => ["\xc0\xaf\xed\xa0\x80", '\xc0\xaf\xed\xa0\x80'],
            'control characters' => ["a\0b\nc\x7f", 'a\u{0}b\u{a}c\u{7f}'],
            'a change of direction' => ["safe\u{202e}txt.exe", 'safe\u{202e}txt.exe'],
            'a line separator' => ["a\u{2028}b", 'a\u{2028}b'],
            'a tag of plane 14' => ["x\u{e0041}", 'x\u{e0041}'],
        ];
    }

    public function testIdentifiersComeBackAsTheNames(): void
    {
        self::assertSame('theme-css', Text::id('theme-css'));
        self::assertSame('base64:YQBi', Text::id("a\0b"));
        self::assertSame('base64:' . base64_encode('base64:YQBi'), Text::id('base64:YQBi'));

        mt_srand(5);
        for ($i = 0; $i < 2000; ++$i) {
            $name = '';
            for ($length = mt_rand(1, 40); $length > 0; --$length) {
                $name .= chr(mt_rand(0, 255));
            }
            $id = Text::id($name);
            self::assertSame($name, Text::name_of($id));
            self::assertNotFalse(json_encode($id), bin2hex($name));
        }
    }

    public function testAnIdentifierThatIsNoName(): void
    {
        self::assertNull(Text::name_of(''));
        self::assertNull(Text::name_of('base64:'));
        self::assertNull(Text::name_of('base64:***'));
        self::assertNull(Text::name_of(str_repeat('x', 1025)));
        self::assertSame(str_repeat('x', 1024), Text::name_of(str_repeat('x', 1024)));
    }

    public function testLongTextsKeepBothEnds(): void
    {
        self::assertSame('short', Text::shortened('short', 5));
        self::assertSame('abcdefg…yz', Text::shortened('abcdefghijklmnopqrstuvwxyz', 10));
        self::assertSame(10, Text::length(Text::shortened(str_repeat('é', 500), 10)));
    }

    /** @dataProvider durations */
    public function testDurations(float $seconds, string $text): void
    {
        self::assertSame($text, Text::duration($seconds));
    }

    /** @return list<array{float, string}> */
    public static function durations(): array
    {
        return [
            [-3.0, '0 ms'], [0.0, '0 ms'], [0.00002, '0.1 ms'], [0.00014, '0.1 ms'], [0.001, '1 ms'], [0.0099, '9.9 ms'], [0.00997, '10 ms'],
            [0.05, '50 ms'], [0.1, '0.1 s'], [1.0, '1 s'], [1.25, '1.3 s'], [9.94, '9.9 s'], [9.96, '10 s'],
            [59.4, '59 s'], [59.6, '1 min'], [61.0, '1 min 1 s'], [3599.0, '59 min 59 s'], [3600.0, '1 h'],
            [3660.0, '1 h 1 min'], [86399.0, '23 h 59 min'], [86400.0, '1 d'], [180000.0, '2 d 2 h'],
            [INF, 'unlimited time'],
        ];
    }

    public function testQueryStringsAreLeftOut(): void
    {
        self::assertSame('/wp-login.php', Text::path_of('/wp-login.php?action=rp&key=s3cret'));
        self::assertSame('', Text::path_of('?key=s3cret'));
        self::assertSame('/a', Text::path_of('/a#b'));
        self::assertSame(200, Text::length(Text::path_of('/' . str_repeat('ä', 5000))));
    }
}
