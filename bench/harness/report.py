"""What a run leaves behind: the printed tables, latest.json, the table in docs/cost.md."""

from __future__ import annotations

import json
from pathlib import Path

from .run import OUR_SYMFONY, OURS, Run
from .system import BENCH, ROOT

RESULTS = BENCH / "results"
START, END = "<!-- bench:start -->", "<!-- bench:end -->"


def print_targets(run: Run) -> None:
    run.say("\ntargets")
    for t in run.targets:
        mark = {True: "pass", False: "MISS", None: " -  "}[t["met"]]
        run.say(f"    {mark}  {t['target']:<92} {t['measured']:>18}")
    missed = sum(t["met"] is False for t in run.targets)
    run.say(f"    {sum(t['met'] is True for t in run.targets)} met, {missed} missed")


def write_json(run: Run, machine: dict, options: dict, name: str) -> Path:
    """Everything that was measured, as bench/results/NAME.json."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "options": options, "results": run.results,
                                "targets": run.targets}, indent=1) + "\n")
    return path


def markdown(run: Run, machine: dict) -> str:
    """A row for each thing a reader would ask; only of what was measured."""
    rows: list[tuple[str, str, str]] = []
    places = run.results.get("uncontended", {}).get("places", {})
    for place, title in (("tcp", "Lock + unlock, nobody else, loopback"), ("delay", "The same, 0.5 ms away")):
        if place in places:
            c = places[place]["contestants"]
            rows.append((title, f"**{c[OURS]['p50_us']:.0f} µs**",
                         f"two PINGs {c[places[place]['floor']]['p50_us']:.0f}, "
                         f"phpredis `SET NX` + script {c['phpredis_set']['p50_us']:.0f}, "
                         f"two scripts with fence {c['phpredis_fence']['p50_us']:.0f}, "
                         f"php-lock {c['malkusch']['p50_us']:.0f}, symfony/lock {c['symfony']['p50_us']:.0f}, "
                         f"the same with our store {c[OUR_SYMFONY]['p50_us']:.0f} µs"))
    if "handoff" in run.results:
        c = run.results["handoff"]["tcp"]["contestants"]
        rows.append(("Hand-off to a waiting process, p50 (p99)",
                     f"**{c[OURS]['p50_us'] / 1e3:.2f} ms** ({c[OURS]['p99_us'] / 1e3:.1f})",
                     f"local `flock` {c['flock']['p50_us'] / 1e3:.2f}, "
                     f"phpredis `BLPOP` {c['phpredis_blpop']['p50_us'] / 1e3:.2f}, "
                     f"php-lock {c['malkusch']['p50_us'] / 1e3:.0f}, "
                     f"symfony/lock {c['symfony']['p50_us'] / 1e3:.0f}, "
                     f"the same with our store {c[OUR_SYMFONY]['p50_us'] / 1e3:.2f} ms"))
    if "contention" in run.results:
        place = run.results["contention"]["places"]["two_cpus"]
        p = place["points"]
        rows.append((f"16 processes on one lock, {place['description']}",
                     f"**{p[OURS]['16']['cycles_per_s']:.0f} cycles/s**",
                     f"one process alone {p[OURS]['1']['cycles_per_s']:.0f}, "
                     f"phpredis `BLPOP` {p['phpredis_blpop']['16']['cycles_per_s']:.0f}"))
        rows.append(("Least / most served of the 16", f"**{p[OURS]['16']['least_to_most']:.2f}**",
                     f"phpredis `BLPOP` {p['phpredis_blpop']['16']['least_to_most']:.2f}, "
                     f"local `flock` {p['flock']['16']['least_to_most']:.2f}"))
        rows.append(("Lost updates", f"**{sum(x['lost'] for x in p[OURS].values())}**", ""))
    if "fpm" in run.results:
        f = run.results["fpm"]
        page = f["pages"]["empty"]
        rows.append(("Empty php-fpm page, extension loaded, no lock",
                     f"**{page['with_vs_without']['median']:.3f} ×**",
                     f"of {page['requests_per_s']['plain']:.0f} requests/s without it "
                     f"(two equal workers: {page['noise']['median']:.3f} ×)"))
        rows.append(("Memory of an idle worker",
                     f"**{f['idle'][OURS]['rss_kb'] - f['idle']['plain']['rss_kb']:+d} kB**",
                     f"of {f['idle']['plain']['rss_kb']} kB; no thread, no socket"
                     if f["idle"][OURS]["threads"] == 1 and f["idle"][OURS]["sockets"] == f["idle"]["plain"]["sockets"]
                     else f"of {f['idle']['plain']['rss_kb']} kB"))
        rows.append(("New connections in 1,000 locking requests", f"**{f['locking']['connections']}**", ""))
    if "write" in run.results:
        for size in ("10 KB", "1 MB"):
            w = run.results["write"]["sizes"][size]
            rows.append((f"Atomic write of {size}, unsynced", f"**{w['cluster, durable=0']['p50_us']:.0f} µs**",
                         f"`file_put_contents` {w['file_put_contents']['p50_us']:.0f} (not atomic), "
                         f"`tempnam` + `rename` {w['tempnam, rename']['p50_us']:.0f} µs"))
            rows.append((f"Atomic write of {size}, durable", f"**{w['cluster, durable=1']['p50_us'] / 1e3:.2f} ms**",
                         f"`tempnam` + `fsync` + `rename` + `fsync` by hand "
                         f"{w['tempnam, fsync, rename, fsync']['p50_us'] / 1e3:.2f} ms"))
    lines = ["| | cluster_lock | others |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows), "",
             f"{machine['date'][:10]}, {machine['cpus']} × {machine['cpu']}"
             f"{' (' + machine['virtual'] + ')' if machine['virtual'] else ''}, Linux {machine['kernel']}, "
             f"PHP {machine['php']}, Redis {machine['redis']}. Medians; `script/bench` measures them again. "
             f"Meanwhile other programs used up to {max(machine['cpus_busy_with_other_programs'].values())} CPUs."]
    return "\n".join(lines)


def rewrite_table(run: Run, machine: dict) -> None:
    """Puts the table between the markers; no page or no markers, no table."""
    path = ROOT / "docs/cost.md"
    if not path.exists():
        return
    text = path.read_text()
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if start and end:
        path.write_text(f"{head}{START}\n{markdown(run, machine)}\n{END}{tail}")
        run.say("docs/cost.md: table rewritten; for README's numbers: script/test docs -- --write")
