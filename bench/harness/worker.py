"""A PHP process that holds one contestant and obeys one command a line (see php/worker.php)."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stand.servers import before_exec, php_environment, stop

from .system import BENCH

if TYPE_CHECKING:
    from .run import Run

OURS = "cluster_lock"
#: symfony/lock, with our store.
OUR_SYMFONY = "symfony_store"


class Worker:
    """One process. It is ready, connected and warm when the constructor returns."""

    def __init__(self, run: Run, script: str, args: list[str], with_extension: bool, options: list[str],
                 cpu: int | None = None) -> None:
        ini = run.ini_ours if with_extension else run.ini_plain
        self.title = " ".join(args)
        self.process = subprocess.Popen(
            [run.php, "-c", str(ini), *options, str(BENCH / "php" / script), *args],
            env=php_environment(run.tmp), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: before_exec(cpu))
        if self.read() != "ready":
            raise RuntimeError(f"{self.title}: not ready")

    def send(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def read(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.title}: ended with status {self.process.wait()}")
        return line.rstrip("\n")

    def ask(self, line: str) -> str:
        self.send(line)
        return self.read()

    def stop(self) -> None:
        stop(self.process)


def lock_worker(run: Run, contestant: str, server: str, name: str, cpu: int | None = None) -> Worker:
    """A worker for a contestant; only ours have the extension loaded."""
    ours = contestant in (OURS, OUR_SYMFONY)
    return Worker(run, "worker.php", [contestant, server, name], ours,
                  ["-d", f"cluster_lock.dsn={dsn(server)}"] if ours else [], cpu)


def dsn(server: str) -> str:
    """The DSN of a server address as the contestants get it."""
    return server.replace("tcp://", "redis://").replace("unix://", "redis+unix://")


def count_together(workers: list[Worker], command: str, amount: float, counter: Path) -> tuple[list[float], int]:
    """All workers increment one counter from the same instant on; their answers, and what the counter says."""
    while True:
        counter.write_text("0" * 20)
        t0 = time.monotonic_ns() + 5_000_000 + 2_000_000 * len(workers)
        for worker in workers:
            worker.send(f"{command} {t0} {amount} {counter}")
        answers = [worker.read() for worker in workers]
        if "late" not in answers:
            return [float(answer) for answer in answers], int(counter.read_text())
