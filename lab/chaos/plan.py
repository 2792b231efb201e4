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

CLUSTER_FAULTS = {
    "client_kill": (2, None),
    "client_kill_all": (1, None),
    "script_flush": (1, None),
    "flush": (1, None),
    "break": (1, None),
    "primary_kill": (2, None),
    "primary_stop": (1, None),
    "partition": (1, None),
    "bus_partition": (1, None),
    "fail_over": (1, None),
    "replica_kill": (1, None),
    "restart_empty": (1, None),
    "restart_with_data": (1, None),
    "server_stop": (2, (0.1, 1.2)),
    "out_of_memory": (1, (0.2, 1.2)),
    "network": (2, (0.2, 1.5)),
    "network_once": (2, None),
    "slot_move": (4, (0.0, 0.6)),
}

QUORUM_FAULTS = {
    "client_kill": (1, None),
    "client_kill_all": (1, None),
    "script_flush": (1, None),
    "flush_all": (1, None),
    "break": (1, None),
    "voter_restart": (2, (0.1, 3.0)),
    "voter_empty": (2, (0.1, 3.0)),
    "voter_flush": (1, None),
    "voter_stop": (2, (0.2, 4.0)),
    "voter_full": (1, (0.2, 1.2)),
    "voter_partition": (2, (0.3, 3.0)),
    "voter_network": (1, (0.2, 2.5)),
    "voter_network_once": (1, None),
    "split": (2, (0.3, 3.0)),
    "majority_partition": (1, (0.3, 2.5)),
    "majority_stop": (1, (0.3, 2.5)),
    "majority_restart": (1, (0.1, 1.0)),
}

FAULTS = {"single": SERVER_FAULTS, "sentinel": SENTINEL_FAULTS, "cluster": CLUSTER_FAULTS, "quorum": QUORUM_FAULTS}

# What a grace period is for: so much is forgotten within a lease that nobody is left who remembers.
AMNESIA = {
    "single": {"flush": (2, None), "restart_empty": (2, None)},
    "cluster": {"flush": (2, None), "restart_empty": (2, None)},
    "quorum": {
        "flush_all": (1, None),
        "forget_in_turn": (3, (0.0, 0.8)),
        "forget_together": (3, (0.0, 0.5)),
        "forget_while_one_is_away": (3, (0.0, 1.5)),
    },
}

# Servers' clocks are set, beside all else that goes wrong.
CLOCK_FAULTS = {"clock_step": (8, None)}

# What has to come early also in a short run. Fencing tokens have nothing to prove to a server that remembers; nor does
# who looks for the primary where it always was.
NEEDED = {"single": ["flush"], "sentinel": ["flush", "fail_over"], "cluster": ["flush", "primary_kill", "slot_move"],
          "quorum": ["flush_all"]}

# Server faults come in storms; between them is time to see whether everything is in order without any.
STORM, CALM = 7.0, 8.0
# Where each fault hits one of several, the others are calm; and it rests after each.
CALM_ELSEWHERE = 3.0
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
    amnesia: bool = False
    clocks: bool = False
    processes: list[Fault] = field(default_factory=list)
    servers: list[Fault] = field(default_factory=list)
    aof: bool = False
    flock_mode: str = "gate"
    # Of a quorum.
    voters: int = 3


def make(seed: int, seconds: float, topology: str = "single", amnesia: bool = False, clocks: bool = False) -> Plan:
    """The plan of a seed; the same whenever it is asked for."""
    kinds = AMNESIA[topology] if amnesia else FAULTS[topology]
    kinds = {**kinds, **CLOCK_FAULTS} if clocks else kinds
    rng = random.Random(seed)
    plan = Plan(seed, seconds, topology, amnesia, clocks, aof=rng.random() < 0.5, flock_mode=rng.choice(["gate", "replace"]))
    end = seconds - LEAD_OUT
    plan.processes = list(_deal(rng, PROCESS_FAULTS, [], LEAD_IN, end))
    begin, deck = LEAD_IN, []
    # A run that has one storm only has a heavy one. A fail-over, or what a voter has missed, takes seconds.
    every = 0.8 if end > LEAD_IN + STORM + CALM else 0.35
    if topology != "single":
        every = 2.5
        plan.voters = rng.choice([3, 3, 5])
    while begin < end:
        storm = min(STORM, end - begin)
        plan.servers += _deal(rng, kinds, deck, begin, begin + storm, every)
        begin += storm + (CALM if topology in ("single", "sentinel") else CALM_ELSEWHERE)
    # A run of few storms may be dealt no such; and where faults take seconds, one at the end may not have its turn.
    for number, kind in enumerate(() if amnesia or seconds > 60 else NEEDED[topology]):
        if not any(fault.kind == kind and fault.at < seconds / 2 for fault in plan.servers):
            plan.servers.append(Fault(min(LEAD_IN + STORM, end) / (2 + number), kind, pick=rng.getrandbits(32)))
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
