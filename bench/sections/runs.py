"""(runs) Many want the same 100 ms of work done: cluster_coalesced() against a lock, and what it costs when nobody else does."""

from __future__ import annotations

import subprocess
import time

from harness import stats
from harness.run import Run, rotated, stopping
from harness.worker import Worker, dsn
from stand.servers import Redis, before_exec

from . import uncontended
from .uncontended import CLIENT_CPU, PLACES

#: All at once: so many PHP processes; and so many callers on the core, each with an engine as if it were a process.
PROCESSES = (8, 64)
CALLERS = 512
SPREAD_MS = 500
#: p99 of a call, in ms, on an idle machine.
LIMITS_MS = {"8": 250, "64": 400, "512": 600}


def measure(run: Run) -> None:
    out = run.results["runs"] = {"at_once": {}, "plain": {}, "spread": {}, "free": {}}
    with stopping([]) as servers:
        redis = Redis(run.tmp, "redis-runs")
        servers.append(redis)
        for number in PROCESSES:
            processes(run, redis, number, out)
        if not run.quick:
            callers(run, redis, out)
    free(run, out["free"])


def php(run: Run, server: str, cpu: int | None = None) -> Worker:
    return Worker(run, "caller.php", [], True, ["-d", f"cluster_lock.dsn={dsn(server)}"], cpu)


def processes(run: Run, redis: Redis, number: int, out: dict) -> None:
    with stopping([]) as workers:
        for _ in range(number):
            workers.append(php(run, redis.tcp))
        for where, command, spread, rounds in (("at_once", "run", 0, run.amount(2, 8)),
                                               ("spread", "run", SPREAD_MS, run.amount(1, 4)),
                                               ("plain", "plain", 0, 1)):
            run.progress(f"runs: {number} processes, {command}, spread over {spread} ms")
            out[where][str(number)] = summary([storm(workers, command, spread) for _ in range(rounds)])


def storm(workers: list[Worker], command: str, spread_ms: int) -> tuple[list[float], int]:
    """All call, from one instant on or spread over so long: how long each took, in ms, and how many ran the work."""
    for attempt in range(8):
        # On a busy machine it takes longer to tell them all.
        t0 = time.monotonic_ns() + (20_000_000 + 1_000_000 * len(workers)) * 2**attempt
        for i, worker in enumerate(workers):
            worker.send(f"{command} {t0 + spread_ms * 1_000_000 * i // len(workers)}")
        answers = [worker.read() for worker in workers]
        if "late" not in answers:
            parts = [answer.split() for answer in answers]
            return [int(took) / 1e6 for took, _ in parts], sum(int(ran) for _, ran in parts)
    raise RuntimeError(f"{len(workers)} processes never began at once")


def callers(run: Run, redis: Redis, out: dict) -> None:
    address = f"redis://127.0.0.1:{redis.port}"
    subprocess.run(["redis-cli", "-p", str(redis.port), "CONFIG", "SET", "maxclients", str(CALLERS + 1000)],
                   capture_output=True, check=True)
    for where, spread, more, rounds in (("at_once", 0, [], 4), ("spread", SPREAD_MS, [], 4), ("plain", 0, ["plain"], 1)):
        run.progress(f"runs: {CALLERS} callers {where}")
        points = []
        for _ in range(rounds):
            said = subprocess.run([run.crowd, "call", address, str(CALLERS), str(spread), *more], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, check=True, preexec_fn=lambda: before_exec(None))
            words = said.stdout.split()
            points.append({key: float(value) for key, value in zip(words[::2], words[1::2])})
        out[where][str(CALLERS)] = {
            "runs": [int(point["runs"]) for point in points],
            "p50_ms": stats.median([point["p50"] for point in points]),
            "p99_ms": stats.median([point["p99"] for point in points]),
            "max_ms": max(point["max"] for point in points)}


def summary(storms: list[tuple[list[float], int]]) -> dict:
    """Of each storm its runs; of the times the medians over the storms."""
    def at(share: float) -> float:
        return round(stats.median([stats.quantile(took, share) for took, _ in storms]), 1)
    return {"runs": [ran for _, ran in storms], "p50_ms": at(0.5), "p99_ms": at(0.99),
            "max_ms": round(max(max(took) for took, _ in storms), 1)}


def free(run: Run, out: dict) -> None:
    """Nobody else: a run that does nothing against lock and unlock, in one process, in turns."""
    with stopping([]) as servers:
        far, near, proxy, _ = uncontended.serve(run, servers, "free")
        for place, server, n in (("tcp", far.tcp, 200), ("tcp_one_cpu", near.tcp, 200), ("delay", proxy.tcp, 30)):
            medians: dict[str, list[float]] = {"runs": [], "cycles": []}
            with stopping([php(run, server, CLIENT_CPU)]) as workers:
                for number in range(run.amount(8, 30) + 1):
                    run.progress(f"runs: free, {PLACES[place]}, round {number}")
                    for what in rotated(["runs", "cycles"], number):
                        took = stats.median(stats.unpack(workers[0].ask(f"{what} {n}")))
                        if number > 0:  # the first round warms up
                            medians[what].append(took)
            out[place] = {"run_us": round(stats.median(medians["runs"]) / 1e3, 1),
                          "lock_us": round(stats.median(medians["cycles"]) / 1e3, 1),
                          "ratio": stats.ratio(medians["runs"], medians["cycles"])}


def table(run: Run) -> list[str]:
    out = run.results["runs"]
    lines = ["", "(runs) the same 100 ms of work, wanted by so many at once, by a lock, and spread over 0.5 s",
             f"    {'callers':<10}{'runs':>12}{'p99 ms':>10}{'max ms':>10}{'lock: p99 ms':>15}{'spread: runs':>16}"]
    for number, point in out["at_once"].items():
        runs, spread = (sorted(set(p["runs"])) for p in (point, out["spread"][number]))
        lines.append(f"    {number:<10}{'/'.join(map(str, runs)):>12}{point['p99_ms']:>10.0f}{point['max_ms']:>10.0f}"
                     f"{out['plain'][number]['p99_ms']:>15.0f}{'/'.join(map(str, spread)):>16}")
    lines += ["    nobody else: a run that does nothing, and lock + unlock"]
    for place, point in out["free"].items():
        lines.append(f"    {PLACES[place]:<45}{point['run_us']:>9.1f}{point['lock_us']:>9.1f} us"
                     f"{point['ratio']['median']:>8.2f}x")
    return lines


def targets(run: Run) -> None:
    out = run.results["runs"]
    for number, point in out["at_once"].items():
        most = max(point["runs"])
        run.target(f"{number} callers at once: 2 runs at most", most, most <= 2)
        limit = LIMITS_MS[number]
        run.target(f"{number} callers at once: p99 <= {limit} ms", point["p99_ms"], point["p99_ms"] <= limit, " ms")
        most = max(out["spread"][number]["runs"])
        run.target(f"{number} callers in 0.5 s: 7 runs at most", most, most <= 7)
    for place, point in out["free"].items():
        limit = 1.1 if place == "delay" else 1.8
        run.versus(f"a free run <= {limit} x lock + unlock, {PLACES[place]}", point["ratio"], limit)
