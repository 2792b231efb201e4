"""What the jobs share: NFS mounts on the two nodes, PHP processes on them, results. Runs in the guest."""

from __future__ import annotations

import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path

SERVER = "10.9.0.1"
NODES = ("a", "b")
# Different on purpose: only cluster_lock.path_map makes the nodes' paths equal.
MOUNTS = {"a": "/mnt/a-site", "b": "/srv/b-site"}
EXPORT = Path("/export")
REPORT = Path("/run/report")
PHP = os.environ["lab_php"]
FPM = os.environ["lab_fpm"]  # empty: this PHP has none
PROXY_PORT = 2050
# Without callbacks: a proxy hides from the client that the server would notify it of a free lock.
NO_NOTIFY = "4.1-nonotify"
OURS = ("gate", "replace", "intercept-gate", "intercept-replace", "intercept-prefix")
# PHP as it is configured on the node, by files, and not by the job.
CONFIGURED = "configured"
HOLD = 0.15  # seconds in which nobody else must get in


def on(node: str, *command: str) -> list[str]:
    pid = Path(f"/run/node.{node}").read_text().strip()
    return ["nsenter", "-t", pid, "-n", "-m", "-u", "--", *command]


def run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout.strip() or done.returncode}")


@contextlib.contextmanager
def mounted(version: str):
    """Mounts the export on both nodes at MOUNTS[node]/version. One version at a time: the kernel would join
    4.1 and 4.1 through the proxy into one client, and use one connection for both."""
    proxy, options = None, f"vers={version}"
    if version == NO_NOTIFY:
        proxy = subprocess.Popen([sys.executable, "/run/lab/nfs/guest/no_notify_proxy.py", f"{SERVER}:{PROXY_PORT}",
                                  f"{SERVER}:2049"], stdout=subprocess.PIPE)
        proxy.stdout.readline()  # it listens
        options = f"vers=4.1,port={PROXY_PORT}"
    for node in NODES:
        run(on(node, "mkdir", "-p", f"{MOUNTS[node]}/{version}"))
        run(on(node, "mount", "-t", "nfs4", "-o", options, f"{SERVER}:/", f"{MOUNTS[node]}/{version}"))
    yield
    # Not after a failure: then the guest ends, mounted or not, and this would hide what failed.
    for node in NODES:
        run(on(node, "umount", "-f", f"{MOUNTS[node]}/{version}"))
    if proxy:
        proxy.kill()
        proxy.wait()


def cut_off(node: str) -> None:
    run(["ip", "link", "set", f"port-{node}", "down"])


def reconnect(node: str) -> None:
    run(["ip", "link", "set", f"port-{node}", "up"])


def settings(node: str, variant: str) -> list[str]:
    """The php.ini of one node."""
    if variant in ("flock", "none"):
        return []
    ini = {
        "extension": "/run/report/cluster_lock.so",
        "cluster_lock.dsn": f'"redis://{SERVER}"',
        "cluster_lock.node": node,
        "cluster_lock.path_map": f'"{MOUNTS[node]}=/site"',
        "cluster_lock.slow_wait": "0",
        # flock() has no time-out, and what it is compared with may wait for a long time.
        "cluster_lock.timeout": "120",
        "cluster_lock.flock_mode": "replace" if variant.endswith("replace") else "gate",
    }
    if variant == "intercept-prefix":
        ini["cluster_lock.intercept"] = f'"{MOUNTS[node]}"'
    elif variant.startswith("intercept"):
        ini["cluster_lock.intercept"] = "@network"
    return [argument for name, value in ini.items() for argument in ("-d", f"{name}={value}")]


def excludes(holder: Php, asker: Php) -> tuple[bool, float, list[str]]:
    """Of two exclusion.php: did the asker wait for the holder? How long, after the release, until it was in, in ms?
    And what locks were there when the holder had it?"""
    holder.tell("hold")
    locks = holder.hear()["locks"]
    asker.tell("ask")
    asker.hear()
    early = asker.hears(HOLD)
    holder.tell("release")
    released = holder.hear()["released"]
    got = (early or asker.hear())["got"]
    return got >= released, (got - released) / 1e6, locks


def print_kernel_stacks() -> None:
    """Where every process waits in the kernel: for the log of a job that hangs."""
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda p: int(p.name)):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            name = command.strip() or f"[{(process / 'comm').read_text().strip()}]"
            stack = " < ".join(line.split()[-1] for line in (process / "stack").read_text().splitlines())
        except OSError:
            continue
        print(f"{process.name} {name[:100]}: {stack}")


class Php:
    """A PHP process on a node. It speaks one JSON object a line, and is spoken to in lines."""

    def __init__(self, node: str, program: str, variant: str, ini: dict | None = None, **parameters):
        extra = [argument for name, value in (ini or {}).items() for argument in ("-d", f"{name}={value}")]
        parameters |= {"variant": variant, "node": node}
        own = [] if variant == CONFIGURED else ["-n", *settings(node, variant)]
        command = on(node, PHP, "-d", "display_errors=stderr", *own, *extra, f"/run/lab/nfs/php/{program}.php",
                     json.dumps(parameters))
        self.name = f"{program}.php on {node} ({variant})"
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.unread = b""

    def tell(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def hears(self, timeout: float) -> dict | None:
        """The next message; None when there was none in time."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self.unread:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                sys.exit(f"{self.name} ended with status {self.process.wait()}")
            self.unread += data
        line, self.unread = self.unread.split(b"\n", 1)
        return json.loads(line)

    def hear(self, timeout: float = 60) -> dict:
        message = self.hears(timeout)
        if message is None:
            print_kernel_stacks()
            sys.exit(f"{self.name} said nothing for {timeout:.0f} s")
        return message

    def finish(self, timeout: float = 30) -> None:
        self.process.stdin.close()
        if self.process.wait(timeout):
            sys.exit(f"{self.name} ended with status {self.process.returncode}")

    def kill(self) -> None:
        # nsenter has become the PHP process itself: no namespace of pids, so no fork.
        self.process.kill()
        self.process.wait()


def path(node: str, version: str, name: str) -> str:
    return f"{MOUNTS[node]}/{version}/{name}"


def now() -> int:
    """The clock of PHP's hrtime(): one kernel plays all nodes, so their times can be compared."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def p50(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def record(job: str, **result) -> None:
    with open(REPORT / "results.jsonl", "a") as file:
        file.write(json.dumps({"job": job, **result}) + "\n")
    shown = " ".join(f"{key}={value}" for key, value in result.items() if not isinstance(value, (list, dict)))
    print(f"{job}: {shown}", flush=True)


def arguments() -> dict[str, str]:
    """The job's arguments, name=value each."""
    return dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
