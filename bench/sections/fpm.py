"""(d) php-fpm: what the extension costs a page that never locks, and what a page that locks opens."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from harness import stats
from harness.run import OURS, Run, rotated, stopping
from harness.system import BENCH
from harness.worker import dsn
from stand import fcgi
from stand.servers import Fpm, Redis

from .uncontended import CLIENT_CPU, SERVER_CPU

PAGES = BENCH / "php" / "pages"
#: "plain" twice: how far two equal workers differ is the noise of the measurement.
KINDS = ["plain", OURS, "plain again"]
LOCKING_REQUESTS = 1000


def measure(run: Run) -> None:
    if run.fpm is None:
        run.say("(d) skipped: no php-fpm")
        return
    with stopping([]) as servers, on_one_cpu(CLIENT_CPU):
        redis = Redis(run.tmp, "redis-d", CLIENT_CPU)
        servers.append(redis)
        run.results["fpm"] = {
            "pages": {page: unused(run, redis, page, requests)
                      for page, requests in (("empty", 1500), ("small", 500))},
            "idle": idle(run, redis),
            "locking": locking(run, redis),
        }


@contextmanager
def on_one_cpu(cpu: int) -> Iterator[None]:
    """The client stays on one CPU, so that the worker has the other to itself."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start(run: Run, redis: Redis, kind: str, name: str) -> Fpm:
    ours = kind == OURS
    return Fpm(run.fpm, run.ini_ours if ours else run.ini_plain, run.tmp, name,
               ["-d", f"cluster_lock.dsn={dsn(redis.tcp)}"] if ours else [], SERVER_CPU)


def unused(run: Run, redis: Redis, page: str, requests: int) -> dict:
    """Requests/s of one saturated worker, and CPU time a request, with and without the extension.

    Several sets of workers, because where the memory of a process happens to lie makes it a little faster or
    slower for all its life; in each set, short blocks take turns.
    """
    instances = run.amount(3, 8)
    blocks = run.amount(6, 12)
    rates: dict[str, list[float]] = {k: [] for k in KINDS}
    cpu: dict[str, list[float]] = {k: [] for k in KINDS}
    for instance in range(instances):
        run.progress(f"d: {page} page, set {instance + 1} of {instances}")
        with stopping([]) as servers:
            clients, workers = {}, {}
            for kind in rotated(KINDS, instance):
                server = start(run, redis, kind, f"fpm-{KINDS.index(kind)}")
                servers.append(server)
                clients[kind] = fcgi.Client(server.path, PAGES / f"{page}.php")
                clients[kind].ask(requests)
                workers[kind] = server.worker
            rate: dict[str, list[float]] = {k: [] for k in KINDS}
            used: dict[str, list[float]] = {k: [] for k in KINDS}
            for block in range(blocks):
                for kind in rotated(KINDS, block):
                    before, began = cpu_ns(workers[kind]), time.perf_counter_ns()
                    clients[kind].ask(requests)
                    rate[kind].append(requests / (time.perf_counter_ns() - began) * 1e9)
                    used[kind].append((cpu_ns(workers[kind]) - before) / requests)
            for kind in KINDS:
                clients[kind].close()
                rates[kind].append(stats.median(rate[kind]))
                cpu[kind].append(stats.median(used[kind]))
    return {
        "requests_per_s": {k: round(stats.median(v), 1) for k, v in rates.items()},
        "cpu_us_per_request": {k: round(stats.median(v) / 1e3, 3) for k, v in cpu.items()},
        "with_vs_without": stats.ratio(rates[OURS], rates["plain"]),
        "noise": stats.ratio(rates["plain again"], rates["plain"]),
        "cpu_with_vs_without": stats.ratio(cpu[OURS], cpu["plain"]),
        "cpu_noise": stats.ratio(cpu["plain again"], cpu["plain"]),
    }


