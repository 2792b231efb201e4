"""What must hold in every history, whatever went wrong meanwhile. Reads what was recorded, and nothing else.

Each check yields violations. A lease is a promise about time: two holders at once are right when the first one's
lease had run out by its own clock, or the server had lost its data; then fencing tokens must tell them apart. Nothing
else excuses anything, except that what depends on the pace of the machine is not asked for while it stood still.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Iterator

from history import CUTS, FORGETS, LOSSES, OUTAGES, SECOND, Fault, Hold, History, Timeline, Write, _is_loss

# The promise is 3 s for a dead waiter and 1 s after a dead holder's lease; more is for a busy machine.
DEAD_WAITER, SLACK = 3 * SECOND, int(1.5 * SECOND)
# Who asks so much later stands behind: the first question has been to the server and back meanwhile.
ORDER = 3 * SECOND // 10
# A waiter asks again at least every second, and the circuit breaker opens for one.
RECOVERY = int(2.5 * SECOND)
# A server that finds itself without its memory may rest for so long: the longest lease of a run is 3 s.
REST = 15 * SECOND
# Longest that an answer may come after its time-out: two tries and a release, each a second to connect and one to ask.
LATE = 6 * SECOND
# Within this time of the answer a process looks what is left of its lease; later than that says nothing of the answer.
AT_ONCE = SECOND // 50


def expect_no_pace() -> None:
    """On a machine that does other things, too, a wait that is too long says nothing unless it never ends."""
    global SLACK, ORDER, LATE
    SLACK = LATE = 60 * SECOND
    ORDER = SECOND


@dataclass
class Violation:
    """Something that must not be."""

    check: str
    text: str
    holds: list[Hold] = field(default_factory=list)
    at: int = 0


@dataclass
class Verdict:
    violations: list[Violation]
    counts: Counter
    longest: dict[str, float]


def check(history: History) -> Verdict:
    """All checks; of servers whose clocks are set those that no clock excuses."""
    done = Checker(history)
    violations = [violation for one in (WHATEVER_THE_CLOCK if history.clocks else CHECKS) for violation in one(done)]
    return Verdict(violations, done.count(), done.longest)


class Checker:
    def __init__(self, history: History) -> None:
        self.history = history
        self.counts = Counter(history.counts)
        self.longest: dict[str, float] = {"idle": 0.0, "late": 0.0}
        self.by_name = history.holds_by_name()
        self.by_id = {(hold.who, hold.id): hold for hold in history.holds}
        self.losses = [fault for fault in history.faults if fault.kind in LOSSES]
        self.forgets = [fault for fault in history.faults
                        if fault.kind in FORGETS and (fault.kind == "break" or not history.amnesia)]
        # In a run about amnesia forgetting is no excuse for that, nor what a fail-over loses when replicas were waited for.
        self.lets_in = [*self.forgets] if history.wait else [
            *self.forgets, *(fault for fault in self.losses if fault.kind not in FORGETS)]
        # A server that has forgotten may grant nothing for as long as it may have granted something before.
        self.unreachable = [fault for fault in history.faults if fault.kind in OUTAGES
                            or history.amnesia and fault.kind in FORGETS and fault.kind != "break"]
        self.cuts = [fault for fault in history.faults if fault.kind in CUTS]

    def count(self) -> Counter:
        holds = self.history.holds
        self.counts["asked"] = len(holds)
        self.counts["acquired"] = sum(hold.got is not None for hold in holds)
        self.counts["waited"] = sum(hold.answered is not None and hold.answered - hold.ask > SECOND // 100
                                    for hold in holds)
        self.counts["timed_out"] = sum(hold.timed_out for hold in holds)
        self.counts["runs"] = sum(hold.ran is not None for hold in holds)
        self.counts["failed"] = sum(hold.failed for hold in holds)
        self.counts["lost"] = sum(_is_loss(hold.gave_why) for hold in holds)
        self.counts["writes"] = sum(write.ok is True for write in self.history.writes)
        self.counts["refused_writes"] = sum(_is_loss(write.why) for write in self.history.writes)
        self.counts["reads"] = len(self.history.reads)
        return self.counts

    # ---- excuses --------------------------------------------------------------------------------------------

    def lost_data(self, name: str | None, begin: int, end: int) -> Fault | None:
        """The server may have forgotten this lock, or any, somewhere in this time, so that its holder lost it."""
        return next((fault for fault in self.losses if fault.concerns(name) and fault.touches(begin, end)), None)

    def let_in(self, name: str | None, begin: int, end: int) -> Fault | None:
        """The same, so that somebody else was let in."""
        return next((fault for fault in self.lets_in if fault.concerns(name) and fault.touches(begin, end)), None)

    def outage(self, name: str | None, begin: int, end: int) -> bool:
        return any(fault.hinders(name) and fault.touches(begin, end, self.recovery(fault))
                   for fault in self.unreachable)

    def recovery(self, fault: Fault) -> int:
        """How long after a fault whoever could not reach the server may still be without."""
        return REST if self.history.amnesia and fault.kind in FORGETS else RECOVERY

    def cut(self, name: str, begin: int, end: int) -> bool:
        return any(fault.hinders(name) and fault.touches(begin, end) for fault in self.cuts)

    def stood_still(self, begin: int, end: int, *who: str) -> bool:
        """The machine did, or one of these processes."""
        return (any(stall.touches(begin, end) for stall in self.history.stalls)
                or any(self.history.stops(one, begin, end) for one in who))

    def interrupted(self, hold: Hold, end: int) -> bool:
        """Its process was in a signal's handler between the question and then, for whatever that had to wait for."""
        return any(hold.ask < other.ask < end and other.who == hold.who
                   for name, holds in self.by_name.items() if name.startswith("interrupt-") for other in holds)

    def left(self, text: str) -> Violation:
        return Violation("leftovers", text, [], self.history.final.get("t", 0))

    def is_plain(self, name: str) -> bool:
        """Only our lock decides about it: behind "gate" stands the kernel's as well."""
        return self.history.flock_mode == "replace" or not name.startswith("file:")


