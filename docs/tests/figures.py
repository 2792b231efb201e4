"""Figures in the pages: they are those of the last complete runs of script/bench and script/nfs-lab."""

from __future__ import annotations

import json
import textwrap

from pages import ROOT


def stale(write: bool) -> list[str]:
    """The tables that do not say what was measured last; with `write` they do afterwards."""
    bench = json.loads((ROOT / "bench/results/latest.json").read_text())
    nfs = json.loads((ROOT / "lab/nfs/results/latest.json").read_text())
    scale = json.loads((ROOT / "bench/results/scale.json").read_text())
    runs = json.loads((ROOT / "bench/results/runs.json").read_text())
    theme = json.loads((ROOT / "lab/nfs/results/theme.json").read_text())
    return (between("docs/comparison.md", "measured", compared(bench), write)
            + between("docs/cost.md", "growth", growth(scale), write)
            + between("docs/cost.md", "runs", shared_work(runs), write)
            + between("README.md", "theme", saved_theme(theme), write)
            + between("README.md", "growth", growth_in_lines(scale["results"]["scale"], runs["results"]["runs"]), write)
            + between("README.md", "numbers", numbers(bench, nfs), write))


def between(name: str, mark: str, table: str, write: bool) -> list[str]:
    page = ROOT / name
    before, start, rest = page.read_text().partition(f"<!-- {mark}:start -->\n")
    _, end, after = rest.partition(f"<!-- {mark}:end -->")
    text = f"{before}{start}{table}\n{end}{after}"
    if not end:
        return [f"{name} has lost its marks for the figures"]
    if text == page.read_text():
        return []
    if write:
        page.write_text(text)
        return []
    return [f"{name}: its figures are not those that were measured last (script/test docs -- --write)"]


def numbers(bench: dict, nfs: dict) -> str:
    """What a reader asks first, a row each."""
    machine, results = bench["machine"], bench["results"]
    far = {name: of["p50_us"] for name, of in results["uncontended"]["places"]["delay"]["contestants"].items()}
    waits = {name: of["p50_us"] / 1000 for name, of in results["handoff"]["tcp"]["contestants"].items()}
    crowd = results["contention"]["places"]["two_cpus"]["points"]
    page = results["fpm"]["pages"]["empty"]
    mount = {run["variant"]: run["p50_ms"] for run in nfs["results"]
             if run["job"] == "handoff" and run["version"] == "4.0" and run["hold_s"] == 1.2}
    pings = min(far[name] for name in far if name.startswith("ping"))
    return "\n".join([
        "| | cluster_lock | others |",
        "|---|--:|---|",
        f"| A free lock, taken and given back, the server 0.5 ms away | **{far['cluster_lock']:.0f} µs** | two PINGs "
        f"{pings:.0f}, phpredis `SET NX` + script {far['phpredis_set']:.0f}, symfony/lock {far['symfony']:.0f} µs |",
        f"| Hand-off to a process that waits | **{waits['cluster_lock']:.2f} ms** | phpredis `BLPOP`, unfair, "
        f"{waits['phpredis_blpop']:.2f}, php-lock {waits['malkusch']:.0f}, symfony/lock {waits['symfony']:.0f} ms |",
        f"| The same between nodes on NFS 4.0, held for 1.2 s | **{mount['gate']:.1f} ms** | "
        f"`flock()` {mount['flock'] / 1000:.1f} s |",
        f"| 16 processes on one lock: least / most served | **{crowd['cluster_lock']['16']['least_to_most']:.2f}** | "
        f"local `flock()` {crowd['flock']['16']['least_to_most']:.2f}, phpredis `BLPOP` "
        f"{crowd['phpredis_blpop']['16']['least_to_most']:.2f} |",
        f"| Requests/s of a page that locks nothing | **{page['with_vs_without']['median']:.3f} ×** | "
        f"two equal workers without it {page['noise']['median']:.3f} × |",
        "",
        f"Medians, {machine['cpus']} × {machine['cpu']}, {machine['date'][:10]}; NFS: {nfs['about']['date']}.",
    ])


