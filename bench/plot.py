"""Draws bench/results/*.svg from bench/results/latest.json and scale.json; a section that was not measured has no plot."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402  the backend has to be chosen first

RESULTS = Path(__file__).resolve().parent / "results"
OURS = "cluster_lock"
TITLES = {
    "flock": "local flock", "cluster_lock": "cluster_lock", "phpredis_set": "phpredis\nSET NX + script",
    "phpredis_fence": "phpredis\ntwo scripts, fence", "phpredis_blpop": "phpredis BLPOP", "symfony": "symfony/lock",
    "symfony_store": "symfony/lock\nwith our store", "malkusch": "php-lock", "floor": "two PINGs",
}
COLOURS = {
    "flock": "#8c8c8c", "floor": "#8c8c8c", "cluster_lock": "#1f6fb4", "phpredis_set": "#e8a33d",
    "phpredis_fence": "#d9822b", "phpredis_blpop": "#c2571a", "symfony": "#7a5195", "symfony_store": "#ab7cc4",
    "malkusch": "#4f9d69",
}


def uncontended(results: dict) -> None:
    places = results["uncontended"]["places"]
    measured = {"floor", *next(iter(places.values()))["contestants"]}
    names = ["floor", OURS, "phpredis_set", "phpredis_fence", "malkusch", "symfony", "symfony_store"]
    names = [name for name in names if name in measured]
    figure, axes = pyplot.subplots(1, len(places), figsize=(2.9 * len(places), 3.4))
    for axis, place in zip(axes, places.values()):
        contestants = {**place["contestants"], "floor": place["contestants"][place["floor"]]}
        values = [contestants[n]["p50_us"] for n in names]
        bars = axis.barh([TITLES[n] for n in names], values, color=[COLOURS[n] for n in names])
        axis.bar_label(bars, [f"{v:.0f}" for v in values], padding=2, fontsize=8)
        axis.axvline(values[0], color="#8c8c8c", linewidth=0.8, linestyle=":")
        axis.set_title(place["description"].replace(", ", ",\n").replace(" added", "\nadded"), fontsize=9)
        axis.set_xlabel("µs, median", fontsize=8)
        axis.margins(x=0.18)
        axis.invert_yaxis()
        axis.tick_params(labelsize=8, labelleft=axis is axes[0])
    save(figure, "uncontended", "Lock + unlock, nobody else wants it")


def handoff(results: dict) -> None:
    places = results["handoff"]
    figure, axes = pyplot.subplots(1, len(places), figsize=(4.5 * len(places), 3.4))
    for axis, place in zip(axes, places.values()):
        for name, c in place["contestants"].items():
            quantiles = [max(q, 1) / 1e3 for q in c["quantiles_us"]]
            share = [100 * i / (len(quantiles) - 1) for i in range(len(quantiles))]
            axis.plot(quantiles, share, label=TITLES[name], color=COLOURS[name], linewidth=1.6)
        axis.set_xscale("log")
        axis.set_title(place["description"], fontsize=9)
        axis.set_xlabel("ms from unlock() in one process to the return of lock() in the other", fontsize=8)
        axis.set_ylabel("% of hand-offs", fontsize=8)
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7)
    save(figure, "handoff", "Hand-off to a process that waits")


def contention(results: dict) -> None:
    places = results["contention"]["places"]
    for key, place in places.items():
        contention_place(key, place)


def contention_place(key: str, place: dict) -> None:
    points = place["points"]
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4))
    for name, measured in points.items():
        counts = [int(n) for n in measured]
        style = {"label": TITLES[name], "color": COLOURS[name], "marker": "o", "markersize": 3}
        axes[0].plot(counts, [p["cycles_per_s"] for p in measured.values()], **style)
        axes[1].plot(counts, [p["least_to_most"] for p in measured.values()], **style)
    axes[0].set_yscale("log")
    axes[0].set_ylabel("lock + increment + unlock, per second", fontsize=8)
    axes[1].set_ylabel("least / most served", fontsize=8)
    axes[1].set_ylim(0, 1.05)
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        axis.set_xlabel("processes on one lock", fontsize=8)
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
    axes[0].legend(fontsize=7)
    save(figure, f"contention_{key}", f"Many processes on one lock, {place['description']}")


def write(results: dict) -> None:
    sizes = results["write"]["sizes"]
    figure, axis = pyplot.subplots(figsize=(7, 4))
    for way in next(iter(sizes.values())):
        ours = way.startswith("cluster")
        synced = "fsync" in way or "durable=1" in way
        axis.plot(list(sizes), [sizes[s][way]["p50_us"] / 1e3 for s in sizes], label=way,
                  color="#1f6fb4" if ours else "#d9822b" if "rename" in way else "#8c8c8c",
                  linestyle="-" if synced else "--" if "LOCK_EX" not in way else ":", marker="o", markersize=3)
    axis.set_yscale("log")
    axis.set_ylabel("ms, median", fontsize=8)
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=7)
    save(figure, "write", "Replacing a file")


def scale(results: dict) -> None:
    measured = results["scale"]
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4))
    for distance, points in measured["held"].items():
        axes[0].plot([int(n) for n in points], [100 * p["server_cpu"] for p in points.values()],
                     label=f"{distance} ms away", marker="o", markersize=3)
    axes[0].set_xlabel("locks held by one process", fontsize=8)
    axes[0].set_ylabel("% of a server core, for renewals", fontsize=8)
    points = measured["waiters"]
    numbers = [int(n) for n in points]
    axes[1].plot(numbers, [100 * p["server_cpu"] for p in points.values()], marker="o", markersize=3, color="#1f6fb4",
                 label="waiters")
    if "connections_cpu" in points["1"]:
        axes[1].plot(numbers, [100 * p["connections_cpu"] for p in points.values()], marker="o", markersize=3,
                     color="#999999", label="idle connections")
    axes[1].set_xlabel("waiters of one lock", fontsize=8)
    axes[1].set_ylabel("% of a server core", fontsize=8)
    for quantile in ("p50_us", "p99_us"):
        axes[2].plot(numbers, [p["hand_over"][quantile] / 1e3 for p in points.values()], marker="o", markersize=3,
                     label=quantile.removesuffix("_us"))
    axes[2].set_yscale("log")
    axes[2].set_xlabel("waiters of one lock", fontsize=8)
    axes[2].set_ylabel("ms, hand-over", fontsize=8)
    for axis in axes:
        axis.set_xscale("log")
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7)
    save(figure, "scale", "What grows with what")


def save(figure, name: str, title: str) -> None:
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    path = RESULTS / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    print(f"{path.relative_to(RESULTS.parent.parent)}")


def main() -> None:
    matplotlib.rcParams["svg.hashsalt"] = "cluster_lock"  # the same numbers, the same file
    results: dict = {}
    for name in ("latest", "scale"):
        if (file := RESULTS / f"{name}.json").exists():
            results |= json.loads(file.read_text())["results"]
    for draw in (uncontended, handoff, contention, write, scale):
        if draw.__name__ in results:
            draw(results)


if __name__ == "__main__":
    main()