# ---- mutual exclusion and fencing ----------------------------------------------------------------------------


def exclusion(c: Checker) -> Iterator[Violation]:
    """No two holders at once that could both be sure."""
    for name, holds in c.by_name.items():
        spans = [(c.history.certain(hold), hold) for hold in holds]
        spans = sorted(((*span, hold) for span, hold in spans if span), key=lambda s: s[:2])
        active: list[tuple[int, int, Hold]] = []
        for begin, end, hold in spans:
            active = [other for other in active if other[1] > begin]
            for _, _, earlier in active:
                if not hold.excludes(earlier) or hold.who == earlier.who and hold.source == earlier.id:
                    continue
                # Who stood still when it was handed the lock may hear of it after the next one.
                first, second = sorted((earlier, hold), key=lambda hold: hold.fence)
                if c.let_in(name, first.ask, second.got):
                    c.counts["overlaps_after_data_loss"] += 1
                else:
                    yield Violation("exclusion", f"two hold \"{name}\" at once, and both are sure of it",
                                    [earlier, hold], begin)
            active.append((begin, end, hold))


def stillborn(c: Checker) -> Iterator[Violation]:
    """Who is told that it has the lock has some of its lease left."""
    for hold in c.history.holds:
        # With "gate" the kernel's lock is waited for afterwards.
        if hold.got is None or not hold.looks or hold.why is not None or not c.is_plain(hold.name):
            continue
        at, left = hold.looks[0]
        if (left == 0 and at - hold.got < AT_ONCE and not c.stood_still(hold.got, at, hold.who) and not c.lost_data(hold.name, hold.ask, at)
                and not c.interrupted(hold, at) and not c.outage(hold.name, hold.got, at)):
            yield Violation("stillborn", f"\"{hold.name}\" was acquired with a lease that had run out", [hold], hold.got)


