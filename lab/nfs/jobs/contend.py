"""Contention: processes on both nodes take one lock, hold it for 5 ms, give it back, pause for about 20 ms.

Arguments: versions=4.0,4.1 variants=flock,gate seconds=6 flock_seconds=15 per_node=3
"""

from __future__ import annotations

from pathlib import Path

from lab import NODES, Php, arguments, mounted, now, p50, path, record

GRACE = 5.0  # seconds; who still waits then is ended, and counts with the wait so far


def measure(version: str, variant: str, seconds: float, per_node: int) -> dict:
    name = f"contend.{variant}"
    logs, processes = [], []
    for i in range(per_node):
        for node in NODES:
            logs.append(Path(f"/run/contend.{node}.{i}"))
            processes.append(Php(node, "contend", variant, path=path(node, version, name), name=name, log=str(logs[-1]),
                                 seed=len(logs), hold_ms=5, gap_ms=20))
    for process in processes:
        process.hear()
    start = now() + 200_000_000
    end = start + int(seconds * 1e9)
    for process in processes:
        process.tell(f"{start} {end}")
    still_waiting = not_ours = 0
    for process in processes:
        report = process.hears(max(0.0, (end - now()) / 1e9 + GRACE))
        if report is None:
            process.kill()
            still_waiting += 1
        else:
            not_ours += report["not_ours"]
            process.finish()
    killed = now()

    waits, served, holds = [], [], []
    for log in logs:
        cycles = [[int(word) for word in line.split()] for line in log.read_text().splitlines()]
        waits += [((cycle[1] if len(cycle) > 1 else killed) - cycle[0]) / 1e6 for cycle in cycles]
        held = [(cycle[1], cycle[2]) for cycle in cycles if len(cycle) == 3]
        served.append(sum(1 for got, _ in held if got < end))
        holds += held
    holds.sort()
    overlaps = sum(1 for earlier, later in zip(holds, holds[1:]) if later[0] < earlier[1])
    return {"locks_per_s": round(sum(served) / seconds, 1), "wait_p50_ms": p50(waits),
            "wait_max_ms": round(max(waits), 1), "least_served": min(served), "most_served": max(served),
            "still_waiting": still_waiting, "overlaps": overlaps, "not_ours": not_ours}


def main() -> None:
    given = arguments()
    for version in given["versions"].split(","):
        with mounted(version):
            for variant in given["variants"].split(","):
                seconds = float(given["flock_seconds" if variant == "flock" else "seconds"])
                record("contend", version=version, variant=variant, seconds=seconds,
                       **measure(version, variant, seconds, int(given["per_node"])))


main()
