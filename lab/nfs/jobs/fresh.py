"""cluster_file_build(): sources are changed on both nodes, during, before and after builds on both. A call that returns true has
to leave what was true when it began: is there one whose file lacks a change that was complete by then?

Arguments: versions=4.0,4.1 variants=none,gate changes=2000 (of both nodes) per_node=2 (who build)

The variant `none` builds when a source is dated later than the stylesheet, as themes do: it must be found out.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict

from lab import EXPORT, NODES, Php, arguments, mounted, path, record

# In place, by rename, deleted or linked to; and one behind a link to a directory.
SOURCES = {node: [*(f"from/{node}-{i}" for i in range(4)), f"from/{node}-current/file"] for node in NODES}
NUMBER = re.compile(r"\d{12}")


class History:
    """What became of one source: only one process changes it, so its changes have an order."""

    def __init__(self, changes: list[dict]):
        self.changes = changes
        self.done = [change["done"] for change in changes]

    def allows(self, call: dict, has: str | None) -> bool:
        """Whether a call may have left this: the last change that was complete when it began, or a later one that had begun
        when it ended. While one is under way a file may also be seen empty, or missing."""
        complete = bisect.bisect_right(self.done, call["began"])
        possible = self.changes[max(0, complete - 1):]
        possible = [change for change in possible if change["began"] < call["done"]]
        if complete == 0:
            return True  # or what was there at first
        if has is None or not NUMBER.fullmatch(has):
            return len(possible) > 1 or (has is None and possible[0]["has"] is None)
        return int(has) in [change["has"] for change in possible]


def measure(version: str, variant: str, changes: int, per_node: int) -> dict:
    name = f"fresh.{version}.{variant}"
    for directory in ("from", "other", "made"):
        (EXPORT / name / directory).mkdir(parents=True)
    everything = [source for node in NODES for source in SOURCES[node]]
    changers = [Php(node, "fresh", "none", role="changer", dir=path(node, version, name), seed=number,
                    sources=SOURCES[node], changes=changes // len(NODES)) for number, node in enumerate(NODES)]
    for changer in changers:
        changer.hear()
    # The lock server answers when it gets the CPU that plays all nodes.
    ini = {"cluster_lock.connect_timeout": 20, "cluster_lock.command_timeout": 20} if variant != "none" else {}
    builders = [Php(node, "fresh", variant, ini=ini, role="builder", dir=path(node, version, name), seed=100 + 10 * number + i,
                    sources=everything) for i in range(per_node) for number, node in enumerate(NODES)]
    for builder in builders:
        builder.hear()
    for process in builders + changers:
        process.tell("go")
    of_source = defaultdict(list)
    for changer in changers:
        for change in changer.hear(900)["changes"]:
            of_source[change["source"]].append(change)
        changer.finish()
    for builder in builders:
        builder.tell("stop")
    calls = []
    for builder in builders:
        calls += builder.hear()["calls"]
        builder.finish()

    histories = {source: History(of_source[source]) for source in everything}
    old, example = 0, ""
    for call in calls:
        wrong = [source for source, history in histories.items() if not history.allows(call, (call["has"] or {}).get(source))]
        if wrong:
            old += 1
            last = [c for c in histories[wrong[0]].changes if c["done"] <= call["began"]][-1]
            example = example or (f"{wrong[0]} has {call['has'] and call['has'][wrong[0]]}, but {last['kind']} "
                                  f"{last['has']} was done {(call['began'] - last['done']) / 1e6:.1f} ms before the call, "
                                  f"which {'built' if call['built'] else 'found it fresh'}")
    runs = [(call["built"], call["done"]) for call in calls if call["built"]]
    done = [change for history in histories.values() for change in history.changes]
    during = sum(any(began < change["done"] < ended for began, ended in runs) for change in done)
    return {"changes": len(done), "during_builds": during, "calls": len(calls), "builds": len(runs), "old": old,
            "example": example}


def main() -> None:
    given = arguments()
    for version in given["versions"].split(","):
        with mounted(version):
            for variant in given["variants"].split(","):
                changes = int(given["changes"])
                # It goes wrong at once.
                record("fresh", version=version, variant=variant,
                       **measure(version, variant, min(changes, 200) if variant == "none" else changes,
                                 int(given.get("per_node", 2))))


main()
