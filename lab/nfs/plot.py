"""Draws lab/nfs/results/*.svg from lab/nfs/results/latest.json; what was not measured has no plot."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402  the backend has to be chosen first

RESULTS = Path(__file__).resolve().parent / "results"
VERSIONS = {"4.0": "NFS 4.0", "4.1-nonotify": "4.1, no\ncallbacks", "4.1": "4.1", "4.2": "4.2"}
COLOURS = {"flock": "#8c8c8c", "gate": "#1f6fb4", "replace": "#6fa8d6", "intercept-gate": "#e8a33d",
           "intercept-replace": "#c2571a"}
TITLES = {"flock": "flock()", "gate": "cluster_flock(), gate", "replace": "cluster_flock(), replace",
          "intercept-gate": "intercepted flock(), gate", "intercept-replace": "intercepted flock(), replace"}


def bars(axis, cells: list[dict], what: str) -> None:
    versions = [v for v in VERSIONS if any(c["version"] == v for c in cells)]
    variants = [v for v in TITLES if any(c["variant"] == v for c in cells)]
    width = 0.8 / len(variants)
    for i, variant in enumerate(variants):
        found = {c["version"]: c[what] for c in cells if c["variant"] == variant}
        values = [found[v] for v in versions if v in found]
        places = [x + (i - (len(variants) - 1) / 2) * width for x, v in enumerate(versions) if v in found]
        drawn = axis.bar(places, values, width * 0.92, label=TITLES[variant], color=COLOURS[variant])
        axis.bar_label(drawn, [f"{v:.0f}" if v >= 10 else f"{v:.1f}" for v in values], padding=1, fontsize=6)
    axis.set_xticks(range(len(versions)), [VERSIONS[v] for v in versions])
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3, axis="y")
    axis.set_axisbelow(True)
    axis.margins(y=0.12)


def handoff(results: list[dict]) -> None:
    cells = [r for r in results if r["job"] == "handoff"]
    holds = sorted({r["hold_s"] for r in cells})
    figure, axes = pyplot.subplots(1, len(holds), figsize=(4.5 * len(holds), 3.4), sharey=True, squeeze=False)
    for axis, hold in zip(axes[0], holds):
        bars(axis, [r for r in cells if r["hold_s"] == hold], "p50_ms")
        axis.set_yscale("log")
        axis.set_title(f"held for {hold} s", fontsize=9)
    axes[0][0].set_ylabel("ms, median", fontsize=8)
    axes[0][-1].legend(fontsize=7)
    save(figure, "handoff", "From unlock on one node to the lock on the other")


def contend(results: list[dict]) -> None:
    cells = [r for r in results if r["job"] == "contend"]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.4))
    bars(axes[0], cells, "locks_per_s")
    axes[0].set_ylabel("locks per second", fontsize=8)
    bars(axes[1], cells, "wait_max_ms")
    axes[1].set_yscale("log")
    axes[1].set_ylabel("longest wait, ms", fontsize=8)
    axes[1].legend(fontsize=7)
    save(figure, "contention", "6 processes on 2 nodes, 5 ms hold, 20 ms gap")


def save(figure, name: str, title: str) -> None:
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    path = RESULTS / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    print(path.relative_to(RESULTS.parents[2]))


def main() -> None:
    matplotlib.rcParams["svg.hashsalt"] = "cluster_lock"  # the same numbers, the same file
    results = json.loads((RESULTS / "latest.json").read_text())["results"]
    for draw in (handoff, contend):
        if any(result["job"] == draw.__name__ for result in results):
            draw(results)


if __name__ == "__main__":
    main()
