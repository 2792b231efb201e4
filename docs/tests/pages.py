"""Markdown, as far as the pages of this project use it: front matter, fenced blocks, links, headings."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent

FENCE = re.compile(r"^(`{3,})(\S*)\s*$")
MARKER = re.compile(r"^<!-- run: (.*?) -->\s*$")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*?)\s*$")


class Wrong(Exception):
    """A page that does not keep to the form, or whose block does not do what the page says."""


class Skipped(Exception):
    """What cannot be run on this machine, and why."""

    def report(self, what: str) -> None:
        """script/test counts what is left out, as its shell scripts say it (skip in script/lib.sh)."""
        print(f"   skipped: {self}", file=sys.stderr)
        if counted := os.environ.get("CLUSTER_LOCK_SKIPPED"):
            with Path(counted).open("a", encoding="utf-8") as file:
                file.write(f"{what}\n")


@dataclass
class Block:
    page: Path
    line: int
    """Of the fence, counted from 1."""
    kind: str
    text: str
    options: dict[str, str] = field(default_factory=dict)
    """What the comment in front of it says."""
    output: Block | None = None
    log: Block | None = None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass
class Page:
    path: Path
    front: dict
    text: str
    blocks: list[Block]

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    def option(self, name: str) -> str | None:
        """Of a comment that stands in front of no block and holds for the whole page."""
        return self.front.get(name)


def options(text: str) -> dict[str, str]:
    """`a=1 b` as {"a": "1", "b": ""}."""
    return dict(word.partition("=")[::2] for word in text.split())


def read(path: Path) -> Page:
    text = path.read_text()
    front: dict = {}
    lines = text.split("\n")
    start = 0
    if lines[0] == "---":
        end = lines.index("---", 1)
        front = yaml.safe_load("\n".join(lines[1:end])) or {}
        start = end + 1
    blocks: list[Block] = []
    marker: dict[str, str] | None = None
    number = start
    while number < len(lines):
        line = lines[number]
        number += 1
        if found := MARKER.match(line):
            marker = options(found[1])
            continue
        found = FENCE.match(line)
        if not found:
            if line.lstrip().startswith("```"):
                raise Wrong(f"{path.relative_to(ROOT)}:{number}: a fence has to stand at the start of its line, "
                            "with one word behind it at most")
            if line.strip() and marker is not None:
                front |= marker
                marker = None
            continue
        begin = number
        while lines[number] != found[1]:
            number += 1
            if number == len(lines):
                raise Wrong(f"{path.relative_to(ROOT)}:{begin}: the fence is not closed")
        block = Block(path, begin, found[2], "\n".join(lines[begin:number]), marker or {})
        number += 1
        marker = None
        attach(blocks, block)
    return Page(path, front, text, blocks)


def attach(blocks: list[Block], block: Block) -> None:
    """What a run prints, and what it logs, belongs to the block before it."""
    if block.kind in ("output", "log") and not block.options:
        if not blocks or blocks[-1].kind in ("output", "log"):
            raise Wrong(f"{block.place}: {block.kind} of what?")
        setattr(blocks[-1], block.kind, block)
    else:
        blocks.append(block)


def without_blocks(text: str) -> str:
    return re.sub(r"^(`{3,})\S*\s*\n.*?^\1$", "", text, flags=re.M | re.S)


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
    return plain.replace(" ", "-")


def anchors(text: str) -> set[str]:
    return {anchor(found[1]) for line in without_blocks(text).split("\n") if (found := HEADING.match(line))}


def broken_links(page: Page) -> list[str]:
    broken = []
    for target in LINK.findall(re.sub(r"`[^`]*`", "", without_blocks(page.text))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        if not path.exists():
            broken.append(f"{page.name}: there is no {target}")
        elif anchor and anchor not in anchors(path.read_text()):
            broken.append(f"{page.name}: {target}: there is no such heading")
    return broken