def expired(c: Checker) -> Iterator[Violation]:
    """Counts the overlaps that a lease explains: the former holder was still at work, no longer sure."""
    for holds in c.by_name.values():
        held = [hold for hold in holds if hold.got is not None and hold.mode == "X"]
        held.sort(key=lambda hold: hold.got)
        for earlier, later in zip(held, held[1:]):
            ends = [t for t in (earlier.give, earlier.end, earlier.converted, c.history.death(earlier.who)) if t]
            if ends and min(ends) > later.got and earlier.kept is not True:
                c.counts["overlaps_by_lease"] += 1
    return iter(())


def told(c: Checker) -> Iterator[Violation]:
    """Who is told that it kept the lock throughout did: the server did not forget it or give it away meanwhile."""
    for hold in c.history.holds:
        if hold.kept is not True or hold.got is None or hold.fence is None:
            continue
        for fault in c.forgets:
            if (fault.concerns(hold.name) and fault.about.get("broke", True)
                    and hold.got < fault.begin and fault.end < hold.give):
                # The one case that cannot be told: DESIGN.md, "Why are all scripts idempotent?"
                if c.cut(hold.name, hold.give, hold.gave):
                    c.counts["untold_losses"] += 1
                elif _is_done_by_a_later_run(c, hold):
                    c.counts["done_by_later_runs"] += 1
                else:
                    yield Violation("told", f"{fault.kind} took \"{hold.name}\" away, and the release says that it "
                                            "was kept throughout", [hold], fault.begin)


def _is_done_by_a_later_run(c: Checker, hold: Hold) -> bool:
    """What a runner is told is that a run is complete which began after its call: of its own, or of one that was let in when
    that had lost the lock. But such a one has to count by itself: nothing took the lock away from it in its turn."""
    return hold.via == "coalesced" and any(
        other.ran is not None and other.ran < hold.gave and hold.ask < other.got
        and other.fence is not None and hold.fence < other.fence and _counts(c, other)
        and not any(fault.concerns(hold.name) and fault.about.get("broke", True)
                    and other.got < fault.begin and fault.end < (other.give or hold.gave) for fault in c.forgets)
        for other in c.by_name[hold.name])


def fences(c: Checker) -> Iterator[Violation]:
    """Fencing tokens grow in the order of grants, whatever the server has lost."""
    for name, holds in c.by_name.items():
        granted = sorted((hold for hold in holds if hold.got is not None and hold.fence is not None),
                         key=lambda hold: hold.got)
        seen: dict[int, Hold] = {}
        for hold in granted:
            if hold.fence in seen:
                yield Violation("fences", f"the same fencing token twice for \"{name}\"", [seen[hold.fence], hold],
                                hold.got)
            seen[hold.fence] = hold
        moments = [hold.got for hold in granted]
        greatest: list[Hold] = []
        for hold in granted:
            greatest.append(hold if not greatest or hold.fence > greatest[-1].fence else greatest[-1])
        for hold in granted:
            before = bisect.bisect_left(moments, hold.ask)
            if before and greatest[before - 1].fence > hold.fence:
                yield Violation("fences", f"a later holder of \"{name}\" has a smaller fencing token",
                                [greatest[before - 1], hold], hold.got)


def registers(c: Checker) -> Iterator[Violation]:
    """A fenced write is refused only when its writer could no longer be sure."""
    for lines in c.history.registers.values():
        newest, by = 0, None
        for fence, who, number in lines:
            hold = c.by_id.get((who, number))
            if fence >= newest:
                newest, by = fence, hold
                c.counts["fenced_writes"] += 1
                continue
            c.counts["refused_fenced_writes"] += 1
            if hold is None or by is None or not hold.acts:
                continue
            if c.let_in(hold.name, hold.ask, hold.acts[-1][1] or hold.acts[-1][0]):
                continue
            span = c.history.certain(hold)
            for _, done in hold.acts:
                # All of these acts had been done before anybody else could have been let in.
                if span and len(hold.acts) == 1 and done is not None and done < span[1]:
                    yield Violation("registers", f"a write under \"{hold.name}\" was refused although its writer "
                                                 "was sure", [by, hold], done)


