"""(b) Hand-off: from the call of unlock in one process to the return of lock in another that waits."""

from __future__ import annotations

import random
import time

from harness import stats
from harness.run import OUR_SYMFONY, OURS, Run, rotated, stopping
from harness.worker import Worker, lock_worker
from stand.servers import DelayProxy, Redis

from . import uncontended
from .uncontended import CLIENT_CPU, SERVER_CPU

WAKERS = ["flock", "phpredis_blpop", OUR_SYMFONY, OURS]
POLLERS = ["symfony", "malkusch"]
#: How long the holder keeps the lock after the other has called, in seconds. Pollers get a longer one, spread over
#: more than their poll interval, so that the release meets every phase of it.
HOLD = {**{c: (0.003, 0.008) for c in WAKERS}, **{c: (0.1, 0.3) for c in POLLERS}}
#: A waiter must have called at least this long before the release, or the sample does not count.
SETTLED_NS = 1_000_000


def measure(run: Run) -> None:
    out = run.results["handoff"] = {}
    chance = random.Random(1)
    with stopping([]) as servers:
        redis = Redis(run.tmp, "redis-b")
        servers.append(redis)
        near = Redis(run.tmp, "redis-b-near", CLIENT_CPU)
        servers.append(near)
        proxy = DelayProxy(run.delay_proxy, near.port, SERVER_CPU)
        servers.append(proxy)
        delay = uncontended.calibrate(run, near, proxy)
        rounds = run.amount(4, 10)
        per_block = {**{c: run.amount(40, 80) for c in WAKERS}, **{c: run.amount(2, 5) for c in POLLERS}}
        out["tcp"] = measure_place(run, uncontended.PLACES["tcp"], redis.tcp, rounds, per_block, chance)
        per_block = {"phpredis_blpop": run.amount(25, 40), OURS: run.amount(25, 40)}
        out["delay"] = measure_place(run, uncontended.PLACES["delay"], proxy.tcp, rounds, per_block, chance, CLIENT_CPU)
        out["delay"]["ping_us"] = delay["ping_delayed_us"]


def measure_place(run: Run, description: str, server: str, rounds: int, per_block: dict[str, int],
                  chance: random.Random, cpu: int | None = None) -> dict:
    contestants = list(per_block)
    samples: dict[str, list[int]] = {c: [] for c in contestants}
    medians: dict[str, list[float]] = {c: [] for c in contestants}
    with stopping([]) as stop_later:
        pairs = {}
        for contestant in contestants:
            pairs[contestant] = [lock_worker(run, contestant, server, f"bench:{contestant}", cpu) for _ in range(2)]
            stop_later += pairs[contestant]
        for number in range(rounds):
            for contestant in rotated(contestants, number):
                run.progress(f"b: {description}, round {number + 1} of {rounds}, {contestant}")
                took = hand_offs(pairs[contestant], per_block[contestant], HOLD[contestant], chance)
                samples[contestant] += took
                medians[contestant].append(stats.median(took))
    return {
        "description": description,
        "contestants": {
            c: {**stats.summary_us(samples[c]),
                "ours_vs": stats.ratio(medians[OURS], medians[c]),
                "quantiles_us": [round(stats.quantile(samples[c], q / 100) / 1e3, 1) for q in range(0, 101, 2)]}
            for c in contestants},
    }


def hand_offs(pair: list[Worker], n: int, hold: tuple[float, float], chance: random.Random) -> list[int]:
    """The lock goes to and fro between two processes n times; the latencies in nanoseconds."""
    holder, waiter = pair
    holder.ask("lock")
    holder.read()
    took = []
    while len(took) < n:
        called = int(waiter.ask("lock").split()[1])
        time.sleep(chance.uniform(*hold))
        # No answer to this one: the runner sleeps until the waiter has the lock, and asks the time afterwards.
        holder.send("unlock")
        held = int(waiter.read().split()[1])
        released = int(holder.ask("report"))
        if held < released:
            raise RuntimeError(f"{waiter.title}: two holders at once")
        if released - called >= SETTLED_NS:
            took.append(held - released)
        holder, waiter = waiter, holder
    holder.send("unlock")
    holder.ask("report")
    return took


def table(run: Run) -> list[str]:
    lines = []
    for place in run.results["handoff"].values():
        lines += ["", f"(b) hand-off between two processes, {place['description']}",
                  f"    {'':<16}{'n':>6}{'p50 us':>11}{'p99 us':>11}{'max us':>11}{'cluster_lock / it':>19}"]
        for name, c in place["contestants"].items():
            lines.append(f"    {name:<16}{c['n']:>6}{c['p50_us']:>11.1f}{c['p99_us']:>11.1f}{c['max_us']:>11.1f}"
                         f"{c['ours_vs']['median']:>18.3f}x")
    delayed = run.results["handoff"]["delay"]
    ours = delayed["contestants"][OURS]["p50_us"]
    lines.append(f"    with the delay, a hand-off takes {ours / delayed['ping_us']:.2f} round trips")
    return lines


def targets(run: Run) -> None:
    place = run.results["handoff"]["tcp"]["contestants"]
    run.versus("hand-off p50 <= 1.25 x phpredis BLPOP wake", place["phpredis_blpop"]["ours_vs"], 1.25)
    p99 = place[OURS]["p99_us"] / 1e3
    run.target("hand-off p99 < 10 ms", p99, p99 < 10, " ms")
    times = place["symfony"]["p50_us"] / place[OURS]["p50_us"]
    run.target("hand-off p50 of symfony/lock >= 50 x ours", times, times >= 50, "x")
    delayed = run.results["handoff"]["delay"]
    trips = delayed["contestants"][OURS]["p50_us"] / delayed["ping_us"]
    run.target("hand-off p50 <= 2 round trips, with 0.5 ms added", trips, trips <= 2, " round trips")
