#!/usr/bin/env python3
"""Runs every command and code block of the documentation, and checks the rest of it: links, the reference of the
settings, a page for each error message. `script/test docs` calls it.

  run.py                   everything
  run.py docs/faq.md …     these pages only, without the checks that concern all
  run.py --write           writes what blocks really print into the pages; read what has changed
  run.py --all             also what the pages leave to other scripts (elsewhere.py)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import checks
import stand
from blocks import Runner
from elsewhere import Elsewhere
from pages import ROOT, Page, Wrong, broken_links, read

PAGES = ("README.md", "docs/**/*.md", "cli/README.md", "wordpress/README.md", "packages/*/README.md",
         "packaging/**/README.md")


def main() -> int:
    parser = argparse.ArgumentParser(description="runs every block of the documentation")
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="write what blocks really print into the pages")
    parser.add_argument("--all", action="store_true", help="also run what is left to other scripts")
    arguments = parser.parse_args()
    stand.enter()
    began = time.monotonic()
    failures: list[str] = []
    paths = [path.resolve() for path in arguments.pages] or [p for glob in PAGES for p in sorted(ROOT.glob(glob))]
    pages: list[Page] = []
    for path in paths:
        try:
            pages.append(read(path))
        except Wrong as wrong:
            failures.append(str(wrong))
    stand.prepare(read_only=not arguments.write)
    host, elsewhere = stand.Stand(), Elsewhere()
    runner = Runner(host, elsewhere, arguments.write)
    try:
        for page in pages:
            failures += run_page(page, host, runner)
    finally:
        host.end()
    runner.rewrite()
    for page in pages:
        failures += broken_links(page)
    if not arguments.pages:
        failures += checks.everything(pages, host)
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    blocks = sum(len(page.blocks) for page in pages)
    left = sum(map(len, elsewhere.used.values()))
    print(f"   {len(pages)} pages, {blocks} blocks, {left} commands left to other scripts, {len(failures)} failures, "
          f"{time.monotonic() - began:.0f} s")
    if arguments.all and not elsewhere.run():
        return 1
    return 1 if failures else 0


def run_page(page: Page, host: stand.Stand, runner: Runner) -> list[str]:
    """Its blocks one after the other on one host; what fails does not keep the others from being run."""
    failures = []
    if page.blocks:
        host.begin(page.option("stand"))
    for block in page.blocks:
        try:
            if "stand" in block.options:
                host.begin(block.options["stand"])
            runner.run(block)
        except Wrong as wrong:
            failures.append(str(wrong))
        except (RuntimeError, subprocess.TimeoutExpired) as trouble:
            failures.append(f"{block.place}: {trouble}")
    return failures


if __name__ == "__main__":
    sys.exit(main())
