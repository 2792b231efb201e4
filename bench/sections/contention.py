"""(c) Many processes on one lock, each incrementing one counter in it as often as it can."""

from __future__ import annotations

import time

from harness import stats
from harness.run import OURS, Run, rotated, stopping
from harness.worker import count_together, lock_worker
from stand.servers import Redis

from .uncontended import CLIENT_CPU, SERVER_CPU

BLPOP = "phpredis_blpop"
COUNTS = {OURS: [1, 2, 4, 8, 16], BLPOP: [1, 2, 4, 8, 16], "flock": [1, 2, 4, 8, 16], "symfony": [1, 2, 8]}
#: Left to itself the kernel puts a lone process now on the server's CPU, now on another, and its cycles/s differ by
#: a factor of two: nothing could be said about 16 processes against one. So the processes share a CPU, and the server
#: has one to itself, or shares theirs.
PLACES = {"two_cpus": "server on its own CPU", "one_cpu": "all on one CPU"}
LONG_TOTAL = 100_000
LONG_PROCESSES = 16


def measure(run: Run) -> None:
    out = run.results["contention"] = {"places": {}}
    with stopping([]) as servers:
        for place, cpu in (("two_cpus", SERVER_CPU), ("one_cpu", CLIENT_CPU)):
            redis = Redis(run.tmp, f"redis-c-{place}", cpu)
            servers.append(redis)
            out["places"][place] = measure_place(run, PLACES[place], redis)
        if run.long:
            with stopping([]) as workers:
                workers += [lock_worker(run, OURS, redis.tcp, "bench:long") for _ in range(LONG_PROCESSES)]
                out["long"] = measure_long(run, workers)


def measure_place(run: Run, description: str, redis: Redis) -> dict:
    seconds = 0.4 if run.quick else 1.0
    rounds = run.amount(2, 4)
    points: dict[tuple[str, int], list[dict]] = {}
    with stopping([]) as things:
        workers = {}
        for contestant, counts in COUNTS.items():
            workers[contestant] = [lock_worker(run, contestant, redis.tcp, f"bench:{contestant}", CLIENT_CPU)
                                   for _ in range(max(counts))]
            things += workers[contestant]
        for number in range(rounds):
            for processes in COUNTS[OURS]:
                for contestant in rotated([c for c in COUNTS if processes in COUNTS[c]], number):
                    run.progress(f"c: {description}, round {number + 1} of {rounds}, {contestant}, {processes}")
                    served, counted = count_together(workers[contestant][:processes], "seconds", seconds,
                                                     run.tmp / f"counter-{contestant}")
                    points.setdefault((contestant, processes), []).append({
                        "cycles_per_s": sum(served) / seconds,
                        "least_to_most": min(served) / max(served),
                        "lost": int(sum(served)) - counted,
                    })

    def rates(contestant: str, processes: int) -> list[float]:
        return [m["cycles_per_s"] for m in points[contestant, processes]]

    place: dict = {"description": description, "points": {}}
    for (contestant, processes), measured in points.items():
        place["points"].setdefault(contestant, {})[str(processes)] = {
            "cycles_per_s": round(stats.median([m["cycles_per_s"] for m in measured]), 1),
            "least_to_most": round(stats.median([m["least_to_most"] for m in measured]), 3),
            "worst_least_to_most": round(min(m["least_to_most"] for m in measured), 3),
            "lost": sum(m["lost"] for m in measured),
        }
    place["ours_16_vs_1"] = stats.ratio(rates(OURS, 16), rates(OURS, 1))
    place["ours_vs_blpop_at_16"] = stats.ratio(rates(OURS, 16), rates(BLPOP, 16))
    return place


def measure_long(run: Run, workers: list) -> dict:
    run.progress(f"c: {LONG_TOTAL} increments by {LONG_PROCESSES} processes")
    start = time.monotonic()
    _, counted = count_together(workers[:LONG_PROCESSES], "times", LONG_TOTAL // LONG_PROCESSES,
                                run.tmp / "counter-long")
    return {"increments": LONG_TOTAL, "processes": LONG_PROCESSES, "lost": LONG_TOTAL - counted,
            "seconds": round(time.monotonic() - start, 1)}


def table(run: Run) -> list[str]:
    out = run.results["contention"]
    lines = []
    for place in out["places"].values():
        lines += ["", f"(c) processes on one lock, {place['description']}: cycles/s (least / most served)",
                  f"    {'':<16}" + "".join(f"{n:>16}" for n in COUNTS[OURS]) + f"{'lost':>8}"]
        for name, points in place["points"].items():
            cells = []
            for n in map(str, COUNTS[OURS]):
                p = points.get(n)
                cells.append(f"{p['cycles_per_s']:>9.0f} ({p['least_to_most']:.2f})" if p else "-")
            lines.append(f"    {name:<16}" + "".join(f"{c:>16}" for c in cells)
                         + f"{sum(p['lost'] for p in points.values()):>8}")
    if "long" in out:
        long = out["long"]
        lines.append(f"    {long['increments']} increments by {long['processes']} processes: {long['lost']} lost, "
                     f"{long['seconds']} s")
    return lines


def targets(run: Run) -> None:
    out = run.results["contention"]
    for place in out["places"].values():
        where = place["description"]
        ours = place["points"][OURS]
        run.versus(f"16 processes: cycles/s >= 0.5 x one alone, {where}", place["ours_16_vs_1"], 0.5, at_least=True)
        run.versus(f"16 processes: cycles/s >= 1.0 x phpredis BLPOP, {where}", place["ours_vs_blpop_at_16"], 1.0,
                   at_least=True)
        fair = ours["16"]["least_to_most"]
        run.target(f"16 processes: least >= 0.9 x most served, {where}", fair, fair >= 0.9, "x")
        lost = sum(p["lost"] for p in ours.values())
        run.target(f"no lost updates, 1 to 16 processes, {where}", lost, lost == 0, " lost")
    if "long" in out:
        lost = out["long"]["lost"]
        run.target(f"no lost updates in {LONG_TOTAL} by {LONG_PROCESSES} processes", lost, lost == 0, " lost")
