"""(a) One process locks and unlocks one free lock: what a lock costs when nobody else wants it."""

from __future__ import annotations

import os

from harness import stats
from harness.run import OUR_SYMFONY, OURS, Run, rotated, stopping
from harness.worker import count_together, lock_worker
from stand.servers import DelayProxy, Redis

PINGS = ["ping_phpredis", "ping_stream", "ping_socket"]
PEERS = ["phpredis_set", "phpredis_fence", "symfony", OUR_SYMFONY, "malkusch"]
HAND_WRITTEN = ["phpredis_set", "phpredis_fence", "phpredis_blpop"]

#: What is measured. Left to itself the kernel keeps client and server now on one CPU, now on two, for seconds at a
#: time, and that changes a round trip by more than any lock does: so both are measured, each with the CPUs fixed.
PLACES = {
    "tcp": "TCP on loopback",
    "unix": "unix socket",
    "tcp_one_cpu": "TCP, client and server on one CPU",
    "unix_one_cpu": "unix socket, client and server on one CPU",
    "delay": "TCP with 0.5 ms added to the round trip",
}
ADDED_NS = 500_000
CLIENT_CPU, SERVER_CPU = 0, (os.cpu_count() or 1) - 1


def measure(run: Run) -> None:
    out = run.results["uncontended"] = {"places": {}}
    out["lost_updates_of_hand_written_locks"] = check_hand_written(run)
    with stopping([]) as servers:
        far, near, proxy, out["delay"] = serve(run, servers, "a")
        rounds = run.amount(8, 30)
        measure_place(run, "tcp", far.tcp, rounds, 200)
        measure_place(run, "unix", far.unix, rounds, 200)
        measure_place(run, "tcp_one_cpu", near.tcp, rounds, 200)
        measure_place(run, "unix_one_cpu", near.unix, rounds, 200)
        measure_place(run, "delay", proxy.tcp, run.amount(8, 25), 30)


def serve(run: Run, servers: list, name: str) -> tuple[Redis, Redis, DelayProxy, dict]:
    """A server on a CPU of its own, one on the client's, and the way to the latter that takes 0.5 ms longer, with what it takes."""
    far = Redis(run.tmp, f"redis-{name}-far", SERVER_CPU)
    servers.append(far)
    near = Redis(run.tmp, f"redis-{name}-near", CLIENT_CPU)
    servers.append(near)
    # The proxy polls: it has a CPU to itself, client and server share the other.
    proxy = DelayProxy(run.delay_proxy, near.port, SERVER_CPU)
    servers.append(proxy)
    return far, near, proxy, calibrate(run, near, proxy)


def check_hand_written(run: Run) -> dict[str, int]:
    """A lock that loses updates would be an unfair peer: four processes increment one counter under each."""
    lost = {}
    each = run.amount(200, 1000)
    with stopping([]) as things:
        redis = Redis(run.tmp, "redis-check")
        things.append(redis)
        for contestant in HAND_WRITTEN:
            workers = [lock_worker(run, contestant, redis.tcp, "bench:check") for _ in range(4)]
            things += workers
            _, counted = count_together(workers, "times", each, run.tmp / "check")
            lost[contestant] = 4 * each - counted
    wrong = {name: n for name, n in lost.items() if n}
    if wrong:
        raise RuntimeError(f"hand-written locks lose updates: {wrong}")
    return lost


def calibrate(run: Run, redis: Redis, proxy: DelayProxy) -> dict:
    """Sets the proxy's delay so that a PING through it takes 0.5 ms longer than one without it."""
    with stopping([]) as workers:
        direct = lock_worker(run, "ping_socket", redis.tcp, "-", CLIENT_CPU)
        workers.append(direct)
        through = lock_worker(run, "ping_socket", proxy.tcp, "-", CLIENT_CPU)
        workers.append(through)

        def round_trip(worker, n: int) -> float:
            return stats.median(stats.unpack(worker.ask(f"cycles {n}"))) / 2

        delay = ADDED_NS
        for _ in range(6):
            proxy.set_delay(int(delay / 2))
            bare = stats.median([round_trip(direct, 200) for _ in range(5)])
            delayed = stats.median([round_trip(through, 60) for _ in range(5)])
            delay += ADDED_NS - (delayed - bare)
        return {"ping_direct_us": round(bare / 1e3, 1), "ping_delayed_us": round(delayed / 1e3, 1),
                "added_us": round((delayed - bare) / 1e3, 1)}


def measure_place(run: Run, place: str, server: str, rounds: int, n: int) -> None:
    contestants = [*PINGS, OURS, *PEERS, *([] if place == "delay" else ["flock"])]
    medians: dict[str, list[float]] = {c: [] for c in contestants}
    samples: dict[str, list[int]] = {c: [] for c in contestants}
    with stopping([]) as stop_later:
        workers = {}
        for contestant in contestants:
            workers[contestant] = lock_worker(run, contestant, server, f"bench:{contestant}", CLIENT_CPU)
            stop_later.append(workers[contestant])
        for number in range(rounds + 1):
            run.progress(f"a: {PLACES[place]}, round {number} of {rounds}")
            for contestant in rotated(contestants, number):
                took = stats.unpack(workers[contestant].ask(f"cycles {n}"))
                if number > 0:  # the first round warms up
                    medians[contestant].append(stats.median(took))
                    samples[contestant].extend(took)

    floor = min(PINGS, key=lambda c: stats.quantile(samples[c], 0.5))
    run.results["uncontended"]["places"][place] = {
        "description": PLACES[place],
        "floor": floor,
        "contestants": {
            c: {**stats.summary_us(samples[c]),
                "vs_two_pings": stats.ratio(medians[c], medians[floor]),
                "ours_vs": stats.ratio(medians[OURS], medians[c])}
            for c in contestants},
    }


def table(run: Run) -> list[str]:
    lines = []
    for place in run.results["uncontended"]["places"].values():
        lines += ["", f"(a) lock + unlock, {place['description']} (floor: {place['floor']})",
                  f"    {'':<16}{'p50 us':>10}{'p99 us':>10}{'/ two PINGs':>13}{'cluster_lock / it':>19}"]
        for name, c in place["contestants"].items():
            lines.append(f"    {name:<16}{c['p50_us']:>10.1f}{c['p99_us']:>10.1f}"
                         f"{c['vs_two_pings']['median']:>12.2f}x{c['ours_vs']['median']:>18.2f}x")
    delay = run.results["uncontended"]["delay"]
    lines.append(f"    the proxy adds {delay['added_us']} us to a PING of {delay['ping_direct_us']} us")
    return lines


def targets(run: Run) -> None:
    places = run.results["uncontended"]["places"]
    for place in places:
        limit = 1.1 if place == "delay" else 1.5
        ours = places[place]["contestants"][OURS]
        run.versus(f"lock + unlock <= {limit} x two PINGs, {PLACES[place]}", ours["vs_two_pings"], limit)
    for place in places:
        contestants = places[place]["contestants"]
        run.versus(f"lock + unlock <= 1.0 x phpredis two EVALSHA with fence, {PLACES[place]}",
                   contestants["phpredis_fence"]["ours_vs"], 1.0)
        run.versus(f"lock + unlock <= 0.5 x symfony/lock, {PLACES[place]}", contestants["symfony"]["ours_vs"], 0.5)
