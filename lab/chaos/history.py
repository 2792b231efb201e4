"""Recorded histories, read into what the checks ask for: who held or wanted which lock, and when. All times in ns."""

from __future__ import annotations

import bisect
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

SECOND = 1_000_000_000
# A lock that is handed over comes with a lease of its own until it is confirmed.
GRANT = int(2.2 * SECOND)

# What all servers that decide forget for certain; and what they may have forgotten, or known of too late.
FORGETS = {"flush", "restart_empty", "flush_all", "break", "forget_in_turn", "forget_together",
           "forget_while_one_is_away"}
LOSSES = FORGETS | {"divergence"}
# What it cannot be reached during. Of a quorum, a majority; one voter is none.
OUTAGES = {"restart_empty", "restart_with_data", "server_stop", "out_of_memory", "failover", "network", "slot_move",
           "unwell", "no_replica", "majority_partition", "majority_stop", "majority_restart", "forget_in_turn",
           "forget_together", "forget_while_one_is_away"}
# What cuts connections.
VOTERS = {"voter_restart", "voter_empty", "voter_stop", "voter_partition", "voter_network", "voter_network_once",
          "split"}
CUTS = {"client_kill", "client_kill_all", "network_once"} | OUTAGES | VOTERS
# How long after a fail-over the last processes may still speak to the former primary: until the last sentinel has told.
MOVE = int(1.5 * SECOND)
# How long before a server takes over the one before it may have been gone, where nobody has written down when that
# began: to be believed gone, and to be elected.
UNSEEN = 4 * SECOND
# How long until one that was replaced is a replica: sentinels leave it alone for ten seconds.
REJOIN = 15 * SECOND


@dataclass(eq=False)
class Hold:
    """One attempt to have a lock, and what came of it. Times are None where it did not come so far."""

    who: str
    id: int
    name: str
    mode: str
    via: str
    timeout: float
    ttl: float
    ask: int
    # The hold that this one converts, or asks for anew.
    source: int | None = None
    got: int | None = None
    fence: int | None = None
    refused: int | None = None
    why: str | None = None
    looks: list[tuple[int, int]] = field(default_factory=list)
    refreshes: list[int] = field(default_factory=list)
    acts: list[list[int | None]] = field(default_factory=list)
    give: int | None = None
    gave: int | None = None
    # For a run: somebody else's has covered it; its own has been done.
    covered: int | None = None
    ran: int | None = None
    kept: bool | None = None
    gave_why: str | None = None
    # Converted or asked for anew at this moment; its request said that it ends; the request has ended.
    converted: int | None = None
    end: int | None = None
    over: int | None = None

    @property
    def lease(self) -> int:
        """The longest that the server may go on believing in a holder that is gone."""
        return max(int(self.ttl * SECOND), GRANT)

    @property
    def answered(self) -> int | None:
        return next((at for at in (self.got, self.covered, self.refused) if at is not None), None)

    @property
    def timed_out(self) -> bool:
        return self.refused is not None and self.why is None

    @property
    def failed(self) -> bool:
        return self.refused is not None and self.why is not None

    def excludes(self, other: Hold) -> bool:
        return self.mode == "X" or other.mode == "X"


@dataclass
class Process:
    """One process: what happened to it."""

    who: str
    pid: int = 0
    killed: int | None = None
    exited: int | None = None
    code: int | None = None
    last: int = 0
    stops: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Fault:
    kind: str
    begin: int
    end: int
    about: dict = field(default_factory=dict)

    def touches(self, begin: int, end: int, tail: int = 0) -> bool:
        return self.begin <= end and self.end + tail >= begin

    def concerns(self, name: str | None) -> bool:
        """Whether it hits this lock; without a name, any."""
        if name is None:
            return True
        if "names" in self.about:
            return name in self.about["names"]
        return self.about.get("name", name) == name

    def hinders(self, name: str | None) -> bool:
        """The same, or it was moved away from there: who has not heard of that yet asks there."""
        return self.concerns(name) or name in self.about.get("formerly", ())


