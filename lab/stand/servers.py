"""The servers of a run: each on a free port, in the temporary directory, stopped by its own pid."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def before_exec(cpu: int | None = None) -> None:
    """Runs in a child: it ends with the runner, even when that is killed, and stays on one CPU when one is given."""
    _libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


def prefix(cpu: int | None = None, by: str = "TERM") -> list[str]:
    """The same for a command line: for programs with threads, where nothing may run between fork and exec. The
    parent to end with is the thread that starts it. One that may stand still just then (SIGSTOP) ends by "KILL" only."""
    pinned = [] if cpu is None else ["taskset", "-c", str(cpu)]
    return ["setpriv", "--pdeathsig", by, "--", *pinned]


#: What keeps our ports from others for as long as this process lives.
_ports: list[socket.socket] = []


def free_port() -> int:
    """On which nobody listens now, and which no other test of this machine is given, as in the core's and PHP's tests. Below
    those that the kernel gives to outgoing connections, of which one may have it by the time that a server starts."""
    while True:
        port = random.randrange(12_000, 32_000)
        taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            taken.bind(f"\0cluster_lock-port-{port}")
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            taken.close()
            continue
        _ports.append(taken)
        return port


def stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(what: str, process: subprocess.Popen, attempt) -> None:
    """Repeats attempt() until it does not raise OSError; at most 10 s, and only while the process lives."""
    deadline = time.monotonic() + 10
    while True:
        try:
            attempt()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not start") from None
            time.sleep(0.02)


NO_PERSISTENCE = ("--save", "", "--appendonly", "no")


class Redis:
    """A Redis server, on TCP and on a unix socket; on one CPU when `cpu` is given."""

    #: lab/chaos/clock.c, for all servers that are started from then on: see `set_clock`.
    clock: Path | None = None

    def __init__(self, tmp: Path, name: str, cpu: int | None = None,
                 options: tuple[str, ...] = NO_PERSISTENCE) -> None:
        self.port = free_port()
        self.path = tmp / f"{name}.sock"
        self.tcp = f"tcp://127.0.0.1:{self.port}"
        self.unix = f"unix://{self.path}"
        self._cpu, self._log, self._dir, self._options = cpu, tmp / f"{name}.log", tmp, options
        self._ahead = tmp / f"{name}.clock"
        if self.clock:
            self._ahead.write_bytes(bytes(8))
        self.start()

    def start(self) -> None:
        """Also once more, after a stop: on the same addresses, with the data that it finds."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [*prefix(self._cpu, by="KILL"), "redis-server", "--bind", "127.0.0.1", "--port", str(self.port),
                 "--unixsocket", str(self.path), "--dir", str(self._dir), "--daemonize", "no", *self._options],
                env=self._environment(), stdout=log, stderr=subprocess.STDOUT)
        wait_for("redis-server", self.process, lambda: socket.create_connection(("127.0.0.1", self.port), 1).close())
        self._monitor = socket.create_connection(("127.0.0.1", self.port), 5)

    def _environment(self) -> dict[str, str] | None:
        return {**os.environ, "LD_PRELOAD": str(self.clock), "CHAOS_CLOCK": str(self._ahead)} if self.clock else None

    def set_clock(self, ahead: float) -> None:
        """From now on the server's clock is ahead of the machine's by so many seconds, where there is `clock`."""
        with self._ahead.open("r+b") as file:
            file.write(int(ahead * 1e9).to_bytes(8, sys.byteorder, signed=True))

    def info(self, section: str) -> dict[str, str]:
        """INFO, always over the same connection, so that asking does not count as a connection."""
        self._monitor.sendall(f"INFO {section}\r\n".encode())
        data = b""
        while b"\r\n" not in data:
            data += self._monitor.recv(65536)
        head, _, body = data.partition(b"\r\n")
        length = int(head[1:])
        while len(body) < length + 2:
            body += self._monitor.recv(65536)
        lines = body[:length].decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def stop(self) -> None:
        self._monitor.close()
        stop(self.process)


class DelayProxy:
    """The delay-proxy of lab/fault-proxy in front of a port."""

    def __init__(self, binary: Path, target_port: int, cpu: int) -> None:
        self.process = subprocess.Popen([str(binary), str(target_port), "0"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=lambda: before_exec(cpu))
        self.port = int(self.process.stdout.readline())
        self.tcp = f"tcp://127.0.0.1:{self.port}"

    def set_delay(self, one_way_ns: int) -> None:
        # Calibrating on a machine with much else to do, one may get below zero.
        self.process.stdin.write(f"{max(0, one_way_ns)}\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        stop(self.process)


class Fpm:
    """A php-fpm master with workers that stay, one by default, reached over a unix socket."""

    def __init__(self, fpm: str, ini: Path, tmp: Path, name: str, options: list[str],
                 cpu: int | None = None, children: int = 1) -> None:
        self.path = tmp / f"{name}.sock"
        conf = tmp / f"{name}.conf"
        conf.write_text(
            f"[global]\nerror_log = {tmp}/{name}.log\ndaemonize = no\n"
            f"[www]\nuser = root\ngroup = root\nlisten = {self.path}\npm = static\npm.max_children = {children}\n"
            "pm.max_requests = 0\ncatch_workers_output = yes\nclear_env = no\n")
        self.process = subprocess.Popen(
            [fpm, "-R", "-F", "-c", str(ini), "-y", str(conf), *options],
            env=php_environment(tmp), stdout=subprocess.DEVNULL, stderr=(tmp / f"{name}.err").open("w"),
            preexec_fn=lambda: before_exec(cpu))

        def attempt() -> None:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(self.path))

        wait_for("php-fpm", self.process, attempt)
        self.worker = self._worker()

    def _worker(self) -> int:
        """The pid of the first child."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for pid in self.workers():
                return pid
            time.sleep(0.02)
        raise RuntimeError("php-fpm has no worker")

    def workers(self) -> list[int]:
        """The pids of the children that there are now."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def stop(self) -> None:
        stop(self.process)
        self.path.unlink(missing_ok=True)


def php_environment(tmp: Path) -> dict[str, str]:
    """PHP reads the generated php.ini and nothing else; its temporary files go with the run."""
    empty = tmp / "no-ini"
    empty.mkdir(exist_ok=True)
    return {**os.environ, "PHP_INI_SCAN_DIR": str(empty), "TMPDIR": str(tmp)}


def find_fpm(php_minor: str) -> str | None:
    """The one that script/lib.sh has found, or that of Debian."""
    if os.environ.get("PHP_FPM"):
        return os.environ["PHP_FPM"]
    for candidate in (f"php-fpm{php_minor}", "php-fpm"):
        for path in (shutil.which(candidate), f"/usr/sbin/{candidate}"):
            if path and os.access(path, os.X_OK):
                return path
    return None
