"""Checks what the lab has measured, prints it, and keeps it: latest.json, table.md, and docs/flock.md's table; and in
theme.json, which README's first table is made from (docs/tests/figures.py), what became of a theme."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import checks
import table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def words(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except OSError:
        return ""


def machine(php: str, guest: Path) -> dict:
    kernels = sorted(kernel.name for kernel in (guest / "usr/lib/uml/modules").iterdir())
    redis = re.search(r"v=(\S+)", words("redis-server", "--version"))
    return {
        "date": datetime.date.today().isoformat(), "cpus": os.cpu_count(), "host_kernel": platform.release(),
        "guest_kernel": kernels[-1] if kernels else "", "php": words(php, "-n", "-r", "echo PHP_VERSION;"),
        "redis": redis[1] if redis else "", "load": os.getloadavg()[0],
    }


def renew_page(text: str) -> None:
    """What stands between the markers, if there are any."""
    page = ROOT / "docs/flock.md"
    old = page.read_text()
    new = re.sub(r"(<!-- lab:start -->\n).*?(<!-- lab:end -->)", lambda m: m[1] + text + m[2], old, flags=re.S)
    if new != old:
        page.write_text(new)
        print("docs/flock.md: table renewed; for README's numbers: script/test docs -- --write")


def keep(name: str, what: dict) -> None:
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / name).write_text(json.dumps(what, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--php", required=True)
    parser.add_argument("--guest", required=True, type=Path, help="the unpacked packages")
    parser.add_argument("--short", action="store_true", help="what is a matter of pace is printed, and not held")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--save-theme", action="store_true", help="theme.json alone")
    parser.add_argument("results", type=Path)
    given = parser.parse_args()

    results = [json.loads(line) for line in given.results.read_text().splitlines()]
    done = checks.run(results)
    if given.short:
        for figure in (check for check in done if check.pace):
            print(figure.figure())
        done = [check for check in done if not check.pace]
    for check in done:
        print(check)
    about = machine(given.php, given.guest)
    text = table.markdown(results, about)
    if text.count("\n") > 4:
        print("\n" + text)
    of_theme = [result for result in results if result["job"] == "theme"]
    if of_theme and (given.save or given.save_theme):
        # Of one version alone: those of the others stay.
        file, now = HERE / "results/theme.json", {result["version"] for result in of_theme}
        before = json.loads(file.read_text())["results"] if file.exists() else []
        keep("theme.json", {"about": about, "results": [r for r in before if r["version"] not in now] + of_theme})
        print("theme.json renewed; for README's table: script/test docs -- --write")
    if given.save:
        others = [result for result in results if result["job"] != "theme"]
        keep("latest.json", {"about": about, "checks": [vars(check) for check in done], "results": others})
        (HERE / "results/table.md").write_text(text)
        if all(check.ok for check in done):
            renew_page(text)
    if not done:
        print("no checks: nothing that was measured has any")
    sys.exit(0 if all(check.ok for check in done) else 1)


if __name__ == "__main__":
    main()
