"""Runs one seed after the other: processes that lock, faults that hit them, and a checker that reads what they recorded."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import redis
from stand import servers as stand
from stand.servers import find_fpm, php_environment

import checker
import history as histories
import plan as plans
import report
from cluster import Cluster
from quorum import Quorum
from record import Record
from rig import Rig, Tormentor, Watch
from sentinels import Sentinels
from servers import BORN, Server, Target

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ["site", "theme-css", "a{b} c*", "ключ"]
# php/Actor.php
BROKEN_RUNS = "broken runs"
REPLICATED = ("sentinel", "cluster")
# What the broken build does wrong, one at a time: core/src/store/redis/sabotage.rs.
COMMON = ["release", "lease", "fence", "order", "covers", "clock+rank", "former"]
MISTAKES = {"single": COMMON, "sentinel": [*COMMON, "deaf"], "cluster": [*COMMON, "map"], "quorum": [*COMMON, "majority"]}
# Some have to be found out by a check of their own: a clock that goes back shows in others, too.
FOUND_BY = {"clock+rank": "runs", "covers": "runs", "former": "told"}
# Until whoever was killed last, and the waiters that died with it, are forgotten.
PATIENCE = 3.0 + 3.0 + 2.0
MARK = "CLUSTER_LOCK_CHAOS"
# Of a server that forgets, in seconds: longer than any lease of a run, and shorter than the checker's REST.
GRACE = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="script/chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="of each seed (120)")
    parser.add_argument("--seed", type=int, default=None, help="one seed (1)")
    parser.add_argument("--seeds", default=None, metavar="A..B", help="one after the other")
    parser.add_argument("--topology", choices=list(plans.FAULTS), default="single",
                        help="one server behind a proxy; a primary with a replica and three sentinels; a cluster of three "
                             "shards with a replica each; or three or five independent servers (single)")
    parser.add_argument("--amnesia", action="store_true",
                        help="servers forget what they know while locks are held, a majority of them where there are "
                             "more: that excuses no second holder")
    parser.add_argument("--no-grace", action="store_true",
                        help="with --amnesia: without ?grace=, so that there are violations")
    parser.add_argument("--clocks", action="store_true",
                        help="servers' clocks are set back and forward by up to 10 s, too: what is told of runs must hold")
    parser.add_argument("--clock", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--wait", action="store_true",
                        help="with sentinels or a cluster: ?wait=1, so that a fail-over excuses no second holder")
    parser.add_argument("--cli", type=int, default=10, help="php-cli processes at a time (10)")
    parser.add_argument("--fpm", type=int, default=6, help="php-fpm workers (6)")
    parser.add_argument("--no-pace", action="store_true", help="a wait that is too long is none until it is a minute")
    parser.add_argument("--polyfill", action="store_true",
                        help="every second php-cli process with packages/polyfill, on phpredis and on Predis, in the "
                             "extension's place; and signals and garbage that lock in all of them")
    parser.add_argument("--keep", type=Path, default=None, help="where the histories of a seed with violations are kept")
    parser.add_argument("--php", default=shutil.which("php"), help=argparse.SUPPRESS)
    parser.add_argument("--proxy", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--extension", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--broken", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--mistakes", default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.polyfill and given.topology != "single":
        parser.error("the polyfill knows one server only")
    if given.wait and given.topology not in REPLICATED:
        parser.error("nobody replicates there")
    if given.amnesia and given.topology not in plans.AMNESIA:
        parser.error("what a fail-over loses no server can know")
    if given.clocks:
        if given.amnesia:
            parser.error("no record that is put back says how long ago it was, when clocks are set")
        stand.Redis.clock = given.clock
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if given.no_pace:
        checker.expect_no_pace()

    if given.seeds:
        first, _, last = given.seeds.partition("..")
        seeds = list(range(int(first), int(last or first) + 1))
    else:
        seeds = [1 if given.seed is None else given.seed]
    # A build that is broken has to be found out, with every seed and every mistake in it.
    mistakes = MISTAKES[given.topology] if given.broken else [""]
    if given.broken and given.amnesia and given.topology != "cluster":
        mistakes = ["grace", *mistakes]
    if given.mistakes:
        mistakes = given.mistakes.split(",")
    rows, bad = [], []
    for seed in seeds:
        for mistake in mistakes:
            print(f"\n== seed {seed}, {given.seconds:g} s{mistake and f', mistake: {mistake}'}", flush=True)
            os.environ["CLUSTER_LOCK_SABOTAGE"] = mistake
            title, verdict = f"{seed} {mistake}", one(given, seed)
            rows.append((title, verdict))
            found = {violation.check for violation in verdict.violations}
            if mistake in FOUND_BY:
                found &= {FOUND_BY[mistake]}
            if bool(found) != given.broken:
                bad.append(title)
    if len(rows) > 1:
        print("\n" + table(rows))
    what = "violations found in each run" if given.broken else "no violation"
    print(f"\nChaos: ok, {what}" if not bad else f"\nChaos: FAILED, seeds {', '.join(bad)}")
    sys.exit(1 if bad else 0)


def one(given: argparse.Namespace, seed: int) -> checker.Verdict:
    with tempfile.TemporaryDirectory(prefix="cluster_lock-chaos.") as folder:
        room = Path(folder)
        for name in ("history", "files", "registers"):
            (room / name).mkdir()
        (room / "names.json").write_text(json.dumps(names_of(given.topology)))
        os.environ[MARK] = folder
        run(given, plans.make(seed, given.seconds, given.topology, given.amnesia, given.clocks), room)
        read = histories.load(room)
        verdict = checker.check(read)
        print(report.counts(verdict))
        if verdict.violations:
            print(report.violations(read, verdict, room))
            if given.keep:
                kept = given.keep / (f"seed-{seed}" if given.topology == "single" else f"{given.topology}-seed-{seed}")
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(room, kept, ignore=shutil.ignore_patterns("*.sock"))
                print(f"   kept in {kept}")
            broken = " --broken" if given.broken else ""
            broken += "" if given.topology == "single" else f" --topology {given.topology}"
            broken += " --polyfill" if given.polyfill else ""
            broken += " --amnesia" if given.amnesia else ""
            broken += " --no-grace" if given.no_grace else ""
            broken += " --wait" if given.wait else ""
            broken += " --clocks" if given.clocks else ""
            print(f"   again: script/chaos{broken} --seed {seed} --seconds {given.seconds:g}")
        print(f"   seed {seed}: {len(verdict.violations)} violations", flush=True)
        return verdict


def run(given: argparse.Namespace, plan: plans.Plan, room: Path) -> None:
    """The run itself; everything that it started has ended when it returns."""
    record = Record(room / "history")
    server = start(given, plan, room, record)
    rig = None
    sampling = threading.Event()
    try:
        options = "?wait=1" if given.wait else ""
        if given.amnesia and not given.no_grace and plan.topology != "cluster":
            options = f"?grace={GRACE}"
            # They are new, and nothing is held there.
            for client in server.servers():
                client.set(BORN, 0)
        inis = [write_ini(given, plan, room, f"ini-{side}", dsn + options) for side, dsn in enumerate(server.dsns)]
        rig = Rig(given.php, inis, room, record, plan)
        rig.hoarder = plan.topology == "cluster" and not given.no_pace
        if given.polyfill:
            rig.polyfill = write_polyfill_ini(inis[0])
        record.tell("begin", seed=plan.seed, flock_mode=plan.flock_mode, aof=plan.aof, topology=plan.topology,
                    amnesia=plan.amnesia, clocks=plan.clocks, wait=given.wait, servers=len(server.servers()))
        watch = Watch(record)
        watch.start()
        minor = subprocess.run([given.php, "-n", "-r", "echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION;"],
                               capture_output=True, text=True, check=True).stdout
        began = time.monotonic()
        rig.start(find_fpm(minor), given.cli, given.fpm)
        tormentor = Tormentor(rig, began)
        tormentor.start()
        eternal: set[str] = set()
        sampler = threading.Thread(target=sample, args=(rig, server, eternal, sampling), daemon=True)
        sampler.start()
        for fault in plan.servers:
            time.sleep(max(0.0, began + fault.at - time.monotonic()))
            # Those before it may have taken their time.
            if time.monotonic() > began + plan.seconds - plans.LEAD_OUT:
                break
            if fault.kind == "break":
                names = names_of(plan.topology)
                break_lock(rig, names[fault.pick % len(names)])
            else:
                server.apply(fault.kind, fault.lasts, fault.pick)
        time.sleep(max(0.0, began + plan.seconds - time.monotonic()))
        sampling.set()
        sampler.join()
        # Whoever stands still is woken at its time, and then ends.
        tormentor.join()
        hung = rig.end()
        watch.over.set()
        finish(rig, server, eternal, hung)
    finally:
        sampling.set()
        if rig:
            rig.stopping.set()
            for slot in rig.slots:
                if slot.process and slot.process.poll() is None:
                    slot.process.kill()
            if rig.fpm:
                rig.fpm.stop()
        server.stop()


def names_of(topology: str) -> list[str]:
    """Of a cluster each shard has some."""
    return [*NAMES, "a"] if topology == "cluster" else NAMES


def start(given: argparse.Namespace, plan: plans.Plan, room: Path, record: Record) -> Target:
    if plan.topology == "sentinel":
        return Sentinels(room, record)
    if plan.topology == "cluster":
        files = [f"file:{room}/files/{kind}-{number}" for kind in ("locked", "plain", "appended") for number in (0, 1)]
        return Cluster(room, record, plan.aof, given.proxy, [*names_of(plan.topology), BROKEN_RUNS, *files])
    if plan.topology == "quorum":
        return Quorum(room, record, plan.aof, given.proxy, plan.voters)
    return Server(room, record, plan.aof, given.proxy)


def write_ini(given: argparse.Namespace, plan: plans.Plan, room: Path, name: str, dsn: str) -> Path:
    folder = room / name
    folder.mkdir()
    settings = {
        "extension": given.extension, "memory_limit": "64M", "html_errors": 0, "error_log": f'"{room}/php.log"',
        "cluster_lock.dsn": f'"{dsn}"', "cluster_lock.ttl": 2, "cluster_lock.timeout": 15, "cluster_lock.slow_wait": 0,
        "cluster_lock.retry_after": 0.2, "cluster_lock.flock_mode": plan.flock_mode,
    }
    (folder / "php.ini").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    return folder / "php.ini"


def write_polyfill_ini(ini: Path) -> Path:
    """The same settings, which packages/polyfill reads there, and what it needs instead of the extension."""
    folder = ini.parent / "polyfill"
    folder.mkdir()
    lines = [line for line in ini.read_text().splitlines() if not line.startswith("extension ")]
    lines += [f"extension = {name}" for name in ("igbinary", "redis")]
    lines += [f'auto_prepend_file = "{ROOT}/packages/polyfill/tests/prepend.php"', 'include_path = ".:/usr/share/php"']
    (folder / "php.ini").write_text("\n".join(lines) + "\n")
    return folder / "php.ini"


def break_lock(rig: Rig, name: str) -> None:
    with rig.record.fault("break", name=name) as told:
        done = subprocess.run(rig.command("break.php", name), env=php_environment(rig.room), capture_output=True,
                              text=True, timeout=30)
        told["broke"] = done.stdout.strip() == "true"


def sample(rig: Rig, server: Target, eternal: set[str], over: threading.Event) -> None:
    """Once a second: keys that never expire, descriptors and memory of those that live long."""
    while not over.wait(1):
        rig.samples()
        try:
            eternal |= {key for key, life in server.keys().items() if life == -1}
        except redis.RedisError:
            continue


def finish(rig: Rig, server: Target, eternal: set[str], hung: list[str]) -> None:
    """What is left when everybody has ended."""
    files = rig.room / "files"
    temporary = sorted(path.name for path in files.glob(".*"))
    fences = {path.name: json.loads(path.read_text())["fence"] for path in files.glob("guarded-*")}
    done = subprocess.run(rig.command("aftermath.php", str(rig.room)), env=php_environment(rig.room),
                          capture_output=True, text=True, timeout=180)
    log = (rig.room / "fpm.log").read_text() if rig.fpm else ""
    rig.record.tell(
        "final", hung=hung, temporary=temporary, fences=fences, patience=PATIENCE, aftermath=json.loads(done.stdout),
        temporary_after=sorted(path.name for path in files.glob(".*")), eternal_keys=sorted(eternal),
        keys=server.left(), processes=left_behind(*server.pids()),
        crashes=[line for line in log.splitlines() if re.search(r"exited on signal (?!9 )", line)])


def left_behind(*known: int) -> list[str]:
    """Every process of the run inherits the mark; who still carries it now was left."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        pid = int(environ.parent.name)
        try:
            if pid not in (os.getpid(), *known) and mark in environ.read_bytes().split(b"\0"):
                found.append((environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [command for command in found if command]


def table(rows: list[tuple[str, checker.Verdict]]) -> str:
    columns = ["acquired", "waited", "timed_out", "kills", "stops", "flush", "failover", "switches", "slot_move",
               "voter_empty", "split", "overlaps_by_lease", "overlaps_after_data_loss", "refused_fenced_writes"]
    # What no run had is no fault of its topology.
    columns = [column for column in columns if any(verdict.counts[column] for _, verdict in rows)]
    head = ["seed", *(column.replace("_", " ") for column in columns), "violations"]
    lines = [head, *([title, *(str(verdict.counts[column]) for column in columns), str(len(verdict.violations))]
                     for title, verdict in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("   " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines)


if __name__ == "__main__":
    main()
