#!/usr/bin/env python3
"""Which PHPs and servers it was run on, in one sentence, from the tables of docs/tested.md: written between the two marks
in README.md. And the range of PHPs, wherever one is named. In the folder where it is called.

  versions.py                              renews both
  versions.py --check                      fails where something else stands
  versions.py --table                      prints the table of script/matrix
  versions.py --record ROW LAST NAME...    puts a row into that table, in the place of the one of the same name, and renews
                                           both. NAMEs are the order; what is not among them comes after LAST
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

TABLES = Path("docs/tested.md")
STATEMENT = Path("README.md")
# What has happened is not written anew.
RANGES = ("*.md", "docs/**/*.md", "cli/*.md", "packaging/**/*.md", "packages/**/*.md", "stubs/*.php", "script/*")
HISTORY = "CHANGELOG.md"
TABLE = re.compile(r"(<!-- matrix:start -->\n(?:\|.*\n){2})((?:\|.*\n)*)(?=<!-- matrix:end -->\n)")
MARKS = re.compile(r"(<!-- versions:start -->\n).*?(<!-- versions:end -->\n)", re.S)
RANGE = re.compile(r"\b8\.\d+ to 8\.\d+\b")
PHP = re.compile(r"\b(\d+\.\d+)\.\d+(?:RC\d+)?\b")
LIBRARY = re.compile(r"\bmusl \d[\d.]*\d\b")
SERVER = re.compile(r"\b(?:Redis|Valkey) \d[\d.]*\d\b")


@dataclass
class Run:
    """What the tables say, each in the order in which it comes; of two that say the same, the first."""
    whole: dict[str, str] = field(default_factory=dict)
    threaded: dict[str, str] = field(default_factory=dict)
    servers: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    libraries: set[str] = field(default_factory=set)

    @property
    def minors(self) -> list[str]:
        return sorted(self.whole, key=number)

    @property
    def range(self) -> str:
        return f"{self.minors[0]} to {self.minors[-1]}"


def number(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def read(text: str) -> Run:
    run, columns = Run(), []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if "PHP" in cells and "failed" in cells:
            columns = cells
        elif not cells:
            columns = []
        elif columns and not set(line) <= set("|-: "):
            row = dict(zip(columns, cells))
            passed = re.match(r"0\b", row["failed"]) is not None
            for server in SERVER.findall(line):
                into = run.servers if passed else run.partly
                if server not in into:
                    into.append(server)
            # A colon comes before what part of the suite it was.
            php = PHP.search(row["PHP"])
            if php and passed and re.match(r"PHPUnit\b(?!:)", row["what ran"]):
                (run.threaded if "ZTS" in row["PHP"] else run.whole).setdefault(php[1], php[0])
                run.libraries |= set(LIBRARY.findall(row["what ran"]))
    if not run.whole:
        sys.exit(f"{TABLES} has no row of a PHP that passed the whole suite")
    return run


def rows(text: str) -> re.Match[str]:
    found = TABLE.search(text)
    if not found:
        sys.exit(f"{TABLES} has lost the table of script/matrix, or its marks")
    return found


def record(row: str, last: str, order: list[str]) -> None:
    text = TABLES.read_text()
    table = rows(text)
    by_name = {name_of(line): line for line in [*table[2].splitlines(), row]}

    def place(name: str) -> tuple[int, int, str]:
        return (order.index(name), 0, "") if name in order else (order.index(last), 1, name)

    lines = [by_name[name] for name in sorted(by_name, key=place)]
    TABLES.write_text(text[:table.start(2)] + "\n".join([*lines, ""]) + text[table.end(2):])


def name_of(row: str) -> str:
    found = re.match(r"\| `([^`]+)`", row)
    if not found:
        sys.exit(f"no row of {TABLES}: {row}")
    return found[1]


def listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def statement(run: Run) -> str:
    whole = [run.whole[minor] for minor in run.minors]
    text = f"The whole suite: PHP {listed(whole)}"
    if run.threaded:
        text += f"; threaded, {listed([run.threaded[minor] for minor in sorted(run.threaded, key=number)])}"
    if run.libraries:
        text += f". Also with {listed(sorted(run.libraries))}"
    text += f". Servers: {listed(sorted(run.servers, key=lambda s: (s.split()[0], number(s))))}"
    partly = [server for server in run.partly if server not in run.servers]
    if partly:
        text += f"; {listed(partly)} but for some tests"
    first, last = number(run.minors[0]), number(run.minors[-1])
    missing = [f"8.{minor}" for minor in range(first[1], last[1]) if f"8.{minor}" not in run.whole]
    if missing:
        text += f". Not PHP {listed(missing)}"
    return text + "."


def wrapped(text: str) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > 120:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line, ""])


def main() -> None:
    if sys.argv[1:] == ["--table"]:
        table = rows(TABLES.read_text())
        print((table[1] + table[2]).partition("\n")[2], end="")
        return
    if sys.argv[1:2] == ["--record"]:
        record(sys.argv[2], sys.argv[3], sys.argv[4:])
    check = sys.argv[1:] == ["--check"]
    run = read(TABLES.read_text())
    wrong = []

    def stands(path: Path, text: str, is_now: str) -> None:
        if is_now == text:
            return
        if check:
            wrong.append(f"{path} does not say what {TABLES} does: script/matrix --versions")
        else:
            path.write_text(text)

    said = STATEMENT.read_text()
    if not MARKS.search(said):
        sys.exit(f"{STATEMENT} has lost its marks for the versions")
    stands(STATEMENT, MARKS.sub(lambda found: found[1] + wrapped(statement(run)) + found[2], said), said)
    for path in sorted({path for glob in RANGES for path in Path().glob(glob) if path.is_file()}):
        if path.name != HISTORY and "node_modules" not in path.parts:
            text = path.read_text()
            stands(path, RANGE.sub(run.range, text), text)
    for path in sorted({Path("composer.json"), *Path().glob("packages/*/composer.json")}):
        asks = json.loads(path.read_text())["require"].get("php")
        if asks != f">={run.minors[0]}":
            wrong.append(f"{path} asks for PHP {asks}, and {TABLES} begins with {run.minors[0]}")
    if wrong:
        sys.exit("\n".join(wrong))


main()
