"""Hand-off: a process on A holds the lock, one on B waits; the time from A's unlock to B's return.

Arguments: versions=4.0,4.1 variants=flock,gate holds=0.2,1.2 pairs=10 rounds=2
"""

from __future__ import annotations

import time

from lab import NODES, Php, arguments, mounted, p50, path, record


APART = 0.03  # seconds between two pairs: the guest has one CPU, and hand-offs at one instant would wait for it


def measure(pairs: list[tuple[Php, Php]], hold: float) -> list[float]:
    """One hand-off in every pair, close to each other: nearly all of the time is waiting. In milliseconds."""
    for holder, _ in pairs:
        holder.tell("go")
    for holder, waiter in pairs:
        holder.hear()
        waiter.tell("go")
        holder.tell(str(waiter.hear()["waiting"] + int(hold * 1e9)))
        time.sleep(APART)
    return [(waiter.hear(120)["got"] - holder.hear()["released"]) / 1e6 for holder, waiter in pairs]


def main() -> None:
    given = arguments()
    for version in given["versions"].split(","):
        with mounted(version):
            for variant in given["variants"].split(","):
                pairs = []
                for i in range(int(given["pairs"])):
                    name = f"handoff.{variant}.{i}"
                    pairs.append(tuple(
                        Php(node, "handoff", variant, role=role, path=path(node, version, name), name=name)
                        for node, role in zip(NODES, ("holder", "waiter"))))
                for pair in pairs:
                    for process in pair:
                        process.hear()
                for hold in given["holds"].split(","):
                    delays = [delay for _ in range(int(given["rounds"])) for delay in measure(pairs, float(hold))]
                    record("handoff", version=version, variant=variant, hold_s=float(hold), n=len(delays),
                           p50_ms=p50(delays), max_ms=round(max(delays), 3), least_ms=round(min(delays), 3))
                for pair in pairs:
                    for process in pair:
                        process.finish()


main()