def guarded_writes(c: Checker) -> Iterator[Violation]:
    """cluster_file_put_contents(…, $lock): nobody overwrites what a later holder has written."""
    by_file: dict[str, list[Write]] = defaultdict(list)
    for write in c.history.writes:
        if write.fence is not None and write.ok:
            by_file[write.file].append(write)
    for name, writes in by_file.items():
        writes.sort(key=lambda write: write.end)
        moments = [write.end for write in writes]
        greatest: list[Write] = []
        for write in writes:
            greatest.append(write if not greatest or write.fence > greatest[-1].fence else greatest[-1])
        for write in writes:
            before = bisect.bisect_left(moments, write.begin)
            if before and greatest[before - 1].fence > write.fence:
                newer = greatest[before - 1]
                # Two servers that believe to be the primary confirm both; see README.md, "Limits".
                guard = c.by_id.get((write.who, write.hold))
                if any(f.kind == "divergence" and f.concerns(guard and guard.name) and f.touches(newer.begin, write.end)
                       for f in c.lets_in):
                    c.counts["overwritten_in_fail_overs"] += 1
                    continue
                yield Violation("guarded writes", f"{name}: an older holder wrote over a newer one's file",
                                [h for w in (newer, write) if (h := c.by_id.get((w.who, w.hold)))], write.begin)
        final = c.history.final.get("fences", {}).get(name)
        if final is None:
            continue
        newest = max(writes, key=lambda write: write.fence)
        # One whose holder was killed meanwhile has no answer.
        last = next((write for write in c.history.writes if write.file == name and write.fence == final), None)
        if final < newest.fence and last is not None:
            end = last.end or c.history.death(last.who) or newest.end
            # Between the last look at the lease and rename() lie microseconds; see README.md, "Limits".
            if not c.stood_still(last.begin, end, last.who) and not c.history.death(last.who):
                yield Violation("guarded writes", f"{name}: the file left is of an older holder", [
                    h for w in (newest, last) if (h := c.by_id.get((w.who, w.hold)))], last.begin)
    for write in c.history.writes:
        hold = c.by_id.get((write.who, write.hold)) if write.hold else None
        if hold is None or write.ok is not False or write.end is None:
            continue
        span = c.history.certain(hold)
        if (span and write.end < span[1] and not c.lost_data(hold.name, hold.ask, write.end)
                and not c.outage(hold.name, write.begin, write.end)):
            yield Violation("guarded writes", f"refused although the lock was held: {write.why}", [hold], write.begin)


def runs(c: Checker) -> Iterator[Violation]:
    """Who is told that a run covers its call called before one began that was done when it was told."""
    for name, holds in c.by_name.items():
        done = sorted((hold for hold in holds if hold.ran is not None and _counts(c, hold)), key=lambda hold: hold.got)
        begun = [hold.got for hold in done]
        # The earliest end of those that began at this one's beginning or later.
        ends = list(accumulate(reversed([hold.ran for hold in done]), min))[::-1]
        for hold in holds:
            if hold.covered is None:
                continue
            c.counts["covered"] += 1
            first = bisect.bisect_left(begun, hold.ask)
            if first == len(done) or ends[first] > hold.covered:
                meanwhile = [other for other in holds if other.via == "coalesced" and other.got is not None
                             and other.got <= hold.covered and (other.give or hold.covered) >= hold.ask]
                yield Violation("runs", f"a call for \"{name}\" was told that a run covers it, and none that began after "
                                        "it was complete", [hold, *meanwhile], hold.covered)


def _counts(c: Checker, hold: Hold) -> bool:
    """Whether others may have been told that this run is complete: so was its own caller, or it got no answer. Or it was
    no longer told what others had been told: the server has forgotten it since, or the lease ran out on the way."""
    if hold.kept is not False or hold.gave is None:
        return True
    sure = bool(hold.looks) and hold.looks[-1][1] > 0
    return sure and ("ran out" in (hold.gave_why or "") or c.lost_data(hold.name, hold.ran, hold.gave) is not None
                     or c.outage(hold.name, hold.ran, hold.gave))