@dataclass
class Write:
    """An atomic write; `fence` and `hold` where a lock guards it."""

    who: str
    id: int
    file: str
    begin: int
    appends: bool
    fence: int | None = None
    hold: int | None = None
    # Its own lock, where it takes one.
    name: str | None = None
    end: int | None = None
    ok: bool | None = None
    why: str | None = None


@dataclass
class History:
    """A whole run."""

    holds: list[Hold] = field(default_factory=list)
    processes: dict[str, Process] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    stalls: list[Fault] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    reads: list[dict] = field(default_factory=list)
    samples: dict[str, list[dict]] = field(default_factory=lambda: defaultdict(list))
    registers: dict[str, list[tuple[int, str, int]]] = field(default_factory=dict)
    appended: dict[str, list[str]] = field(default_factory=dict)
    final: dict = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)
    began: int = 0
    flock_mode: str = "replace"
    topology: str = "single"
    # How many servers keep locks: a process has connections to each.
    servers: int = 1
    # What is forgotten within a lease excuses no second holder.
    amnesia: bool = False
    clocks: bool = False
    # A grant counts when the replica has it: a fail-over excuses no second holder.
    wait: bool = False

    def stops(self, who: str, begin: int, end: int) -> list[tuple[int, int]]:
        process = self.processes.get(who)
        return [(s, e) for s, e in process.stops if s <= end and e >= begin] if process else []

    def death(self, who: str) -> int | None:
        """When it was killed, or ended otherwise."""
        process = self.processes.get(who)
        if process is None:
            return None
        return process.killed if process.killed is not None else process.exited

    def holds_by_name(self) -> dict[str, list[Hold]]:
        by_name = defaultdict(list)
        for hold in self.holds:
            by_name[hold.name].append(hold)
        return by_name

    def certain(self, hold: Hold) -> tuple[int, int] | None:
        """From when to when the holder could be sure: it was told that it kept the lock throughout, or had so much
        of its lease left whenever it looked."""
        if hold.got is None or hold.fence is None:
            return None
        ends = (hold.give, hold.converted, hold.end, hold.over, self.death(hold.who))
        latest = min((end for end in ends if end is not None), default=None)
        if hold.kept and hold.give is not None:
            return hold.got, hold.give
        sure = hold.got
        for at, left in hold.looks:
            if left > 0:
                # A new lease, perhaps a shorter one, replaces what was left.
                until = next((refresh for refresh in hold.refreshes if refresh >= at), at + left)
                sure = max(sure, min(at + left, until))
        return hold.got, sure if latest is None else min(sure, latest)

    def possible(self, hold: Hold) -> tuple[int, int] | None:
        """From when to when the server may have had it as the holder, seen from outside."""
        death = self.death(hold.who)
        if hold.got is None:
            if not hold.failed:
                return None
            # What a server that was away had not read yet it may have carried out later.
            away = [fault for fault in self.faults
                    if fault.kind in OUTAGES and fault.hinders(hold.name) and fault.touches(hold.ask, hold.refused)]
            begin = max(hold.ask, min((fault.begin for fault in away), default=hold.refused))
            return begin, max(hold.refused, *(fault.end for fault in away), 0) + hold.lease
        if hold.gave is not None:
            end = hold.gave if hold.kept is not False or _is_loss(hold.gave_why) else hold.gave + hold.lease
        else:
            ends = [t for t in (hold.converted, hold.over) if t is not None]
            if death is not None:
                ends.append(death + hold.lease)
            end = min(ends, default=hold.got + 10 * hold.lease)
        for begin, until in self.stops(hold.who, hold.got, end):
            if until > begin + hold.lease:
                end = min(end, begin + hold.lease)
        # Who stood still when it was handed the lock hears of it later.
        return min([hold.got, *(max(hold.ask, s) for s, _ in self.stops(hold.who, hold.ask, hold.got))]), end


