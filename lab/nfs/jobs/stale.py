"""Staleness: B has looked at a file; A replaces it (rename), rewrites it or creates it. How long does B see the old one?

Arguments: versions=4.0,4.1 limit=15 (seconds, after which "still old" is the answer)
"""

from __future__ import annotations

import os
import time

from lab import EXPORT, Php, arguments, mounted, now, path, record

OLD, NEW = "old", "newer!"
WARM_UP = 1.5  # seconds in which B looks again and again, so that its cache is in use
PAUSE = 0.05


class Case:
    """Every case has a directory of its own: refreshing one would refresh its neighbours."""

    def __init__(self, version: str, change: str, view: str, refresh: bool):
        self.change, self.view, self.refresh = change, view, refresh
        directory = f"stale.{version}.{change}.{view}.{'refresh' if refresh else 'plain'}"
        (EXPORT / directory).mkdir()
        if change != "create":
            (EXPORT / directory / "file").write_text(OLD)
        name = f"{directory}/file"
        # What the file is made from has another name only when it is renamed.
        self.source = path("a", version, name) + (".new" if change == "rename" else "")
        self.writer = Php("a", "stale", "gate", path=path("a", version, name), refresh=False)
        self.watcher = Php("b", "stale", "gate", path=path("b", version, name), refresh=refresh)
        for process in (self.writer, self.watcher):
            process.hear()
        self.stale_ms, self.cost_ms = None, None

    def look(self) -> dict:
        self.watcher.tell(self.view)
        return self.watcher.hear()

    def fresh(self, known: dict) -> bool:
        return known.get("size") == len(NEW)

    def change_it(self) -> None:
        self.writer.tell(f"write {self.source} {NEW}")
        self.changed = self.writer.hear()["done"]


def main() -> None:
    given = arguments()
    limit = float(given["limit"])
    for version in given["versions"].split(","):
        with mounted(version):
            cases = [Case(version, change, view, refresh)
                     for change in ("rename", "rewrite", "create") for view in ("stat", "open") for refresh in (False, True)]
            os.sync()
            end = time.monotonic() + WARM_UP
            while time.monotonic() < end:
                for case in cases:
                    case.look()
                time.sleep(PAUSE)
            for case in cases:
                case.change_it()
                first = case.look()
                case.cost_ms = first["cost_ms"]
                case.at_once = case.fresh(first)
                if case.at_once:
                    case.stale_ms = (first["at"] - case.changed) / 1e6
            while any(case.stale_ms is None and now() - case.changed < limit * 1e9 for case in cases):
                for case in cases:
                    if case.stale_ms is None:
                        known = case.look()
                        if case.fresh(known):
                            case.stale_ms = (known["at"] - case.changed) / 1e6
                time.sleep(PAUSE)
            for case in cases:
                record("stale", version=version, change=case.change, view=case.view,
                       way="cluster_clearstatcache" if case.refresh else "clearstatcache", at_once=case.at_once,
                       stale_ms=None if case.stale_ms is None else round(case.stale_ms, 1), limit_s=limit,
                       call_ms=round(case.cost_ms, 2))
                for process in (case.writer, case.watcher):
                    process.finish()


main()
