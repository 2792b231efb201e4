"""What one run knows: where things are, how much to measure, what came out."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, Sequence

from .worker import OUR_SYMFONY, OURS


@dataclass
class Run:
    php: str
    fpm: str | None
    tmp: Path
    delay_proxy: Path
    crowd: Path
    ini_plain: Path
    ini_ours: Path
    quick: bool
    long: bool
    results: dict = field(default_factory=dict)
    targets: list = field(default_factory=list)

    def amount(self, quick: int, normal: int) -> int:
        """How often: the smaller number with --quick."""
        return quick if self.quick else normal

    def say(self, text: str) -> None:
        print(text, flush=True)

    def progress(self, text: str) -> None:
        """A line that is replaced by the next one, on a terminal only."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def target(self, text: str, value: float | None, met: bool | None, unit: str = "") -> None:
        """A line of the target list; met is None when it was not measured."""
        shown = "not measured" if value is None else f"{value:.4g}{unit}"
        self.targets.append({"target": text, "measured": shown, "met": met})

    def versus(self, text: str, ratio: dict | None, limit: float, at_least: bool = False) -> None:
        """A target on the median of a ratio."""
        value = ratio["median"] if ratio else None
        met = None if value is None else (value >= limit if at_least else value <= limit)
        self.target(text, value, met, "x")


@contextmanager
def stopping(things: list) -> Iterator[list]:
    """Stops everything in the list at the end, last one first."""
    try:
        yield things
    finally:
        for thing in reversed(things):
            thing.stop()


def rotated(items: Sequence, by: int) -> list:
    """The items, starting with another one each round: nobody always follows the same neighbour."""
    by %= len(items)
    return [*items[by:], *items[:by]]


__all__ = ["OURS", "OUR_SYMFONY", "Run", "rotated", "stopping"]
