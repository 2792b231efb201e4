"""Runs the measurements that script/bench asks for. See README.md in this directory."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness import report, system
from harness.run import Run
from sections import contention, fpm, handoff, runs, scale, streams, uncontended, write
from stand.servers import find_fpm

SECTIONS = {"a": uncontended, "b": handoff, "c": contention, "d": fpm, "e": write, "f": streams}
#: Measured when asked for by name.
APART = {"scale": scale, "runs": runs}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description="Measures cluster_lock against its peers.")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true", help="about a minute, rough numbers")
    amount.add_argument("--long", action="store_true", help="also 100,000 increments by 16 processes")
    parser.add_argument("--only", default="a,b,c,d,e,f", metavar="a,c",
                        help="sections: a uncontended, b hand-off, c contention, d php-fpm, e writes, "
                             "f streams; and, alone: scale, runs")
    parser.add_argument("--php", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--extension", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--delay-proxy", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--crowd", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tmp", required=True, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.only = [letter.strip() for letter in args.only.split(",")]
    if unknown := set(args.only) - set(SECTIONS) - set(APART):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    return args


def php_ini(php: str, path: Path, extensions: list[str]) -> Path:
    """One php.ini for all contestants, but for the extension itself. JIT off, as PHP 8.2 comes."""
    path.mkdir()
    builtin = subprocess.run([php, "-n", "-m"], capture_output=True, text=True, check=True).stdout.lower().split()
    wanted = [e for e in ("igbinary", "sockets", "redis") if e not in builtin]
    if "opcache" not in builtin:
        wanted.insert(0, "opcache")
    lines = [f"{'zend_extension' if e == 'opcache' else 'extension'}={e}" for e in wanted]
    lines += [f"extension={e}" for e in extensions]
    lines += ["opcache.enable=1", "opcache.enable_cli=1", "opcache.validate_timestamps=0", "opcache.jit_buffer_size=0",
              "memory_limit=256M", "max_execution_time=0", "include_path=.:/usr/share/php", "date.timezone=UTC"]
    file = path / "php.ini"
    file.write_text("\n".join(lines) + "\n")
    return file


def main() -> None:
    args = options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # so that every server is stopped on the way out

    minor = system.output(args.php, "-n", "-r", "echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION;")
    run = Run(php=args.php, fpm=find_fpm(minor), tmp=args.tmp, delay_proxy=args.delay_proxy, crowd=args.crowd,
              ini_plain=php_ini(args.php, args.tmp / "ini-plain", []),
              ini_ours=php_ini(args.php, args.tmp / "ini-ours", [str(args.extension)]),
              quick=args.quick, long=args.long)
    machine = system.facts(args.php, args.tmp)
    run.say(f"{machine['cpus']} x {machine['cpu']}, Linux {machine['kernel']}, PHP {machine['php']}, "
            f"phpredis {machine['phpredis']}, Redis {machine['redis']}, commit {machine['commit']}")
    if machine["load_before"] > 0.5 * os.cpu_count():
        run.say(f"warning: the load is {machine['load_before']} before the first measurement; expect noise")

    began = time.monotonic()
    others = machine["cpus_busy_with_other_programs"] = {}
    for letter in args.only:
        section = (SECTIONS | APART)[letter]
        machine_before, own_before, start = *system.cpu_seconds(), time.monotonic()
        section.measure(run)
        machine_after, own_after = system.cpu_seconds()
        foreign = (machine_after - machine_before - own_after + own_before) / (time.monotonic() - start)
        others[letter] = round(max(0.0, foreign), 2)
        run.progress("")
        run.say("\n".join(section.table(run)))
        run.say(f"    other programs kept {others[letter]} of {machine['cpus']} CPUs busy meanwhile"
                + ("; expect noise" if others[letter] > 0.1 else ""))
        section.targets(run)
    report.print_targets(run)

    machine["seconds"] = round(time.monotonic() - began)
    whole = set(args.only) == set(SECTIONS)
    alone = args.only[0] if len(args.only) == 1 and args.only[0] in APART and not args.quick else None
    name = "latest" if whole else alone or "partial"
    path = report.write_json(run, machine, {"quick": args.quick, "long": args.long, "only": args.only}, name)
    run.say(f"\n{path.relative_to(system.ROOT)} after {machine['seconds']} s")
    if whole and not args.quick:
        report.rewrite_table(run, machine)


if __name__ == "__main__":
    main()
