"""(e) Replacing a file: cluster_file_put_contents() and what PHP offers instead."""

from __future__ import annotations

from harness import stats
from harness.run import Run, rotated, stopping
from harness.worker import Worker, dsn
from stand.servers import Redis

SIZES = {"1 KB": 1 << 10, "10 KB": 10 << 10, "100 KB": 100 << 10, "1 MB": 1 << 20, "10 MB": 10 << 20}
UNSYNCED = ["file_put_contents", "file_put_contents, LOCK_EX", "tempnam, rename", "cluster, durable=0",
            "cluster, durable=0, LOCK_EX"]
SYNCED = ["tempnam, fsync, rename, fsync", "cluster, durable=1"]
#: Writes a block: enough to take some milliseconds.
PER_BLOCK = {"1 KB": 50, "10 KB": 50, "100 KB": 20, "1 MB": 5, "10 MB": 2}
SYNCED_PER_BLOCK = {"1 KB": 5, "10 KB": 5, "100 KB": 5, "1 MB": 3, "10 MB": 1}
#: Like with like: which of ours is compared with which way.
COMPARED = [
    ("cluster, durable=0", "file_put_contents"),
    ("cluster, durable=0", "tempnam, rename"),
    ("cluster, durable=0, LOCK_EX", "file_put_contents, LOCK_EX"),
    ("cluster, durable=1", "tempnam, fsync, rename, fsync"),
]


def measure(run: Run) -> None:
    ways = UNSYNCED + SYNCED
    rounds = run.amount(4, 15)
    samples = {s: {w: [] for w in ways} for s in SIZES}
    medians = {s: {w: [] for w in ways} for s in SIZES}
    directory = run.tmp / "write"
    directory.mkdir()
    with stopping([]) as things:
        redis = Redis(run.tmp, "redis-e")
        things.append(redis)
        worker = Worker(run, "writer.php", [str(directory)], True, ["-d", f"cluster_lock.dsn={dsn(redis.tcp)}"])
        things.append(worker)
        for number in range(rounds):
            for size, length in SIZES.items():
                run.progress(f"e: round {number + 1} of {rounds}, {size}")
                for way in rotated(ways, number):
                    n = (SYNCED_PER_BLOCK if way in SYNCED else PER_BLOCK)[size]
                    took = stats.unpack(worker.ask(f"write\t{way}\t{length}\t{n}"))
                    samples[size][way].extend(took)
                    medians[size][way].append(stats.median(took))
    run.results["write"] = {
        "sizes": {s: {w: stats.summary_us(samples[s][w]) for w in ways} for s in SIZES},
        "compared": {s: {f"{ours} / {theirs}": stats.ratio(medians[s][ours], medians[s][theirs])
                         for ours, theirs in COMPARED} for s in SIZES},
    }


def table(run: Run) -> list[str]:
    out = run.results["write"]
    lines = ["", "(e) replacing a file, p50 us", f"    {'':<62}" + "".join(f"{s:>11}" for s in SIZES)]
    for way in UNSYNCED + SYNCED:
        lines.append(f"    {way:<62}" + "".join(f"{out['sizes'][s][way]['p50_us']:>11.1f}" for s in SIZES))
    for ours, theirs in COMPARED:
        name = f"{ours} / {theirs}"
        lines.append(f"    {name:<62}" + "".join(f"{out['compared'][s][name]['median']:>10.2f}x" for s in SIZES))
    return lines


def targets(run: Run) -> None:
    """None is set for writes."""