def whole_files(c: Checker) -> Iterator[Violation]:
    """A reader never sees a file half done; what was appended is there, once."""
    for read in c.history.reads:
        if not read["ok"]:
            yield Violation("whole files", f"{read['who']} read half of {read['f']}", [], read["t"])
    for name, lines in c.history.appended.items():
        written = Counter(lines)
        appends = [write for write in c.history.writes if write.appends and write.file == name]
        for write in appends:
            times = written[f"{write.who} {write.id}"]
            if times > 1:
                yield Violation("whole files", f"{name}: \"{write.who} {write.id}\" is there {times} times", [],
                                write.begin)
            if not write.ok or times:
                continue
            if any(_put_an_older_copy(c, other, write) for other in appends):
                c.counts["appends_overwritten_late"] += 1
            else:
                yield Violation("whole files", f"{name}: \"{write.who} {write.id}\" was appended and is gone", [],
                                write.begin)


def _put_an_older_copy(c: Checker, other: Write, write: Write) -> bool:
    """`other` stood still between its last look at its lease and rename(), or the server forgot its lock just then,
    while `write` came and went. See the README, "Limits": there are microseconds."""
    end = other.end if other.end is not None else c.history.death(other.who)
    if other is write or end is None or other.ok is False or not other.begin < write.end <= end:
        return False
    stood = c.history.stops(other.who, other.begin, end) + [(s.begin, s.end) for s in c.history.stalls]
    return (any(s <= write.end and e >= write.begin for s, e in stood)
            or c.let_in(other.name, other.begin, end) is not None)


# ---- progress ------------------------------------------------------------------------------------------------


def progress(c: Checker) -> Iterator[Violation]:
    """While somebody waits, the lock is held, or soon will be: no hand-over is lost, nothing stays behind the dead."""
    stalls = [(stall.begin, stall.end) for stall in c.history.stalls]
    for name, holds in c.by_name.items():
        if not c.is_plain(name):
            continue
        spans = [span for hold in holds if (span := c.history.possible(hold))]
        quiet = [(fault.begin, fault.end + c.recovery(fault)) for fault in c.unreachable if fault.hinders(name)]
        quiet += [(fault.begin, fault.end + RECOVERY) for fault in c.history.faults if fault.kind == "split"]
        busy = Timeline([*spans, *quiet, *stalls])
        # Each waiter that dies, or stands still, may be handed the lock once.
        deaths = sorted(t for hold in holds for t in _absences(c, hold))
        for hold in holds:
            if hold.answered is None or c.history.stops(hold.who, hold.ask, hold.answered):
                continue
            for begin, end in busy.gaps(hold.ask, hold.answered):
                near = bisect.bisect_right(deaths, end) - bisect.bisect_left(deaths, begin - DEAD_WAITER)
                idle = end - begin
                if near == 0:
                    c.longest["idle"] = max(c.longest["idle"], idle / SECOND)
                if idle > DEAD_WAITER * max(1, near) + SLACK:
                    yield Violation("progress", f"nobody held \"{name}\" for {idle / SECOND:.2f} s, and this waiter "
                                                f"was not let in ({near} waiters had died)", [hold], begin)


def _absences(c: Checker, hold: Hold) -> Iterator[int]:
    """When this waiter died, stood still, or gave up without being able to say so."""
    end = hold.answered
    if end is None:
        death = c.history.death(hold.who)
        end = death if death is not None else hold.ask
        yield end
    if hold.failed:
        yield end
    for begin, _ in c.history.stops(hold.who, hold.ask, end):
        yield begin


