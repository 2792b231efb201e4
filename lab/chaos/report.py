"""What a run has to say: counts, and for each violation the events that show it."""

from __future__ import annotations

import json
from pathlib import Path

from checker import Verdict, Violation
from history import SECOND, History

COUNTS = {
    "operations": ("events", "asked", "requests"),
    "locks": ("acquired", "waited", "timed_out", "failed", "lost", "nested"),
    "runs": ("runs", "covered"),
    "processes hit": ("kills", "stops"),
    "server hit": ("client_kill", "client_kill_all", "script_flush", "flush", "restart_empty", "restart_with_data",
                   "server_stop", "out_of_memory", "break"),
    "primaries replaced": ("failover", "switches"),
    "sentinels hit": ("sentinel_kill", "sentinel_stop"),
    "cluster hit": ("replica_kill", "slot_move", "unwell"),
    "one voter hit": ("voter_restart", "voter_empty", "voter_flush", "voter_stop", "voter_full", "voter_partition",
                      "voter_network", "voter_network_once", "split"),
    "majority hit": ("majority_partition", "majority_stop", "majority_restart", "flush_all"),
    "amnesia hit": ("forget_in_turn", "forget_together", "forget_while_one_is_away"),
    "clocks hit": ("clock_step",),
    "network hit": ("network", "network_once"),
    "two at once, explained": ("overlaps_by_lease", "overlaps_after_data_loss", "untold_losses"),
    "fenced writes": ("fenced_writes", "refused_fenced_writes"),
    "files": ("writes", "refused_writes", "reads", "appends_overwritten_late", "overwritten_in_fail_overs", "temporary_files_of_killed"),
    "order": ("orders", "overtaken_after_faults"),
}
SHOWN = 8


def counts(verdict: Verdict) -> str:
    lines = []
    for title, names in COUNTS.items():
        if title.endswith((" hit", " replaced")) and not any(name in verdict.counts for name in names):
            continue
        shown = ", ".join(f"{verdict.counts[name]} {name.replace('_', ' ')}" for name in names if name in verdict.counts)
        lines.append(f"   {title + ':':24}{shown or 'none'}")
    longest = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in verdict.longest.items())
    return "\n".join([*lines, f"   {'longest:':24}{longest}"])


def violations(history: History, verdict: Verdict, room: Path) -> str:
    lines = []
    for violation in verdict.violations[:SHOWN]:
        lines += _one(history, violation, room)
    if len(verdict.violations) > SHOWN:
        lines.append(f"   … and {len(verdict.violations) - SHOWN} more")
    return "\n".join(lines)


def _one(history: History, violation: Violation, room: Path) -> list[str]:
    def at(moment: int) -> str:
        return f"{(moment - history.began) / SECOND:10.6f}"

    lines = [f"   VIOLATION {violation.check}: {violation.text} (at {at(violation.at).strip()} s)"]
    events = []
    for hold in violation.holds:
        process = history.processes.get(hold.who)
        span = history.certain(hold)
        sure = f"sure until {at(span[1]).strip()}" if span else "never sure"
        lines.append(f"      {hold.who} (pid {process.pid if process else '?'}), hold {hold.id}: {sure}")
        path = room / "history" / f"{hold.who}.jsonl"
        for line in path.read_text().splitlines() if path.exists() else ():
            if f'"i":{hold.id},' in line or line.endswith(f'"i":{hold.id}}}'):
                event = json.loads(line)
                events.append((event.pop("t"), hold.who, event.pop("e"), event))
    if events:
        begin, end = min(e[0] for e in events) - 2 * SECOND, max(e[0] for e in events) + SECOND // 2
        for process in history.processes.values():
            if process.who in {hold.who for hold in violation.holds}:
                events += [(s, process.who, "STOPPED", {}) for s, _ in process.stops if begin <= s <= end]
                events += [(e, process.who, "CONTINUED", {}) for _, e in process.stops if begin <= e <= end]
                if process.killed is not None and begin <= process.killed <= end:
                    events.append((process.killed, process.who, "KILLED", {}))
        for fault in [*history.faults, *history.stalls]:
            if fault.touches(begin, end):
                events.append((fault.begin, "server", fault.kind, {"until": at(fault.end).strip(), **fault.about}))
    for moment, who, kind, about in sorted(events, key=lambda event: event[0]):
        more = " ".join(f"{key}={value}" for key, value in about.items() if key != "i")
        lines.append(f"      {at(moment)} {who:14} {kind:10} {more}")
    return lines