def saved_theme(nfs: dict) -> str:
    """What becomes of a theme that many save on two nodes, a row each way."""
    about, found = nfs["about"], {(run["version"], run["way"]): run for run in nfs["results"]}
    versions = {"4.0": "NFS 4.0", "4.1-nonotify": "4.1 without callbacks", "4.1": "4.1"}
    ways = {
        "fopen-flock": "`fopen('w')`, `flock()`",
        "fopen-flock-intercepted": "the same code, intercepted",
        "file_put_contents-intercepted": "`file_put_contents(…, LOCK_EX)`, intercepted",
        "cluster_file_put_contents": "`cluster_file_put_contents(…, LOCK_EX)`",
        "cluster_lock": "`cluster_lock()` around all of it",
        "cluster_file_build": "`cluster_file_build()`",
    }

    def took(run: dict) -> str:
        return " / ".join(f"{run[name] / 1000:.1f}" for name in ("p50_ms", "p99_ms", "max_ms"))

    rows = []
    for way, label in ways.items():
        runs = [found[version, way] for version in versions]
        saves, lost, torn, reads, old, compiles = (
            sum(run[what] for run in runs) for what in ("stored", "lost", "torn", "reads", "old", "compiles"))
        rows.append(f"| {label} | {' | '.join(took(run) for run in runs)} | {lost} of {saves} | {torn} of {reads} | {old} | "
                    f"{compiles} |")
    run = found["4.0", "cluster_file_build"]
    refused = sum(run.get("refused", 0) for run in nfs["results"])
    busy = (f"The machine had other things to do (load {about['load']:.0f} on {about['cpus']} CPUs): it is what all but the first "
            "row wait for most of the time. " if about["load"] > about["cpus"] + 1 else "")
    return "\n".join([
        f"| a save takes, s: p50 / p99 / max | {' | '.join(versions.values())} | saves lost | torn reads | old reads | compiles |",
        "|---|" + "--:|" * (len(versions) + 4),
        *rows,
        "",
        *textwrap.wrap(
            f"{run['savers']} savers on two nodes, all at once, {run['rounds']} times over; a compile takes {run['compile_ms']} "
            "ms and hardly any CPU, as if each saver had one. Old: by more than a second than the last save that was over. "
            f"{about['date']}, Linux {about['guest_kernel']} as file server and both nodes in one virtual machine with one CPU: "
            "what flock() polls for, from one second on, it does on a real network, too; times of some milliseconds are another "
            f"matter. {refused} reads were answered with an error. {busy}"
            "[`script/nfs-lab --save theme`](lab/nfs/README.md) measures it again.",
            116, break_on_hyphens=False, break_long_words=False),
    ])


def growth_in_lines(scale: dict, runs: dict) -> str:
    """Locks, waiters, processes and callers, a line each."""
    held, waiters = scale["held"]["50"]["10000"], scale["waiters"]["10000"]
    ours, theirs = (scale["processes"][name]["16"]["locks_per_s"] for name in ("cluster_lock", "symfony"))
    wait = waiters["hand_over"]
    run, turn = (runs[where]["64"]["p99_ms"] / 1e3 for where in ("at_once", "plain"))
    return "\n".join([
        f"* 10,000 locks held by one process, the server 50 ms away: {held['lost']} lost, {held['server_cpu'] * 100:.0f} % of a "
        "core of the server.",
        f"* 10,000 that wait for one lock: {waiters['server_cpu'] * 100:.0f} % of a core, and it is handed over in "
        f"{wait['p50_us'] / 1e3:.1f} ms (p99: {wait['p99_us'] / 1e3:.1f}).",
        f"* 16 processes, each with a lock of its own: {ours:,.0f} locks/s, symfony/lock {theirs:,.0f}.",
        f"* 64 processes that want the same 100 ms of work done at once: {max(runs['at_once']['64']['runs'])} runs, and each has "
        f"its answer in {run:.2f} s (p99). By a lock: 64 runs, {turn:.1f} s.",
    ])


def shared_work(bench: dict) -> str:
    """What many wait who want the same done, and how often it is done."""
    machine, runs = bench["machine"], bench["results"]["runs"]
    numbers, free = list(runs["at_once"]), runs["free"]

    def row(label: str, cells: list[str]) -> str:
        return f"| {label} | {' | '.join(cells)} |"

    def often(points: dict) -> list[str]:
        return ["–".join(map(str, sorted({min(points[n]["runs"]), max(points[n]["runs"])}))) for n in numbers]

    def waited(points: dict) -> list[str]:
        return [f"{points[n]['p50_ms'] / 1e3:.2f} ({points[n]['p99_ms'] / 1e3:.2f})" for n in numbers]

    return "\n".join([
        row("callers, all at once", numbers),
        "|---|" + "--:|" * len(numbers),
        row("**`cluster_coalesced()`**: runs", often(runs["at_once"])),
        row("time of a call, p50 (p99), s", waited(runs["at_once"])),
        row("a lock instead: runs", numbers),
        row("time of a call, p50 (p99), s", waited(runs["plain"])),
        row("spread over half a second: runs", often(runs["spread"])),
        "",
        *textwrap.wrap(
            "8 and 64 are PHP processes, 512 are callers of the engine in one process. When nobody else wants it, a call takes "
            f"{free['delay']['ratio']['median']:.2f} times what a lock and its release take, the server 0.5 ms away, and "
            f"{free['tcp']['ratio']['median']:.2f} times on this machine ({free['tcp_one_cpu']['ratio']['median']:.2f} with all "
            f"on one CPU). {machine['date'][:10]}, {machine['cpus']} × {machine['cpu']}, Linux {machine['kernel']}, PHP "
            f"{machine['php']}, Redis {machine['redis']}; `script/bench --only runs` measures it again.",
            116, break_on_hyphens=False, break_long_words=False),
    ])