def time_outs(c: Checker) -> Iterator[Violation]:
    """Who asks is answered at its time-out, neither before nor much later."""
    for hold in c.history.holds:
        if hold.answered is None:
            continue
        took, limit = hold.answered - hold.ask, int(hold.timeout * SECOND)
        if hold.timed_out and took < limit - SECOND // 500:
            yield Violation("time-outs", f"timed out after {took / SECOND:.3f} s of {hold.timeout} s", [hold],
                            hold.refused)
        stood = Timeline([*c.history.stops(hold.who, hold.ask, hold.answered),
                          *((s.begin, s.end) for s in c.history.stalls)]).covered(hold.ask, hold.answered)
        late = took - limit - stood
        c.longest["late"] = max(c.longest["late"], late / SECOND)
        if late > LATE:
            yield Violation("time-outs", f"answered {late / SECOND:.2f} s after its time-out of {hold.timeout} s",
                            [hold], hold.answered)


def order(c: Checker) -> Iterator[Violation]:
    """First come, first served. Fencing tokens tell in which order they were let in."""
    # Who asks a sentinel that does not answer comes to the primary later; and a request that the network has
    # swallowed comes after a time-out, when it is sent again.
    # Where a network is split, a server that only one side sees keeps what the other side has given back, until the
    # lease is over.
    kinds = OUTAGES | FORGETS - {"break"} | {"divergence", "sentinel_stop", "sentinel_kill", "network_once", "split"}
    for name, holds in c.by_name.items():
        if not c.is_plain(name):
            continue
        disturbed = [fault for fault in c.history.faults if fault.kind in kinds and fault.hinders(name)]
        # From exclusive to shared is at once: that is no arrival.
        granted = sorted((hold for hold in holds if hold.got is not None and hold.fence is not None
                          and not (hold.via == "convert" and hold.mode == "S")), key=lambda hold: hold.ask)
        moments = [hold.ask for hold in granted]
        for hold in holds:
            if (hold.answered is None or hold.failed or hold.got is not None and hold.fence is None
                    or hold.covered is not None):
                continue
            # Who came during its wait, and was let in before it, or before it gave up.
            begin = bisect.bisect_right(moments, hold.ask + ORDER)
            end = bisect.bisect_left(moments, hold.answered)
            c.counts["orders"] += max(0, end - begin)
            for other in granted[begin:end]:
                # Until its time is up it stands in the queue.
                overtook = (other.got < hold.ask + int(hold.timeout * SECOND) if hold.got is None
                            else other.fence < hold.fence)
                if not overtook or _together(c, hold, other):
                    continue
                # In a grace period who asks for a run is given no place.
                tail = {id(f): c.recovery(f) if hold.via == "coalesced" else RECOVERY for f in disturbed}
                if (any(f.touches(hold.ask - ORDER, other.got, tail[id(f)]) for f in disturbed)
                        or c.stood_still(hold.ask, other.got, hold.who)):
                    c.counts["overtaken_after_faults"] += 1
                    continue
                yield Violation("order", f"{other.who} came {(other.ask - hold.ask) / SECOND:.2f} s later for "
                                         f"\"{name}\" and was let in before", [hold, other], other.got)


