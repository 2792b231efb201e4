<?php

declare(strict_types=1);

namespace Cluster_Lock\Tests;

use Cluster_Lock\Waits;
use Cluster_Lock\Waits_View;
use PHPUnit\Framework\TestCase;

final class WaitsTest extends TestCase
{
    private const NOON = 1_790_000_000 - 1_790_000_000 % 3600;

    public function testWaitsAddUpByTheHour(): void
    {
        $waits = new Waits();
        $waits->add(self::request(self::NOON + 10, 0.5), 1.0);
        $waits->add(self::request(self::NOON + 3599, 2.25, 3, 1), 1.0);
        $waits->add(self::request(self::NOON + 3600, 0.1), 1.0);

        $series = $waits->series(self::NOON + 3700);
        self::assertCount(48, $series);
        self::assertSame(
            ['at' => self::NOON, 'requests' => 2, 'waits' => 4, 'seconds' => 2.75, 'longest' => 2.25, 'timed_out' => 1],
            $series[46]
        );
        self::assertSame(0.1, $series[47]['seconds']);
        self::assertSame(0, $series[0]['requests']);
        self::assertSame(
            ['requests' => 1, 'waits' => 1, 'seconds' => 0.1, 'longest' => 0.1, 'timed_out' => 0],
            $waits->totals(self::NOON + 3700, 1)
        );
        self::assertSame(3, $waits->totals(self::NOON + 3700, 24)['requests']);
        self::assertSame(0, $waits->totals(self::NOON + 50 * 3600, 24)['requests']);
    }

    public function testOldHoursAndThoseOfAWrongClockAreForgotten(): void
    {
        $waits = new Waits();
        $waits->add(self::request(self::NOON + 500 * 3600, 1.5), 1.0);
        $waits->add(self::request(self::NOON - 48 * 3600, 1.5), 1.0);
        $waits->add(self::request(self::NOON - 47 * 3600, 1.5), 1.0);
        $waits->add(self::request(self::NOON, 1.5), 1.0);
        self::assertSame(
            [intdiv(self::NOON, 3600) - 47, intdiv(self::NOON, 3600)],
            array_keys($waits->as_array()['hours'])
        );
    }

    public function testOnlySlowRequestsAreRemembered(): void
    {
        $waits = new Waits();
        $waits->add(self::request(self::NOON, 0.9), 1.0);
        $waits->add(self::request(self::NOON + 1, 0.2, 1, 1), 1.0);
        for ($i = 0; $i < 60; ++$i) {
            $waits->add(self::request(self::NOON + 2 + $i, 1.0 + $i), 1.0);
        }
        $slow = $waits->slow();
        self::assertCount(50, $slow);
        self::assertSame([60.0, 59.0], [$slow[0]['seconds'], $slow[1]['seconds']]);
    }

    public function testASmallSizeWhateverHappens(): void
    {
        $waits = new Waits();
        for ($i = 0; $i < 5000; ++$i) {
            $request = ['uri' => str_repeat('x', 200)] + self::request(self::NOON + $i * 60, 3.0);
            $waits->add($request, 1.0);
        }
        self::assertLessThan(32768, strlen(serialize($waits->as_array())));
    }

    public function testStoredAndReadAgain(): void
    {
        $waits = new Waits();
        $waits->add(self::request(self::NOON, 1.5), 1.0);
        self::assertEquals($waits, Waits::of(unserialize(serialize($waits->as_array()))));
    }

    /**
     * @dataProvider rubbish
     * @param mixed $value
     */
    public function testRubbishInTheDatabaseIsAsGoodAsNothing($value): void
    {
        self::assertEquals(new Waits(), Waits::of($value));
    }

    /** @return list<array{mixed}> */
    public static function rubbish(): array
    {
        return [
            [false], [null], ['x'], [[]], [['hours' => 1, 'slow' => 'x']], [['hours' => ['x' => 1, 3 => [1]], 'slow' => [1, ['at' => 2]]]],
        ];
    }

    public function testTheViewEscapesWhatRequestsSay(): void
    {
        $waits = new Waits();
        $request = ['uri' => '/<script>alert(1)</script>', 'node' => '"><b>'] + self::request(self::NOON, 5.0);
        $waits->add($request, 1.0);
        $data = Waits_View::data($waits, self::NOON);
        self::assertStringNotContainsString('<script', implode('', $data['html']));
        self::assertStringContainsString('/&lt;script&gt;', $data['html']['slow']);
        self::assertStringContainsString('&quot;&gt;&lt;b&gt;', $data['html']['slow']);
        self::assertStringContainsString('<strong>5 s</strong> in all', $data['html']['figures']);
    }

    public function testTheViewOfNothing(): void
    {
        $data = Waits_View::data(new Waits(), self::NOON);
        self::assertStringContainsString('None.', $data['html']['slow']);
        self::assertStringContainsString('None.', $data['html']['hours']);
        self::assertCount(48, $data['series']);
    }

    /** @return array{at: int, node: string, uri: string, waits: int, seconds: float, timed_out: int} */
    private static function request(int $at, float $seconds, int $waits = 1, int $timedOut = 0): array
    {
        return ['at' => $at, 'node' => 'a', 'uri' => '/x', 'waits' => $waits, 'seconds' => $seconds, 'timed_out' => $timedOut];
    }
}
