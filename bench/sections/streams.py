"""(f) What streams cost: those that the extension lets pass, and those whose flock() it intercepts."""

from __future__ import annotations

from harness import stats
from harness.run import Run, rotated, stopping
from harness.worker import Worker, dsn
from stand.servers import Redis

WAYS = {"fopen, fclose": 20_000, "flock, unlock": 20_000, "file_put_contents, LOCK_EX": 4_000}
#: Per round trip to Redis, these take a hundred times as long.
INTERCEPTED_SHARE = 20


def measure(run: Run) -> None:
    directory = run.tmp / "streams"
    directory.mkdir()
    with stopping([]) as things:
        redis = Redis(run.tmp, "redis-f")
        things.append(redis)

        def worker(*ini: str, ours: bool = True) -> Worker:
            options = [x for setting in ini for x in ("-d", f"cluster_lock.{setting}")]
            things.append(Worker(run, "streams.php", [str(directory)], ours, options))
            return things[-1]

        server = f"dsn={dsn(redis.unix)}"
        workers = {
            "without": worker(ours=False),
            "without, again": worker(ours=False),
            "loaded": worker(),
            "elsewhere": worker(server, "intercept=/no/such/place:@network"),
            "gate": worker(server, f"intercept={directory}"),
            "replace": worker(server, f"intercept={directory}", "flock_mode=replace"),
        }
        took = {w: {name: [] for name in workers} for w in WAYS}
        rounds = run.amount(5, 41)
        for number in range(rounds):
            run.progress(f"f: round {number + 1} of {rounds}")
            for way, n in WAYS.items():
                for name in rotated(list(workers), number):
                    slow = name in ("gate", "replace") and "fclose" not in way
                    share = n // INTERCEPTED_SHARE if slow else n
                    took[way][name].append(int(workers[name].ask(f"run\t{way}\t{share}")) / 1e3)
    run.results["streams"] = {
        way: {
            "p50_us": {name: stats.median(values) for name, values in of.items()},
            "ratio": {name: stats.ratio(values, of["without"]) for name, values in of.items()},
        }
        for way, of in took.items()
    }


def table(run: Run) -> list[str]:
    out = run.results["streams"]
    names = list(next(iter(out.values()))["p50_us"])
    lines = ["", "(f) streams, us (times as long as without the extension)", f"    {'':<30}"
             + "".join(f"{n:>18}" for n in names)]
    for way, of in out.items():
        cells = (f"{of['p50_us'][n]:.2f} ({of['ratio'][n]['median']:.3f})" for n in names)
        lines.append(f"    {way:<30}" + "".join(f"{cell:>18}" for cell in cells))
    return lines


def targets(run: Run) -> None:
    out = run.results["streams"]["fopen, fclose"]["ratio"]
    run.versus("fopen + fclose, loaded <= 1.02 x without", out["loaded"], 1.02)
    run.versus("fopen + fclose, intercepting elsewhere <= 1.02 x without", out["elsewhere"], 1.02)