def cpu_ns(pid: int) -> int:
    """CPU time of a process with one thread, in nanoseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def idle(run: Run, redis: Redis) -> dict:
    """A worker that has served pages, none of which locked.

    The median of several, in turns: what a process has mapped depends on what of the files of PHP and of the
    libraries is in the page cache just then, and differs by some hundred kB between equal ones.
    """
    seen: dict[str, list[dict]] = {"plain": [], OURS: []}
    for instance in range(run.amount(3, 9)):
        for kind in rotated(list(seen), instance):
            seen[kind].append(idle_worker(run, redis, kind))
    return {kind: {key: int(statistics.median(worker[key] for worker in workers)) for key in workers[0]}
            for kind, workers in seen.items()}


def idle_worker(run: Run, redis: Redis, kind: str) -> dict:
    with stopping([]) as servers:
        server = start(run, redis, kind, "fpm-idle")
        servers.append(server)
        connections = int(redis.info("stats")["total_connections_received"])
        client = fcgi.Client(server.path, PAGES / "empty.php")
        client.ask(200)
        client.close()
        wait_for_hang_up(server.worker)
        return {**memory(server.worker), "threads": len(list(Path(f"/proc/{server.worker}/task").iterdir())),
                "sockets": sockets(server.worker),
                "connections": int(redis.info("stats")["total_connections_received"]) - connections}


def memory(pid: int) -> dict:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return {f"{field.lower()}_kb": int(fields[field].split()[0]) for field in ("Rss", "Pss", "Anonymous")}


def sockets(pid: int) -> int:
    """Sockets a process has open; php-fpm's own are the one it listens on and its connection to the client."""
    count = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += str(fd.readlink()).startswith("socket:")
        except OSError:
            continue
    return count


def wait_for_hang_up(pid: int) -> None:
    """Until php-fpm has noticed that its client is gone and only listens, or for a second."""
    deadline = time.monotonic() + 1
    while sockets(pid) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)


def locking(run: Run, redis: Redis) -> dict:
    """Connections that 1,000 requests open which lock, on a warm worker."""
    with stopping([]) as servers:
        server = start(run, redis, OURS, "fpm-lock")
        servers.append(server)
        client = fcgi.Client(server.path, PAGES / "lock.php")
        client.ask(50)
        before = int(redis.info("stats")["total_connections_received"])
        began = time.perf_counter()
        client.ask(LOCKING_REQUESTS)
        took = time.perf_counter() - began
        return {"requests": LOCKING_REQUESTS,
                "connections": int(redis.info("stats")["total_connections_received"]) - before,
                "requests_per_s": round(LOCKING_REQUESTS / took, 1)}


def table(run: Run) -> list[str]:
    if "fpm" not in run.results:
        return []
    out = run.results["fpm"]
    lines = ["", "(d) php-fpm, one worker, pages without a lock",
             f"    {'':<16}{'requests/s':>22}{'with / without':>16}{'noise':>8}"
             f"{'CPU us/request':>20}{'with / without':>16}{'noise':>8}"]
    for page, p in out["pages"].items():
        rate, cpu = p["requests_per_s"], p["cpu_us_per_request"]
        rates = f"{rate['plain']:.0f} -> {rate[OURS]:.0f}"
        cpus = f"{cpu['plain']:.2f} -> {cpu[OURS]:.2f}"
        lines.append(f"    {page + ' page':<16}{rates:>22}{p['with_vs_without']['median']:>15.3f}x"
                     f"{p['noise']['median']:>8.3f}{cpus:>20}{p['cpu_with_vs_without']['median']:>15.3f}x"
                     f"{p['cpu_noise']['median']:>8.3f}")
    for kind, i in out["idle"].items():
        lines.append(f"    idle worker, {kind + ':':<13} RSS {i['rss_kb']} kB, PSS {i['pss_kb']} kB, "
                     f"of it no file's {i['anonymous_kb']} kB, "
                     f"{i['threads']} thread(s), {i['sockets']} socket(s), {i['connections']} connection(s) to Redis")
    locks = out["locking"]
    lines.append(f"    {locks['requests']} requests that lock, warm worker: {locks['connections']} new connections, "
                 f"{locks['requests_per_s']:.0f} requests/s")
    return lines


def targets(run: Run) -> None:
    if "fpm" not in run.results:
        run.target("php-fpm", None, None)
        return
    out = run.results["fpm"]
    for page in out["pages"]:
        run.versus(f"loaded but unused: requests/s >= 0.98 x without, {page} page",
                   out["pages"][page]["with_vs_without"], 0.98, at_least=True)
    new = out["locking"]["connections"]
    run.target("no new connection in 1,000 locking requests", new, new == 0, " new")
    plain, ours = out["idle"]["plain"], out["idle"][OURS]
    memory_more = ours["rss_kb"] - plain["rss_kb"]
    run.target("memory of an idle worker <= 500 kB more", memory_more, memory_more <= 500, " kB")
    threads = ours["threads"] - plain["threads"]
    more = ours["sockets"] - plain["sockets"] + ours["connections"]
    run.target("no thread in an idle worker", threads, threads == 0, " more")
    run.target("no socket in an idle worker", more, more == 0, " more")