def growth(bench: dict) -> str:
    """What grows with locks, waiters, processes and shards."""
    machine, scale = bench["machine"], bench["results"]["scale"]
    held, waiters, processes, shards = (scale[name] for name in ("held", "waiters", "processes", "shards"))
    numbers = list(waiters)

    def row(label: str, cells: list[str]) -> str:
        return f"| {label} | {' | '.join(cells)} |"

    idle = []  # where it was measured
    if "connections_cpu" in waiters[numbers[0]]:
        idle.append(row("as many idle connections, without a lock",
                        [f"{waiters[n]['connections_cpu'] * 100:.1f} %" for n in numbers]))
    counts = list(processes["cluster_lock"])
    names = {"cluster_lock": "**cluster_lock**", "symfony": "symfony/lock", "phpredis_set": "phpredis `SET NX` + script"}
    return "\n".join([
        row("", [f"{int(n):,}" for n in numbers]),
        "|---|" + "--:|" * len(numbers),
        *[row(f"locks held, the server {distance} ms away: share of a core of the server; lost",
              [f"{points[n]['server_cpu'] * 100:.1f} %; {points[n]['lost']}" for n in numbers])
          for distance, points in held.items()],
        row("waiters of one lock: share of a core of the server", [f"{waiters[n]['server_cpu'] * 100:.1f} %" for n in numbers]),
        *idle,
        row("hand-over, p50 (p99), ms", [f"{waiters[n]['hand_over']['p50_us'] / 1e3:.1f} "
                                         f"({waiters[n]['hand_over']['p99_us'] / 1e3:.1f})" for n in numbers]),
        "",
        row("processes, each on a lock of its own: locks/s (for each core that the server uses)",
            [f"{int(n):,}" for n in counts]),
        "|---|" + "--:|" * len(counts),
        *[row(names[name], [f"{points[n]['locks_per_s']:,.0f} ({points[n]['locks_per_server_core_s']:,})" for n in counts])
          for name, points in processes.items()],
        "",
        *textwrap.wrap(
            "12 processes on a cluster, all on this machine: "
            + ", ".join(f"{n} {'shard' if n == '1' else 'shards'} {p['locks_per_s']:,.0f} locks/s "
                        f"({p['locks_per_server_core_s']:,})" for n, p in shards.items())
            + f". {machine['date'][:10]}, {machine['cpus']} × {machine['cpu']}, Linux {machine['kernel']}, PHP "
            f"{machine['php']}, Redis {machine['redis']}; `script/bench --only scale` measures it again. A server that has "
            "nothing to do uses some 2 % of a core there.", 116, break_on_hyphens=False, break_long_words=False),
    ])


def compared(bench: dict) -> str:
    """How long each of them takes."""
    machine, results = bench["machine"], bench["results"]
    near = results["uncontended"]["places"]["tcp"]["contestants"]
    far = results["uncontended"]["places"]["delay"]["contestants"]
    waits = results["handoff"]["tcp"]["contestants"]

    def row(label: str, free: str, wait: str) -> str:
        def time(of: dict, name: str) -> str:
            if name not in of:
                return "–"
            us = of[name]["p50_us"]
            return f"{us:.0f} µs" if us >= 10 and us < 10000 else f"{us:.1f} µs" if us < 10 else f"{us / 1000:.0f} ms"

        return f"| {label} | {time(near, free)} | {time(far, free)} | {time(waits, wait)} |"

    pings = min(near[name]["p50_us"] for name in near if name.startswith("ping"))
    return "\n".join([
        "| p50 | lock and unlock, nobody else, loopback | the same, 0.5 ms away | from unlock to the waiter's return |",
        "|---|--:|--:|--:|",
        row("**cluster_lock**", "cluster_lock", "cluster_lock"),
        row("`flock()`, local disk", "flock", "flock"),
        row("phpredis `SET NX EX`, script to delete", "phpredis_set", ""),
        row("the same with a fencing token", "phpredis_fence", ""),
        row("phpredis `BLPOP`, unfair", "", "phpredis_blpop"),
        row("symfony/lock, `RedisStore`", "symfony", "symfony"),
        row("php-lock/lock, `PHPRedisMutex`", "malkusch", "malkusch"),
        "",
        *textwrap.wrap(
            f"{machine['date'][:10]}, {machine['cpus']} × {machine['cpu']}, Linux {machine['kernel']}, PHP "
            f"{machine['php']}, Redis {machine['redis']}, symfony/lock {machine['symfony_lock']}, php-lock "
            f"{machine['php_lock']}; two PINGs take {pings:.0f} µs there. Everything: "
            "[`bench/results/latest.json`](../bench/results/latest.json), and how: "
            "[`bench/README.md`](../bench/README.md).", 116, break_on_hyphens=False, break_long_words=False),
    ])