def _together(c: Checker, hold: Hold, other: Hold) -> bool:
    """Readers that were let in at once. The token of each is the greatest that a majority gave it, and not all were told
    by the same one."""
    return (c.history.topology == "quorum" and hold.mode == other.mode == "S" and hold.got is not None
            and hold.got - other.got < SECOND // 10)


def reasons(c: Checker) -> Iterator[Violation]:
    """Nothing fails, and nothing is lost, without a reason."""
    for hold in c.history.holds:
        if hold.failed and _is_loss(hold.why):
            # What it was to be converted from.
            source = c.by_id.get((hold.who, hold.source), hold)
            if not _may_be_lost(c, source, hold.refused):
                yield Violation("reasons", f"lost while all was well: {hold.why}", [source, hold], hold.refused)
        elif hold.failed and not _may_fail(c, hold, hold.ask, hold.refused):
            yield Violation("reasons", f"failed while all was well: {hold.why}", [hold], hold.refused)
        if hold.kept is not False or hold.gave is None:
            continue
        if _is_loss(hold.gave_why):
            if not _may_be_lost(c, hold, hold.gave):
                yield Violation("reasons", f"lost while all was well: {hold.gave_why}", [hold], hold.gave)
        elif not _may_fail(c, hold, hold.give, hold.gave):
            yield Violation("reasons", f"not given back while all was well: {hold.gave_why}", [hold], hold.gave)


def _may_fail(c: Checker, hold: Hold, begin: int, end: int) -> bool:
    """The server was away; or this process stood still while it tried to reach it, and has its circuit breaker open."""
    return c.outage(hold.name, begin, end) or c.stood_still(begin - RECOVERY, end, hold.who)


def _may_be_lost(c: Checker, hold: Hold, end: int) -> bool:
    """The server forgot it; or it could not be renewed in time; or it was meant to run out."""
    return (c.lost_data(hold.name, hold.ask, end) is not None or c.outage(hold.name, hold.ask, end)
            or c.stood_still(hold.ask, end, hold.who) or hold.ttl < 0.5 or bool(hold.refreshes) or hold.fence is None)


# ---- what is left --------------------------------------------------------------------------------------------


def ended(c: Checker) -> Iterator[Violation]:
    """Everybody has ended, and nobody has crashed."""
    final = c.history.final
    for who in final.get("hung", ()):
        yield c.left(f"{who} did not end")
    for process in final.get("processes", ()):
        yield c.left(f"a process is left: {process}")
    for line in final.get("crashes", ()):
        yield c.left(f"php-fpm: {line}")
    for process in c.history.processes.values():
        if process.code is not None and process.code not in (0, 255) and not (process.killed and process.code == -9):
            yield c.left(f"{process.who} ended with status {process.code}")


def leftovers(c: Checker) -> Iterator[Violation]:
    """At the end nothing is held, nothing is left, nobody has grown."""
    final, bad = c.history.final, c.left

    for key in final.get("eternal_keys", ()):
        # What a server keeps of itself: no lock has an empty name.
        if "{}" not in key:
            yield bad(f"the key {key} never expires")
    for key, life in final.get("keys", {}).items():
        if re.search(r"\}:[qwrio]$|\}:m:", key):
            yield bad(f"the key {key} is left, with nobody there")
        elif (life < 0 or life > 70_000) and "{}" not in key:
            yield bad(f"the key {key} lives on for {life} ms")
    aftermath = final.get("aftermath", {})
    for name, waited in aftermath.get("waited", {}).items():
        if waited is None or waited > max(final["patience"], LATE / SECOND):
            yield bad(f"\"{name}\" could not be had when all had ended: {waited} s")
    for lock in aftermath.get("held", ()):
        yield bad(f"held when all had ended: {lock}")
    for message in aftermath.get("messages", ()):
        yield bad(f"warning when all had ended: {message}")
    killed = {process.pid for process in c.history.processes.values() if process.killed}
    for name in final.get("temporary", ()):
        pid = int(name.rsplit(".", 4)[1])
        if pid not in killed:
            yield bad(f"a temporary file is left by {pid}, which was not killed: {name}")
        c.counts["temporary_files_of_killed"] += 1
    for name in final.get("temporary_after", ()):
        yield bad(f"a temporary file is left even by the writer after it: {name}")
    for who, samples in c.history.samples.items():
        # Half of the run to become as large as it gets.
        if len(samples) < 8:
            continue
        half = len(samples) // 2
        # Connections to each server, of which more may be needed at once later, up to cluster_lock.pool_size.
        for what, most, unit in (("fds", 3 * c.history.servers, 1), ("resident", 4, 1 << 20)):
            before = max(sample[what] for sample in samples[1:half])
            after = min(sample[what] for sample in samples[-3:])
            if after - before > most * unit:
                yield bad(f"{who} grew: {what} {before / unit:.0f} -> {after / unit:.0f}")


CHECKS = (exclusion, stillborn, expired, told, fences, registers, guarded_writes, runs, whole_files, progress, time_outs, order, reasons,
          ended, leftovers)
# A lease is a promise about time: set forward, a server's clock ends it, and set back, whoever waits does so for longer.
WHATEVER_THE_CLOCK = (runs, whole_files, ended)
