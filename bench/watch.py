#!/usr/bin/env python3
"""What `cluster-lock watch` costs while many locks are held: of a core, and of the server's.

    bench/watch.py COMMAND [COMMAND]      [--locks 5000] [--seconds 20]

With two commands (before and after a change) both look at the same server, one after the other, and the ratio is
printed. Needs redis-server and the extension (script/build). No test: it prints, and judges nothing."""

from __future__ import annotations

import argparse
import os
import pty
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOLD = "for ($n = 0; $n < (int) $argv[1]; $n++) cluster_lock(\"many-$n\", 0, ttl: 3600) || exit(1); echo 'held'; fgets(STDIN);"


def used(pid: int) -> float:
    """Seconds of a core that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(command: str, dsn: str, server: int, seconds: float) -> tuple[float, float]:
    master, slave = pty.openpty()
    environment = {**os.environ, "CLUSTER_LOCK_DSN": dsn, "TERM": "xterm-256color"}
    watch = subprocess.Popen([command, "watch"], stdin=slave, stdout=slave, stderr=slave, env=environment)

    def drain() -> None:
        try:
            while os.read(master, 65536):
                pass
        except OSError:
            pass

    os.close(slave)
    threading.Thread(target=drain, daemon=True).start()
    time.sleep(2)  # its first look
    before, began = (used(watch.pid), used(server)), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    shares = ((used(watch.pid) - before[0]) / passed, (used(server) - before[1]) / passed)
    watch.terminate()
    watch.wait()
    os.close(master)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="+")
    parser.add_argument("--locks", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    library = os.environ.get("CLUSTER_LOCK_SO") or str(ROOT / "target/modules/cluster_lock.so")
    with tempfile.TemporaryDirectory() as directory:
        socket = f"{directory}/redis.sock"
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", socket, "--save", ""],
                                  stdout=subprocess.DEVNULL)
        while not os.path.exists(socket):
            time.sleep(0.01)
        dsn = f"redis+unix://{socket}"
        settings = {"extension": library, "cluster_lock.dsn": dsn, "cluster_lock.auto_renew": "0"}
        options = [word for name, value in settings.items() for word in ("-d", f"{name}={value}")]
        holder = subprocess.Popen([os.environ.get("PHP", "php"), "-n", *options, "-r", HOLD, "--", str(args.locks)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert holder.stdout and holder.stdout.read(4) == b"held"
            print(f"{args.locks} locks, shares of one core over {args.seconds:g} s")
            results = []
            for command in args.commands:
                results.append(measure(command, dsn, server.pid, args.seconds))
                print(f"{command}: watch {results[-1][0]:.1%}, redis-server {results[-1][1]:.1%}")
            if len(results) == 2:
                ratios = [first / max(second, 0.001) for first, second in zip(*results)]
                print(f"ratio: watch {ratios[0]:.0f} x, redis-server {ratios[1]:.0f} x less")
        finally:
            holder.kill()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
