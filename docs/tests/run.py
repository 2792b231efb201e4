#!/usr/bin/env python3
"""Runs every command and code block of the documentation, and checks the rest of it: links, the reference of the
settings, the alerts, a page for each error message. `script/test docs` calls it.

  run.py                   everything
  run.py docs/faq.md …     these pages only, without the checks that concern all
  run.py --write           writes what blocks really print into the pages; read what has changed
  run.py --all             also what the pages leave to other scripts (elsewhere.py)
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import checks
from blocks import Runner
from elsewhere import Elsewhere
from host import Host, on_hosts, prepare
from pages import ROOT, Page, Skipped, Wrong, broken_links, read

PAGES = ("README.md", "docs/**/*.md", "cli/README.md", "packages/*.md", "packages/*/README.md", "packaging/**/README.md")
# Pages wait more than they compute: hosts side by side.
HOSTS = 4


def main() -> int:
    parser = argparse.ArgumentParser(description="runs every block of the documentation")
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="write what blocks really print into the pages")
    parser.add_argument("--all", action="store_true", help="also run what is left to other scripts")
    parser.add_argument("--host", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    paths = [path.resolve() for path in arguments.pages] or [
        path for glob in PAGES for path in sorted(ROOT.glob(glob)) if path.parent.name != "wrong"]
    if arguments.host is not None:
        print(json.dumps(inside(paths, arguments)))
        return 0
    began = time.monotonic()
    try:
        reports = [json.loads(said) for said in on_hosts(min(HOSTS, len(paths)), sys.argv)]
    except Skipped as why:
        why.report("docs")
        return 0
    failures = [failure for report in reports for failure in report["failures"]]
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    left = {key: sum(report["left"].get(key, 0) for report in reports) for report in reports for key in report["left"]}
    print(f"   {len(paths)} pages, {sum(report['blocks'] for report in reports)} blocks, {sum(left.values())} commands "
          f"left to other scripts, {len(failures)} failures, {time.monotonic() - began:.0f} s")
    if arguments.all and not Elsewhere.run(sorted(left)):
        return 1
    return 1 if failures else 0


def inside(paths: list[Path], arguments: argparse.Namespace) -> dict:
    """On one of the hosts: its share of the pages; on the first one also what concerns all."""
    failures: list[str] = []
    pages: list[Page] = []
    for path in paths:
        try:
            pages.append(read(path))
        except Wrong as wrong:
            failures.append(str(wrong))
    prepare(arguments.write)
    host, elsewhere = Host(), Elsewhere()
    runner = Runner(host, elsewhere, arguments.write)
    share = pages[arguments.host::min(HOSTS, len(paths))]
    try:
        for page in share:
            failures += run_page(page, host, runner)
            failures += broken_links(page)
        runner.rewrite()
        if arguments.host == 1:
            failures += unseen(host)
        if arguments.host == 0 and not arguments.pages:
            failures += checks.everything(pages, host, arguments.write)
    finally:
        host.end()
    return {"failures": failures, "blocks": sum(len(page.blocks) for page in share),
            "left": {cover.by: len(commands) for cover, commands in elsewhere.used.items()}}


def unseen(host: Host) -> list[str]:
    """The pages in wrong/ are wrong, each block of them: whoever does not see that sees nothing in the others."""
    runner, missed = Runner(host, Elsewhere(), write=False), []
    for path in sorted((Path(__file__).parent / "wrong").glob("*.md")):
        try:
            page = read(path)
        except Wrong:
            continue
        wrong = run_page(page, host, runner) + broken_links(page)
        if len(wrong) != max(len(page.blocks), 1):
            missed.append(f"{page.name}: of its {len(page.blocks)} wrong blocks {len(wrong)} were seen: {wrong}")
    return missed


def run_page(page: Page, host: Host, runner: Runner) -> list[str]:
    """Its blocks one after the other on one host; what fails does not keep the others from being run."""
    failures = []
    of = str(page.path.parent.relative_to(ROOT)).replace("/", "-")
    if page.blocks:
        host.begin(page.option("stand"), of)
    for block in page.blocks:
        try:
            if "stand" in block.options:
                host.begin(block.options["stand"], of)
            runner.run(block)
        except Wrong as wrong:
            failures.append(str(wrong))
        except Skipped as why:
            why.report("blocks")
        except Exception as trouble:  # noqa: BLE001 - the other blocks are to be run all the same
            failures.append(f"{block.place}: {trouble!r}")
    return failures


if __name__ == "__main__":
    sys.exit(main())
