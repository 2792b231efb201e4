"""What a seed stands for: which faults at what time, and which seeds the processes get. Pure: no clock, no processes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

# How often in a deck, and how long (least, most; seconds) for those that last.
PROCESS_FAULTS = {
    "kill": (8, None),
    "stop": (6, (0.05, 1.5)),
    "stop_long": (4, (2.5, 5.0)),
}
SERVER_FAULTS = {
    "client_kill": (3, None),
    "client_kill_all": (1, None),
    "script_flush": (2, None),
    "flush": (2, None),
    "restart_empty": (1, None),
    "restart_with_data": (2, None),
    "server_stop": (1, (0.1, 2.5)),
    "out_of_memory": (1, (0.2, 1.2)),
    "break": (2, None),
    "network": (3, (0.2, 2.5)),
    "network_once": (4, None),
}

SENTINEL_FAULTS = {
    "client_kill": (2, None),
    "client_kill_all": (1, None),
    "script_flush": (1, None),
    "flush": (1, None),
    "break": (1, None),
    "primary_kill": (2, None),
    "primary_stop": (1, None),
    "fail_over": (2, None),
    "replica_kill": (1, None),
    "sentinel_kill": (1, (0.5, 2.0)),
    "sentinel_stop": (1, (0.5, 2.0)),
}

# After these the server knows nothing any more.
FORGETS = ("flush", "restart_empty")

# Server faults come in storms; between them is time to see whether everything is in order without any.
STORM, CALM = 7.0, 8.0
# At the beginning everything may start, at the end everything may end in an orderly way.
LEAD_IN, LEAD_OUT = 1.5, 2.0


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    at: float
    kind: str
    lasts: float = 0.0
    # Chooses whom it hits, by what there is then.
    pick: int = 0


@dataclass
class Plan:
    """All of it."""

    seed: int
    seconds: float
    topology: str = "single"
    processes: list[Fault] = field(default_factory=list)
    servers: list[Fault] = field(default_factory=list)
    aof: bool = False
    flock_mode: str = "gate"


def make(seed: int, seconds: float, topology: str = "single") -> Plan:
    """The plan of a seed; the same whenever it is asked for."""
    kinds = {"single": SERVER_FAULTS, "sentinel": SENTINEL_FAULTS}[topology]
    rng = random.Random(seed)
    plan = Plan(seed, seconds, topology, aof=rng.random() < 0.5, flock_mode=rng.choice(["gate", "replace"]))
    end = seconds - LEAD_OUT
    plan.processes = list(_deal(rng, PROCESS_FAULTS, [], LEAD_IN, end))
    begin, deck = LEAD_IN, []
    # A run that has one storm only has a heavy one. A fail-over takes seconds.
    every = 0.8 if end > LEAD_IN + STORM + CALM else 0.35
    if topology == "sentinel":
        every = 2.5
    while begin < end:
        storm = min(STORM, end - begin)
        plan.servers += _deal(rng, kinds, deck, begin, begin + storm, every)
        begin += storm + CALM
    # Fencing tokens have nothing to prove to a server that remembers. A run of one storm may be dealt no other.
    if topology == "single" and not any(fault.kind in FORGETS for fault in plan.servers):
        plan.servers.append(Fault(min(LEAD_IN + STORM, end) / 2, "flush"))
        plan.servers.sort(key=lambda fault: fault.at)
    return plan


def _deal(rng: random.Random, kinds: dict, deck: list[str], begin: float, end: float, every: float = 0.9):
    """Faults at random times, all kinds before one comes too often: from a deck, which is shuffled when it is used up."""
    at = begin + rng.expovariate(1 / every)
    while at < end:
        if not deck:
            deck += [kind for kind, (often, _) in kinds.items() for _ in range(often)]
            rng.shuffle(deck)
        kind = deck.pop()
        span = kinds[kind][1]
        yield Fault(at, kind, rng.uniform(*span) if span else 0.0, rng.getrandbits(32))
        at += rng.expovariate(1 / every)