def _is_loss(why: str | None) -> bool:
    return why is not None and "lost" in why


def load(room: Path) -> History:
    """Reads the room of a run."""
    history = History()
    responses: dict[str, int] = {}
    runner = list(_events(room / "history" / "runner.jsonl"))
    for event in runner:
        _read_runner(history, event, responses)
    _take_overs(history, runner)
    for path in sorted((room / "history").glob("*.jsonl")):
        if path.name != "runner.jsonl":
            _read_process(history, path.stem, list(_events(path)), responses)
    for path in sorted((room / "registers").iterdir()):
        history.registers[path.name] = [(int(fence), who, int(hold)) for fence, who, hold in
                                        (line.split() for line in path.read_text().splitlines())]
    for path in sorted((room / "files").glob("appended-*")):
        history.appended[path.name] = path.read_text().splitlines()
    history.holds.sort(key=lambda hold: hold.ask)
    return history


def _events(path: Path):
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            # A process killed while it wrote its last line.
            continue


def _read_runner(history: History, event: dict, responses: dict[str, int]) -> None:
    kind, at = event["e"], event["t"]
    process = history.processes.setdefault(event["who"], Process(event["who"])) if "who" in event else None
    if kind == "begin":
        history.began, history.flock_mode = at, event["flock_mode"]
        history.clocks = event.get("clocks", False)
        history.topology, history.amnesia = event.get("topology", "single"), event.get("amnesia", False)
        history.wait, history.servers = event.get("wait", False), event.get("servers", 1)
    elif kind == "spawn":
        process.pid = event["pid"]
    elif kind == "exit":
        process.exited, process.code = at, event["code"]
    elif kind == "kill":
        process.killed, process.pid = at, event["pid"]
        history.counts["kills"] += 1
    elif kind == "stop":
        process.stops.append((at, at + 3600 * SECOND))
        history.counts["stops"] += 1
    elif kind == "cont":
        process.stops = [(s, min(e, at)) if e > at else (s, e) for s, e in process.stops]
    elif kind == "fault" and (event["kind"] != "no_replica" or history.wait):
        about = {key: value for key, value in event.items() if key not in ("t", "e", "kind", "end")}
        history.faults.append(Fault(event["kind"], at, event["end"], about))
        history.counts[event["kind"]] += 1
    elif kind == "stall":
        history.stalls.append(Fault("stall", at, event["end"]))
    elif kind == "response":
        responses[event["request"]] = at
        history.counts["requests"] += 1
    elif kind == "sample":
        history.samples[event["who"]].append(event)
    elif kind == "final":
        history.final = event


def _take_overs(history: History, runner: list[dict]) -> None:
    """Servers that took over: those of a plan have been written down with their beginning; of the others it is not
    known. Sentinels tell one after the other, and processes listen to one of them each."""
    planned = [fault for fault in history.faults if fault.kind == "failover"]
    seen: dict[tuple, list[Fault]] = {}
    for event in runner:
        at = event["t"]
        if event["e"] == "switch":
            key, about = (event["old"], event["new"]), {"how": f"{event['old']} -> {event['new']}"}
        elif event["e"] == "promoted":
            key, about = (event["node"],), {"node": event["node"], "names": event["names"]}
        else:
            continue
        if key in seen and at - seen[key][-1].end < 5 * SECOND + MOVE:
            seen[key][-1].end = at + MOVE
            continue
        plan = next((fault for fault in planned if fault.touches(at, at, SECOND)), None)
        if plan and event["e"] == "promoted":
            # Of a cluster it is known when the former primary knew.
            continue
        begin = plan.begin if plan else at - UNSEEN
        if not plan:
            history.counts["switches"] += 1
            # The former primary is the only replica that the new one can have.
            history.faults.append(Fault("failover", begin, at + REJOIN if history.wait else at, about))
        divergence = Fault("divergence", begin, at + MOVE, about)
        seen.setdefault(key, []).append(divergence)
        history.faults.append(divergence)


