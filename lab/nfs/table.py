"""The measurements as one Markdown table for docs/flock.md."""

from __future__ import annotations

VERSIONS = {"4.0": "NFSv4.0", "4.1-nonotify": "4.1 without callbacks", "4.1": "4.1", "4.2": "4.2"}
VARIANTS = ("flock", "gate", "replace")


def duration(ms: float | None, limit_s: float = 0) -> str:
    if ms is None:
        return f"> {limit_s:g} s"
    if ms >= 950:
        return f"{ms / 1000:.1f} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def row(name: str, values: list[str]) -> str:
    return f"| {name} | {' | '.join(values)} |\n"


def of(results: list[dict], job: str, **keys) -> dict | None:
    return next((r for r in results if r["job"] == job and all(r.get(key) == value for key, value in keys.items())), None)


def by_variant(results: list[dict], job: str, show, **keys) -> list[str] | None:
    """The three columns; None when one of them was not measured."""
    found = [of(results, job, variant=variant, **keys) for variant in VARIANTS]
    return None if None in found else [f"**{show(r)}**" if r["variant"] != "flock" else show(r) for r in found]


def total(results: list[dict], variant: str, what: str) -> str:
    found = [r for r in results if r["job"] == "coherence" and r["variant"] in (variant, f"intercept-{variant}")]
    return f"**{sum(r[what] for r in found)}** of {sum(r['expected'] for r in found)}" if found else ""


def markdown(results: list[dict], about: dict) -> str:
    rows = []

    def add(name: str, values: list[str] | None) -> None:
        if values:
            rows.append(row(name, values))

    for version, title in VERSIONS.items():
        for hold in (0.2, 1.2):
            add(f"{title}: hand-off, lock held for {hold} s, p50", by_variant(
                results, "handoff", lambda r: duration(r["p50_ms"]), version=version, hold_s=hold))
    for version, title in VERSIONS.items():
        add(f"{title}: 6 processes on 2 nodes, locks/s (longest wait)", by_variant(
            results, "contend", lambda r: f"{r['locks_per_s']:.0f} ({duration(r['wait_max_ms'])})", version=version))
    gate, replace = total(results, "gate", "lost"), total(results, "replace", "lost")
    if gate and replace:
        add("Updates lost, all idioms and versions", ["", gate, replace])
    for version in VERSIONS:
        add(f"{VERSIONS[version]}: the holder's node is cut off, the other waits", by_variant(
            results, "cutoff", lambda r: f"{r['waited_s']:.1f} s", version=version))
    for version in VERSIONS:
        add(f"{VERSIONS[version]}: `fopen('r+')` against the other node's read delegation", by_variant(
            results, "delegation", lambda r: duration(r["open_p50_ms"]), version=version))
    if not rows:
        return ""
    text = "| | `flock()` | `gate` | `replace` |\n|---|---|---|---|\n" + "".join(rows)

    notes = []
    naive = [r for r in results if r["job"] == "coherence" and r["variant"] == "naive" and r["idiom"] == "kept-open"]
    if naive:
        notes.append(f"A correct lock that knows nothing of the file, handle kept open: {sum(r['lost'] for r in naive)} of "
                     f"{sum(r['expected'] for r in naive)} updates lost.")
    plain = of(results, "stale", change="create", view="stat", way="clearstatcache")
    ours = of(results, "stale", change="create", view="stat", way="cluster_clearstatcache")
    if plain and ours:
        notes.append(f"`file_exists()` for a file that the other node has created: old for "
                     f"{duration(plain['stale_ms'], plain['limit_s'])}, after `cluster_clearstatcache()` (a call of "
                     f"{duration(ours['call_ms'])}) right at once.")
    cut = next((r for r in results if r["job"] == "cutoff"), None)
    if cut:
        notes.append(f"Cut off: NFS lease {cut['nfs_lease_s']} s (90 s by default), Redis lease {cut['ttl_s']} s "
                     "(10 s by default).")
    notes.append(f"{about['date']}, Linux {about['guest_kernel']} as server and both clients in one virtual machine with "
                 f"one CPU, PHP {about['php']}, Redis {about['redis']}: waits of a second carry over to a real network, "
                 "times below a millisecond do not. `script/nfs-lab` measures it again.")
    return text + "\n" + "\n".join(notes) + "\n"
