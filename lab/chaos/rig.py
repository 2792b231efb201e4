"""The processes of a run: php-cli workers in slots, php-fpm with clients, and the one who kills and stops them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from stand.fcgi import ask_once
from stand.servers import Fpm, php_environment, prefix

from plan import Fault, Plan
from record import Record, now

PHP = Path(__file__).resolve().parent / "php"
CLIENTS = ["phpredis", "predis"]
# The first of each kind are never killed: only what lives long can be seen to grow.
STEADY = 2
# A process that has been told to end does so within the longest wait for a lock.
GRACE = 30.0
# One that lives long and seldom lets go: so that there are leases to renew on one server while another one is away.
HOARDER, HOARDS = 1, 12


@dataclass
class Rig:
    """Where things are, and what runs."""

    php: str
    # For each side of the network.
    inis: list[Path]
    room: Path
    record: Record
    plan: Plan
    # Of php-cli processes: the ini file with which PHP code stands in the extension's place, and its client libraries.
    polyfill: Path | None = None
    hoarder: bool = False
    fpm: Fpm | None = None
    slots: list[Slot] = field(default_factory=list)
    clients: list[threading.Thread] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def command(self, script: str, *arguments: str, ini: Path | None = None) -> list[str]:
        return [*prefix(by="KILL"), self.php, "-c", str(ini or self.inis[0]), str(PHP / script), *arguments]

    def start(self, fpm: str, cli: int, children: int) -> None:
        rng = random.Random(f"{self.plan.seed} processes")
        if children:
            self.fpm = Fpm(fpm, self.inis[-1], self.room, "fpm", [], children=children)
        self.slots = [Slot(self, number, rng.getrandbits(32)) for number in range(cli)]
        self.clients = [threading.Thread(target=self._client, args=(number, rng.getrandbits(32)), daemon=True)
                        for number in range(children)]
        for thread in (*self.slots, *self.clients):
            thread.start()

    def _client(self, number: int, seed: int) -> None:
        rng = random.Random(seed)
        count = 0
        while not self.stopping.is_set():
            count += 1
            request = f"{number}-{count}"
            query = f"room={self.room}&seed={rng.getrandbits(31)}&request={request}"
            answered = ask_once(self.fpm.path, PHP / "page.php", query, GRACE + 30)
            self.record.tell("response", request=request, ok=answered)

    def targets(self, spare: bool) -> list[tuple[str, int]]:
        """Who can be hit now: name and pid. `spare`: not those that are to live."""
        skip = STEADY if spare else 0
        found = [(slot.who, slot.process.pid) for slot in self.slots[skip:] if slot.process and slot.who]
        if self.fpm:
            found += [(f"fpm-{pid}", pid) for pid in sorted(self.fpm.workers())[skip:]]
        return found

    def end(self) -> list[str]:
        """Lets everybody end in an orderly way. Returns who did not."""
        self.stopping.set()
        (self.room / "stop").touch()
        deadline = time.monotonic() + GRACE
        for thread in (*self.slots, *self.clients):
            thread.join(max(0.0, deadline - time.monotonic()))
        hung = [slot.who for slot in self.slots if slot.is_alive()]
        hung += [f"client {number}" for number, thread in enumerate(self.clients) if thread.is_alive()]
        for slot in self.slots:
            if slot.is_alive() and slot.process:
                slot.process.kill()
        if self.fpm:
            self.fpm.stop()
        return hung

    def samples(self) -> None:
        """Descriptors and memory of those that live long."""
        pids = [(slot.who, slot.process.pid) for slot in self.slots[:STEADY] if slot.process]
        if self.fpm:
            pids += [(f"fpm-{pid}", pid) for pid in sorted(self.fpm.workers())[:STEADY]]
        for who, pid in pids:
            try:
                fds = len(os.listdir(f"/proc/{pid}/fd"))
                resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            except OSError:
                continue
            self.record.tell("sample", who=who, fds=fds, resident=resident)


class Slot(threading.Thread):
    """A place for one php-cli process after the other."""

    def __init__(self, rig: Rig, number: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._rig, self._number, self._rng = rig, number, random.Random(seed)
        self.process: subprocess.Popen | None = None
        self.who = ""

    def run(self) -> None:
        rig, count = self._rig, 0
        steady = self._number < STEADY
        log = (rig.room / f"cli-{self._number}.log").open("a")
        environment, ini = php_environment(rig.room), rig.inis[self._number % len(rig.inis)]
        if rig.polyfill and self._number % 2:
            ini = rig.polyfill
            environment["CLUSTER_LOCK_POLYFILL"] = CLIENTS[self._number // 2 % len(CLIENTS)]
        if rig.polyfill:
            environment["CLUSTER_LOCK_CHAOS_INTERRUPTS"] = "1"
        if rig.hoarder and self._number == HOARDER:
            environment["CLUSTER_LOCK_CHAOS_HOARDS"] = str(HOARDS)
        while not rig.stopping.is_set():
            count += 1
            who = f"cli-{self._number}-{count}"
            actions = 0 if steady else self._rng.randint(3, 60)
            self.process = subprocess.Popen(
                rig.command("worker.php", str(rig.room), who, str(self._rng.getrandbits(31)), str(actions), ini=ini),
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.who = who
            rig.record.tell("spawn", who=who, pid=self.process.pid)
            code = self.process.wait()
            rig.record.tell("exit", who=who, pid=self.process.pid, code=code)


class Tormentor(threading.Thread):
    """Kills and stops processes by the plan."""

    def __init__(self, rig: Rig, began: float) -> None:
        super().__init__(daemon=True)
        self._rig, self._began = rig, began
        self._stopped: list[tuple[float, str, int]] = []

    def run(self) -> None:
        for fault in self._rig.plan.processes:
            self._continue_until(self._began + fault.at)
            if self._rig.stopping.is_set():
                break
            self._hit(fault)
        self._continue_until(None)

    def _hit(self, fault: Fault) -> None:
        kill = fault.kind == "kill"
        targets = self._rig.targets(spare=kill)
        if not targets:
            return
        who, pid = targets[fault.pick % len(targets)]
        self._rig.record.tell("kill" if kill else "stop", at=now(), who=who, pid=pid)
        try:
            os.kill(pid, signal.SIGKILL if kill else signal.SIGSTOP)
        except ProcessLookupError:
            return
        if not kill:
            self._stopped.append((time.monotonic() + fault.lasts, who, pid))

    def _continue_until(self, moment: float | None) -> None:
        """Wakes those whose time has come; with None all, each at its time."""
        while True:
            self._stopped.sort()
            due = self._stopped[0][0] if self._stopped else None
            if due is not None and (moment is None or due <= moment):
                time.sleep(max(0.0, due - time.monotonic()))
                _, who, pid = self._stopped.pop(0)
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    pass
                self._rig.record.tell("cont", who=who, pid=pid)
                continue
            if moment is not None:
                time.sleep(max(0.0, moment - time.monotonic()))
            return


class Watch(threading.Thread):
    """Notes when this machine does not let anybody run: what is late then proves nothing."""

    TICK, LATE = 0.05, 0.25

    def __init__(self, record: Record) -> None:
        super().__init__(daemon=True)
        self._record = record
        self.over = threading.Event()

    def run(self) -> None:
        last = now()
        while not self.over.wait(self.TICK):
            at = now()
            if at - last > (self.TICK + self.LATE) * 1e9:
                self._record.tell("stall", at=last, end=at)
            last = at
