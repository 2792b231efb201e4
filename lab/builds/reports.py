#!/usr/bin/env python3
"""What tests reported: PHPUnit's .xml and cargo's .log in the folder given. Where its folder again/ is, what failed was run
once more there, by itself.

  reports.py cells FOLDER...    tests, failed and skipped, added up, as the cells of a table's row
  reports.py again FOLDER       the names of what failed; nothing when nothing did
  reports.py sound FOLDER       fails where something failed in the end, or never came to its end
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree


@dataclass
class Report:
    tests: int = 0
    failed: int = 0
    skipped: int = 0
    # Without their data sets.
    names: set[str] = field(default_factory=set)

    def add_phpunit(self, file: Path) -> None:
        if not file.stat().st_size:
            sys.exit(f"{file}: PHPUnit ended in the midst")
        # The first suite holds all others.
        whole = ElementTree.parse(file).getroot().find("testsuite")
        if whole is None:
            return
        self.tests += int(whole.get("tests", 0))
        self.failed += sum(int(whole.get(kind, 0)) for kind in ("errors", "warnings", "failures"))
        self.skipped += int(whole.get("skipped", 0))
        for case in whole.iter("testcase"):
            if any(case.find(kind) is not None for kind in ("error", "failure", "warning")):
                self.names.add(f"{case.get('class', '').split(chr(92))[-1]}::{case.get('name', '').split(' ')[0]}")

    def add_cargo(self, file: Path) -> None:
        text = file.read_text(errors="replace")
        results = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", text, re.M)
        if not results or len(results) != len(re.findall(r"^ +Running \S", text, re.M)):
            sys.exit(f"{file}: a test program ended in the midst")
        for passed, failed, ignored in results:
            self.tests += int(passed) + int(failed) + int(ignored)
            self.failed += int(failed)
            self.skipped += int(ignored)
        self.names.update(re.findall(r"^test (\S+).* \.\.\. FAILED$", text, re.M))


def read(folder: Path) -> Report:
    report = Report()
    for file in sorted(folder.glob("*.xml")):
        report.add_phpunit(file)
    for file in sorted(folder.glob("*.log")):
        report.add_cargo(file)
    if not report.tests:
        sys.exit(f"{folder}: nothing was run")
    return report


def after_all(folder: Path) -> tuple[Report, Report]:
    """What it was at first, and what became of what failed."""
    first = read(folder)
    again = folder / "again"
    last = read(again) if again.is_dir() else first
    if last.tests < len(first.names):
        sys.exit(f"{again}: {last.tests} tests for the {len(first.names)} that had failed")
    return first, last


def main() -> None:
    what, folders = sys.argv[1], [Path(argument) for argument in sys.argv[2:]]
    if what == "again":
        print("\n".join(sorted(read(folders[0]).names)))
    elif what == "sound":
        first, last = after_all(folders[0])
        if first.failed and last is first or last.failed:
            sys.exit(f"failed: {', '.join(sorted(last.names))}")
    elif what == "cells":
        both = [after_all(folder) for folder in folders]
        at_first, at_last = (sum(pair[i].failed for pair in both) for i in (0, 1))
        failed = str(at_last) if at_first == at_last else f"{at_last} ({at_first} at first)"
        print(f"{sum(first.tests for first, _ in both)} | {failed} | {sum(first.skipped for first, _ in both)}")
    else:
        sys.exit(__doc__)


main()