def _read_process(history: History, who: str, events: list[dict], responses: dict[str, int]) -> None:
    process = history.processes.setdefault(who, Process(who))
    holds: dict[int, Hold] = {}
    writes: dict[int, Write] = {}
    breaks: list[Fault] = []
    request, ended = None, None
    for event in events:
        kind, at, number = event["e"], event["t"], event.get("i")
        hold = holds.get(number)
        if kind == "start":
            process.pid = event["pid"]
        elif kind == "request":
            _close(holds, ended or process.last, min(at, responses.get(request, at)))
            request, ended = event["request"], None
        elif kind == "end":
            ended = at
        elif kind == "ask":
            if "from" in event and event["from"] in holds:
                holds[event["from"]].converted = at
            holds[number] = Hold(who, number, event["n"], event["m"], event["via"], event["timeout"], event["ttl"], at,
                                 event.get("from"))
        elif kind == "nested":
            # The same lock once more: the hold before it goes on.
            holds.pop(number)
            holds[hold.source].converted = None
            history.counts["nested"] += 1
        elif kind == "got":
            hold.got, hold.fence, hold.why = event["at"], event["fence"], event["why"]
        elif kind == "no":
            hold.refused, hold.why = at, event["why"]
        elif kind == "covered":
            hold.covered = at
        elif kind == "ran":
            hold.ran = at
        elif kind == "break":
            breaks.append(Fault("break", at, at + SECOND, {"name": event["n"]}))
        elif kind == "broke":
            breaks[-1].end, breaks[-1].about["broke"] = at, event["ok"]
        elif kind == "look":
            hold.looks.append((event["at"], event["left"]))
        elif kind == "refresh":
            hold.refreshes.append(at)
        elif kind == "act":
            hold.acts.append([at, None])
        elif kind == "acted":
            hold.acts[-1][1] = at
        elif kind == "give":
            hold.give = at
        elif kind == "gave":
            hold.gave, hold.kept, hold.gave_why = at, event["ok"], event["why"]
        elif kind in ("write", "append"):
            writes[number] = Write(who, number, event["f"], at, kind == "append", event.get("fence"), event.get("hold"),
                                   event.get("n"))
        elif kind in ("wrote", "appended"):
            write = writes[number]
            write.end, write.ok, write.why = at, event["ok"], event["why"]
        elif kind == "read":
            history.reads.append(event | {"who": who})
        process.last = at
        history.counts["events"] += 1
    if ended is not None:
        _close(holds, ended, responses.get(request, process.exited))
    history.holds += holds.values()
    history.writes += writes.values()
    history.faults += breaks
    history.counts["break"] += len(breaks)


def _close(holds: dict[int, Hold], ended: int, over: int | None) -> None:
    """The request has ended, and with it what it had not given back."""
    for hold in holds.values():
        if hold.gave is None and hold.end is None:
            hold.end, hold.over = ended, over


class Timeline:
    """Intervals, and what of a span of time they leave uncovered."""

    def __init__(self, intervals) -> None:
        self._merged: list[list[int]] = []
        for begin, end in sorted(intervals):
            if self._merged and begin <= self._merged[-1][1]:
                self._merged[-1][1] = max(self._merged[-1][1], end)
            else:
                self._merged.append([begin, end])
        self._begins = [begin for begin, _ in self._merged]

    def gaps(self, begin: int, end: int):
        """The parts of [begin, end] in none of the intervals."""
        at = begin
        for b, e in self._merged[max(0, bisect.bisect_right(self._begins, begin) - 1):]:
            if b >= end:
                break
            if b > at:
                yield at, b
            at = max(at, e)
        if at < end:
            yield at, end

    def covered(self, begin: int, end: int) -> int:
        """How much of [begin, end] lies in the intervals."""
        return (end - begin) - sum(e - b for b, e in self.gaps(begin, end))
