"""cluster-lock doctor on two nodes that mount one export in different places: does it name the mounts, and does what it
prints for php.ini cure what it found, so that its second run is green and the nodes' PHP exclude each other?

Arguments: versions=4.1,4.0
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lab import (CONFIGURED, FPM, MOUNTS, NODES, PHP, REPORT, SERVER, Php, arguments, cut_off, excludes,
                 mounted, on, path, reconnect, record, run)

COMMAND = str(REPORT / "cluster-lock")
DSN = f"redis://{SERVER}"
# Named, not found: the nodes see this machine's programs, and whatever other PHP it has is not the nodes'.
PROGRAMS = [word for php in (PHP, FPM) if php for word in ("--php", php)]


def doctor(node: str, *words: str, dsn: str | None = None) -> tuple[int, str]:
    server = ["--dsn", dsn] if dsn else []
    command = on(node, COMMAND, *server, "doctor", *PROGRAMS, *words)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr}")
    return done.returncode, done.stdout


def report(node: str, *words: str, dsn: str | None = None) -> tuple[int, dict]:
    status, text = doctor(node, "--json", *words, dsn=dsn)
    return status, json.loads(text)


def bad(found: dict) -> list[str]:
    """What keeps a report from being green."""
    return [f"{finding['id']} {finding['subject']}" for finding in found["findings"]
            if finding["severity"] in ("warning", "problem")]


def give_own_configuration(node: str, directories: list[str]) -> None:
    """The nodes share a file system, but for what is mounted over it."""
    for number, directory in enumerate(directories):
        own = Path(f"/run/php-{node}-{number}")
        shutil.copytree(directory, own, symlinks=True)
        run(on(node, "mount", "--bind", str(own), directory))


def install(node: str, directories: list[str], ini: str) -> None:
    for directory in directories:
        file = f"{directory}/90-cluster_lock.ini"
        subprocess.run(on(node, "tee", file), input=ini, stdout=subprocess.DEVNULL, text=True, check=True)


def both_ways(version: str) -> list[dict]:
    """Does flock() of the PHP that is configured exclude across the nodes, by a lock of ours?"""
    done = []
    for holder, asker in (NODES, NODES[::-1]):
        first, second = (Php(node, "exclusion", CONFIGURED, kind="flock", path=path(node, version, "doctor.txt"))
                         for node in (holder, asker))
        first.hear(), second.hear()
        excluded, after_ms, locks = excludes(first, second)
        first.finish(), second.finish()
        done.append({"holder": holder, "excluded": excluded, "after_ms": round(after_ms, 2), "locks": locks})
    return done


def main() -> None:
    versions = arguments()["versions"].split(",")
    with contextlib.ExitStack() as mounts:
        for version in versions:
            mounts.enter_context(mounted(version))

        inis, places = {}, {}
        for node in NODES:
            began = time.monotonic()
            status, found = report(node, dsn=DSN)
            took = time.monotonic() - began
            # As an administrator does it.
            _, inis[node] = doctor(node, "--ini", "--no-measure", dsn=DSN)
            places[node] = sorted({php["scan_dir"] for php in found["php"]})
            give_own_configuration(node, places[node])
            named = {mount["point"]: mount["described"] for mount in found["this"]["mounts"]}
            wanted = [f"{MOUNTS[node]}/{version}" for version in versions]
            for finding in found["findings"]:
                print(f"{node}: {finding['severity']} {finding['id']} {finding['subject']}: {finding['says']}")
            print(f"{node}: php.ini\n{inis[node]}")
            record("doctor", run="first", node=node, status=status, green=found["green"], seconds=round(took, 2),
                   named=all(f"NFS {version} from {SERVER}:/" in named.get(point, "")
                             for version, point in zip(versions, wanted)),
                   mounts=named, bad=bad(found), measured=found["measured"], same_ini=inis[node] == found["ini"])

        extensions = {php["extension_dir"] for php in found["php"]}
        for directory in extensions:
            shutil.copy(REPORT / "cluster_lock.so", directory)
        for node in NODES:
            install(node, places[node], inis[node])

        other = None
        for node, once_more in ((NODES[0], False), (NODES[1], False), (NODES[0], True)):
            words = ["--compare", str(other)] if other else []
            if once_more:
                words.append("--no-measure")
            status, found = report(node, *words, *(f"{MOUNTS[node]}/{version}" for version in versions))
            other = REPORT / f"doctor-{node}.json"
            other.write_text(json.dumps(found))
            for finding in found["findings"]:
                print(f"{node}: {finding['severity']} {finding['id']} {finding['subject']}: {finding['says']}")
            record("doctor", run="second", node=node, status=status, green=found["green"], bad=bad(found),
                   compared=sum(finding["id"] == "nodes.name" for finding in found["findings"]),
                   ini=found["ini"], names=found["names"])

        for version in versions:
            for crossing in both_ways(version):
                name = found["names"][f"{MOUNTS[NODES[0]]}/{version}"]
                record("doctor", run="crossing", version=version, **crossing,
                       ours=f"{name}/doctor.txt" in crossing["locks"])

        # At 3 a.m.: the file server does not answer, and the lock server neither.
        cut_off(NODES[0])
        status, found = report(NODES[0])
        record("doctor", run="cut", node=NODES[0], status=status, bad=bad(found))
        reconnect(NODES[0])


main()
