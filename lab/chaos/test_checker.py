"""The checker against histories made by hand: what is right passes, and each thing that is wrong is found."""

from __future__ import annotations

import json
import socket
import tempfile
import unittest
from pathlib import Path

import checker
import history as histories
import plan
from bus import Bus, address
from cluster import Cluster, View, slot_of
from quorum import Quorum
from sentinels import Sentinels
from servers import Server

FENCE = 1_000_000


class Room:
    """A room of a run, in which a test says what everybody recorded. Times in seconds."""

    def __init__(self, folder: str, **about) -> None:
        self.path = Path(folder)
        for name in ("history", "files", "registers"):
            (self.path / name).mkdir()
        self.runner("begin", 0.0, flock_mode="replace", **about)

    def runner(self, event: str, moment: float, **more) -> None:
        self._write("runner", event, moment, more)

    def fault(self, kind: str, begin: float, end: float, **more) -> None:
        self.runner("fault", begin, kind=kind, end=ns(end), **more)

    def says(self, who: str, event: str, moment: float, **more) -> None:
        self._write(who, event, moment, more)

    def asks(self, who: str, hold: int, at: float, name: str = "a", mode: str = "X", timeout: float = 10.0,
             ttl: float = 2.0, via: str = "function", **more) -> None:
        self.says(who, "ask", at, i=hold, n=name, m=mode, via=via, timeout=timeout, ttl=ttl, **more)

    def gets(self, who: str, hold: int, at: float, fence: int | None, left: float = 2.0) -> None:
        self.says(who, "got", at, i=hold, at=ns(at), fence=fence, why=None)
        self.looks(who, hold, at, left)

    def looks(self, who: str, hold: int, at: float, left: float) -> None:
        self.says(who, "look", at, i=hold, at=ns(at), left=ns(left))

    def gives(self, who: str, hold: int, at: float, ok: bool = True, why: str | None = None) -> None:
        self.says(who, "give", at, i=hold)
        self.says(who, "gave", at + 0.001, i=hold, ok=ok, why=why)

    def holds(self, who: str, hold: int, begin: float, end: float, fence: int, ask: float | None = None, **more) -> None:
        """One whole hold, kept throughout."""
        self.asks(who, hold, begin - 0.001 if ask is None else ask, **more)
        self.gets(who, hold, begin, fence)
        self.gives(who, hold, end)

    def acts(self, who: str, hold: int, at: float, fence: int, name: str = "a") -> None:
        self.says(who, "act", at, i=hold)
        with (self.path / "registers" / name).open("a") as register:
            register.write(f"{fence} {who} {hold}\n")
        self.says(who, "acted", at + 0.001, i=hold)

    def _write(self, who: str, event: str, at: float, more: dict) -> None:
        with (self.path / "history" / f"{who}.jsonl").open("a") as file:
            file.write(json.dumps({"t": ns(at), "e": event, **more}) + "\n")

    def verdict(self) -> checker.Verdict:
        return checker.check(histories.load(self.path))


def ns(seconds: float) -> int:
    return int(seconds * histories.SECOND)


class CheckerTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.room = Room(folder.name)

    def assert_clean(self) -> checker.Verdict:
        verdict = self.room.verdict()
        self.assertEqual([], [(v.check, v.text) for v in verdict.violations])
        return verdict

    def assert_found(self, *checks: str) -> None:
        found = {violation.check for violation in self.room.verdict().violations}
        self.assertEqual(set(checks), found)

    # ---- mutual exclusion

    def test_one_after_the_other_is_right(self) -> None:
        self.room.holds("p", 1, 1.0, 2.0, FENCE)
        self.room.holds("q", 2, 2.002, 3.0, FENCE + 1, ask=1.5)
        self.assert_clean()

    def test_two_holders_at_once(self) -> None:
        self.room.holds("p", 1, 1.0, 2.0, FENCE)
        self.room.holds("q", 2, 1.5, 3.0, FENCE + 1)
        self.assert_found("exclusion")

    def test_another_name_is_another_lock(self) -> None:
        self.room.holds("p", 1, 1.0, 2.0, FENCE)
        self.room.holds("q", 2, 1.5, 3.0, FENCE - 1, name="b")
        self.assert_clean()

    def test_readers_share(self) -> None:
        self.room.holds("p", 1, 1.0, 2.0, FENCE, mode="S")
        self.room.holds("q", 2, 1.5, 3.0, FENCE + 1, mode="S")
        self.assert_clean()

    def test_a_writer_among_readers(self) -> None:
        self.room.holds("p", 1, 1.0, 2.0, FENCE, mode="S")
        self.room.holds("q", 2, 1.5, 3.0, FENCE + 1)
        self.assert_found("exclusion")

    def test_a_lease_that_has_run_out_by_its_own_clock_explains_it(self) -> None:
        self.room.asks("p", 1, 1.0, ttl=0.4)
        self.room.gets("p", 1, 1.001, FENCE, left=0.39)
        self.room.holds("q", 2, 1.5, 3.0, FENCE + 1, ask=1.1)
        self.room.gives("p", 1, 2.0, ok=False, why="lost: its lease ran out")
        self.assertEqual(1, self.assert_clean().counts["overlaps_by_lease"])

    def test_a_lease_that_has_not_does_not(self) -> None:
        self.room.asks("p", 1, 1.0, ttl=0.4)
        self.room.gets("p", 1, 1.001, FENCE, left=0.39)
        self.room.looks("p", 1, 1.3, 0.39)
        self.room.holds("q", 2, 1.5, 3.0, FENCE + 1, ask=1.1)
        self.room.gives("p", 1, 2.0, ok=False, why="lost: its lease ran out")
        self.assert_found("exclusion")

    def test_a_shorter_lease_that_it_asked_for_replaces_what_was_left(self) -> None:
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE, left=1.9)
        self.room.says("p", "refresh", 1.1, i=1, ttl=0.2)
        self.room.looks("p", 1, 1.11, 0.19)
        self.room.holds("q", 2, 1.4, 3.0, FENCE + 1, ask=1.1)
        self.room.gives("p", 1, 2.0, ok=False, why="lost: its lease ran out")
        self.assert_clean()

    def test_a_lease_that_is_over_when_it_begins(self) -> None:
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 4.0, FENCE, left=0.0)
        self.room.gives("p", 1, 5.0, ok=False, why="lost: its lease ran out")
        # Standing still before the answer is no excuse for believing it.
        self.room.runner("stop", 1.1, who="p", pid=1)
        self.room.runner("cont", 3.9, who="p", pid=1)
        self.assert_found("stillborn")

    def test_told_that_it_kept_the_lock_although_it_did_not(self) -> None:
        self.room.asks("p", 1, 1.0, ttl=0.4)
        self.room.gets("p", 1, 1.001, FENCE, left=0.39)
        self.room.holds("q", 2, 1.5, 3.0, FENCE + 1, ask=1.1)
        self.room.gives("p", 1, 2.0)
        self.assert_found("exclusion")

    def test_the_dead_hold_nothing(self) -> None:
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.runner("kill", 1.2, who="p", pid=1)
        self.room.holds("q", 2, 1.3, 3.0, FENCE + 1)
        self.assert_clean()

    def test_a_server_that_forgets_explains_it(self) -> None:
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.fault("flush", 1.2, 1.21)
        self.room.holds("q", 2, 1.3, 1.5, FENCE + 1)
        self.room.gives("p", 1, 2.0, ok=False, why="lost: the server no longer knows it")
        self.assertEqual(1, self.assert_clean().counts["overlaps_after_data_loss"])

    def test_who_was_handed_the_lock_before_may_hear_of_it_later(self) -> None:
        self.room.asks("p", 1, 1.0)
        self.room.fault("flush", 1.4, 1.41)
        self.room.asks("q", 2, 1.5)
        self.room.gets("q", 2, 1.6, FENCE + 1)
        self.room.gets("p", 1, 1.7, FENCE)
        self.room.gives("p", 1, 1.8, ok=False, why="lost: another holder has been let in")
        self.room.gives("q", 2, 2.0)
        self.assert_clean()

    def test_breaking_another_lock_does_not(self) -> None:
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.fault("break", 1.2, 1.21, name="b", broke=True)
        self.room.holds("q", 2, 1.3, 1.5, FENCE + 1)
        self.room.gives("p", 1, 2.0, ok=False, why="lost: it was broken")
        self.assert_found("exclusion", "reasons")

    def test_a_conversion_does_not_exclude_what_it_comes_from(self) -> None:
        self.room.asks("p", 1, 1.0, mode="S")
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.asks("p", 2, 1.2, **{"from": 1})
        self.room.gets("p", 2, 1.201, FENCE + 1)
        self.room.gives("p", 2, 1.5)
        self.assert_clean()

    def test_nesting_is_not_another_hold(self) -> None:
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.asks("p", 2, 1.2, **{"from": 1})
        self.room.says("p", "nested", 1.201, i=2)
        self.room.holds("q", 3, 1.5, 1.8, FENCE + 1)
        self.room.gives("p", 1, 2.0)
        self.assert_found("exclusion")

    # ---- runs

    def calls(self, who: str, hold: int, at: float, **more) -> None:
        self.room.asks(who, hold, at, via="coalesced", **more)

    def runs(self, who: str, hold: int, begin: float, end: float, fence: int, ran: bool = True, **more) -> None:
        self.room.gets(who, hold, begin, fence)
        if ran:
            self.room.says(who, "ran", end - 0.001, i=hold)
        self.room.gives(who, hold, end, **more)

    def test_a_run_that_began_after_the_call_covers_it(self) -> None:
        self.calls("p", 1, 1.0)
        self.calls("q", 2, 1.1)
        self.runs("p", 1, 1.2, 2.0, FENCE)
        self.room.says("q", "covered", 2.001, i=2)
        self.assertEqual((1, 1), ((verdict := self.assert_clean()).counts["runs"], verdict.counts["covered"]))

    def test_one_that_was_under_way_does_not(self) -> None:
        self.calls("p", 1, 1.0)
        self.runs("p", 1, 1.2, 2.0, FENCE)
        self.calls("q", 2, 1.3)
        self.room.says("q", "covered", 2.001, i=2)
        self.assert_found("runs")

    def test_one_that_is_not_done_yet_does_not(self) -> None:
        self.calls("p", 1, 1.0)
        self.calls("q", 2, 1.1)
        self.runs("p", 1, 1.2, 2.0, FENCE)
        self.room.says("q", "covered", 1.8, i=2)
        self.assert_found("runs")

    def test_one_of_another_name_does_not(self) -> None:
        self.calls("p", 1, 1.0, name="b")
        self.calls("q", 2, 1.1)
        self.runs("p", 1, 1.2, 2.0, FENCE)
        self.room.says("q", "covered", 2.001, i=2)
        self.assert_found("runs")

    def test_one_that_has_failed_does_not(self) -> None:
        self.calls("p", 1, 1.0)
        self.calls("q", 2, 1.1)
        self.runs("p", 1, 1.2, 2.0, FENCE, ran=False, ok=None)
        self.room.says("q", "covered", 2.001, i=2)
        self.assert_found("runs")

    def test_one_whose_lock_was_broken_does_not(self) -> None:
        self.calls("p", 1, 1.0)
        self.calls("q", 2, 1.1)
        self.room.says("p", "break", 1.5, n="a")
        self.room.says("p", "broke", 1.51, n="a", ok=True)
        self.runs("p", 1, 1.2, 2.0, FENCE, ok=False, why="lost: it was broken")
        self.room.says("q", "covered", 2.001, i=2)
        self.assert_found("runs")

    def test_one_whose_lock_was_broken_counts_for_nobody(self) -> None:
        self.calls("p", 1, 1.0)
        self.room.says("p", "break", 1.5, n="a")
        self.room.says("p", "broke", 1.51, n="a", ok=True)
        self.runs("p", 1, 1.2, 2.0, FENCE)
        self.assert_found("told")

    def test_one_whose_lock_was_broken_is_told_that_a_later_one_counts(self) -> None:
        self.calls("p", 1, 1.0)
        self.calls("q", 2, 1.1)
        self.room.says("p", "break", 1.5, n="a")
        self.room.says("p", "broke", 1.51, n="a", ok=True)
        self.runs("q", 2, 1.6, 1.9, FENCE + 1)
        self.runs("p", 1, 1.2, 2.0, FENCE)
        self.assert_clean()

    def broken_run(self) -> None:
        self.calls("p", 1, 1.0)
        self.calls("q", 2, 1.1)
        self.room.says("p", "break", 1.5, n="a")
        self.room.says("p", "broke", 1.51, n="a", ok=True)
        self.runs("p", 1, 1.2, 2.0, FENCE)

    def test_a_later_one_that_is_not_complete_by_then_does_not(self) -> None:
        self.broken_run()
        self.runs("q", 2, 1.6, 2.1, FENCE + 1)
        self.assert_found("told")

    def test_a_later_one_that_has_failed_does_not(self) -> None:
        self.broken_run()
        self.runs("q", 2, 1.6, 1.9, FENCE + 1, ran=False, ok=None)
        self.assert_found("told")

    def test_a_later_one_that_was_broken_as_well_does_not(self) -> None:
        self.broken_run()
        self.calls("r", 3, 1.1)
        self.room.says("q", "break", 1.7, n="a")
        self.room.says("q", "broke", 1.71, n="a", ok=True)
        self.room.gets("q", 2, 1.6, FENCE + 1)
        self.room.says("q", "ran", 1.9, i=2)
        # It does for q what it does not do for p, who was told before that.
        self.runs("r", 3, 1.75, 2.05, FENCE + 2)
        self.room.gives("q", 2, 2.1)
        self.assert_found("told")

    def test_a_plain_hold_between_does_not(self) -> None:
        self.broken_run()
        self.room.holds("q", 3, 1.6, 1.9, FENCE + 1)
        self.assert_found("told")

    def test_one_that_was_killed_while_it_told_may_count(self) -> None:
        self.calls("p", 1, 1.0)
        self.calls("q", 2, 1.1)
        self.room.gets("p", 1, 1.2, FENCE)
        self.room.says("p", "ran", 1.9, i=1)
        self.room.says("p", "give", 1.91, i=1)
        self.room.runner("kill", 1.92, who="p", pid=1)
        self.room.says("q", "covered", 2.001, i=2)
        self.assert_clean()

    def test_one_that_the_server_has_forgotten_since_counts(self) -> None:
        self.calls("p", 1, 1.0)
        self.calls("q", 2, 1.1)
        self.room.fault("flush", 2.0, 2.01)
        self.room.gets("p", 1, 1.2, FENCE)
        self.room.looks("p", 1, 1.98, 1.5)
        self.room.says("p", "ran", 1.98, i=1)
        self.room.says("p", "give", 1.99, i=1)
        self.room.says("p", "gave", 2.5, i=1, ok=False, why="lost: the server no longer knows it")
        self.room.says("q", "covered", 2.001, i=2)
        self.assert_clean()

    # ---- sentinels

    def test_a_switch_of_the_sentinels_explains_it(self) -> None:
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.runner("switch", 1.2, old=1, new=2)
        self.room.runner("switch", 1.201, old=1, new=2)
        self.room.holds("q", 2, 1.3, 1.5, FENCE + 1)
        self.room.gives("p", 1, 2.0, ok=False, why="lost: another holder has been let in")
        self.assertEqual(1, self.assert_clean().counts["switches"])

    def test_a_switch_does_not_explain_what_comes_after_it(self) -> None:
        # All processes have heard of it within a second and a half, long before the former primary is a replica.
        self.room.runner("switch", 1.0, old=1, new=2)
        self.room.asks("p", 1, 4.0)
        self.room.gets("p", 1, 4.001, FENCE)
        self.room.holds("q", 2, 4.3, 4.5, FENCE + 1)
        self.room.gives("p", 1, 5.0, ok=False, why="lost: another holder has been let in")
        self.assert_found("exclusion", "reasons")

    def test_a_switch_that_was_planned_begins_with_its_reason(self) -> None:
        self.room.fault("failover", 3.0, 5.0, how="SIGKILL")
        self.room.runner("switch", 4.9, old=1, new=2)
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.holds("q", 2, 1.3, 1.5, FENCE + 1)
        self.room.gives("p", 1, 2.0, ok=False, why="lost: another holder has been let in")
        self.assert_found("exclusion", "reasons")

    def test_the_last_sentinel_tells_later(self) -> None:
        self.room.runner("switch", 1.0, old=1, new=2)
        self.room.runner("switch", 2.8, old=1, new=2)
        self.room.asks("p", 1, 3.0)
        self.room.gets("p", 1, 3.001, FENCE)
        self.room.holds("q", 2, 3.3, 3.5, FENCE + 1)
        self.room.gives("p", 1, 4.0, ok=False, why="lost: another holder has been let in")
        self.assertEqual(1, self.assert_clean().counts["overlaps_after_data_loss"])

    def test_who_kept_it_through_a_fail_over_did(self) -> None:
        self.room.fault("failover", 1.5, 3.0, how="SIGKILL")
        self.room.runner("switch", 2.9, old=1, new=2)
        self.room.holds("p", 1, 1.0, 9.0, FENCE)
        self.assert_clean()

    def test_a_fail_over_that_was_waited_for_explains_no_second_holder(self) -> None:
        self.room.runner("begin", 0.0, flock_mode="replace", wait=True)
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.runner("switch", 1.2, old=1, new=2)
        self.room.holds("q", 2, 1.3, 1.5, FENCE + 1)
        self.room.gives("p", 1, 2.0, ok=False, why="lost: another holder has been let in")
        self.assert_found("exclusion")

    def test_without_a_replica_nobody_is_let_in_where_it_is_waited_for(self) -> None:
        self.room.runner("begin", 0.0, flock_mode="replace", wait=True)
        self.room.fault("no_replica", 0.5, 2.0)
        self.room.asks("p", 1, 1.0)
        self.room.says("p", "no", 1.1, i=1, why="redis+sentinel://…: 0 of 1 replicas")
        self.assert_clean()

    def test_without_a_replica_locks_are_had_where_it_is_not(self) -> None:
        self.room.fault("no_replica", 0.5, 2.0)
        self.room.asks("p", 1, 1.0)
        self.room.says("p", "no", 1.1, i=1, why="redis+sentinel://…: 0 of 1 replicas")
        self.assert_found("reasons")

    # ---- a cluster

    def two_at_once_after(self, kind: str, **about) -> None:
        """Two holders of "a", the second while that lasts."""
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.fault(kind, 1.2, 1.9, **about)
        self.room.holds("q", 2, 1.3, 1.5, FENCE + 1)
        self.room.gives("p", 1, 2.0, ok=False, why="lost: another holder has been let in")

    def test_a_shard_that_is_replaced_explains_what_becomes_of_its_locks(self) -> None:
        self.two_at_once_after("divergence", names=["a"])
        self.assert_clean()

    def test_a_shard_that_is_replaced_does_not_explain_what_becomes_of_others(self) -> None:
        self.two_at_once_after("divergence", names=["b"])
        self.assert_found("exclusion", "reasons")

    def test_a_shard_that_forgets_does_not_explain_what_becomes_of_others(self) -> None:
        self.two_at_once_after("restart_empty", names=["b"])
        self.assert_found("exclusion", "reasons")

    def test_a_slot_that_is_moved_is_no_loss(self) -> None:
        self.two_at_once_after("slot_move", names=["a"])
        self.assert_found("exclusion")

    def test_a_fail_over_on_purpose_loses_nothing(self) -> None:
        self.two_at_once_after("failover", names=["a"], node=1, how="CLUSTER FAILOVER")
        self.room.runner("promoted", 1.8, node=4, names=["a"])
        self.assert_found("exclusion")

    def test_a_server_that_takes_over_of_its_own_accord_explains_its_locks_only(self) -> None:
        self.two_at_once_after("client_kill")
        self.room.runner("promoted", 1.8, node=4, names=["a"])
        self.assertEqual(1, self.assert_clean().counts["switches"])
        self.room.runner("promoted", 1.9, node=5, names=["b"])
        self.assert_clean()

    def test_one_that_takes_over_elsewhere_does_not(self) -> None:
        self.two_at_once_after("client_kill")
        self.room.runner("promoted", 1.8, node=5, names=["b"])
        self.assert_found("exclusion", "reasons")

    def test_a_failure_while_another_shard_is_away(self) -> None:
        self.room.fault("server_stop", 0.9, 2.0, names=["b"])
        self.room.asks("p", 1, 1.0)
        self.room.says("p", "no", 1.1, i=1, why="redis+cluster://…: gave no answer")
        self.assert_found("reasons")

    def test_a_loss_while_another_shard_is_away(self) -> None:
        self.room.fault("server_stop", 1.2, 4.0, names=["b"])
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.1, FENCE)
        self.room.gives("p", 1, 4.0, ok=False, why="lost: its lease ran out")
        self.assert_found("reasons")

    def test_who_has_not_heard_that_a_lock_was_moved_asks_where_it_was(self) -> None:
        self.room.fault("server_stop", 0.9, 2.0, names=["b"], formerly=["a"])
        self.room.asks("p", 1, 1.0)
        self.room.says("p", "no", 1.1, i=1, why="redis+cluster://…: gave no answer")
        self.assert_clean()

    # ---- a quorum

    def test_one_voter_explains_nothing(self) -> None:
        for kind in ("voter_restart", "voter_empty", "voter_flush", "voter_stop", "voter_partition", "split"):
            with self.subTest(kind), tempfile.TemporaryDirectory() as folder:
                self.room = Room(folder)
                self.two_at_once_after(kind)
                self.assert_found("exclusion", "reasons")

    def test_nothing_fails_for_one_voter(self) -> None:
        self.room.fault("voter_stop", 0.9, 2.0, voter=1)
        self.room.asks("p", 1, 1.0)
        self.room.says("p", "no", 1.1, i=1, why="redis+quorum://…: 2 of 3 servers failed")
        self.assert_found("reasons")

    def test_a_majority_that_is_away_explains_a_failure_and_no_second_holder(self) -> None:
        self.two_at_once_after("majority_stop")
        self.room.asks("p", 3, 1.3, name="b")
        self.room.says("p", "no", 1.4, i=3, why="redis+quorum://…: 2 of 3 servers failed")
        self.assert_found("exclusion")

    def test_all_voters_that_forget_explain_it(self) -> None:
        self.two_at_once_after("flush_all")
        self.assert_clean()

    # ---- clocks

    def test_a_clock_that_is_set_explains_two_holders_and_no_run(self) -> None:
        self.room.runner("begin", 0.0, flock_mode="replace", clocks=True)
        self.two_at_once_after("clock_step")
        self.assert_clean()
        self.calls("p", 1, 11.0)
        self.runs("p", 1, 11.2, 12.0, FENCE + 9)
        self.calls("q", 2, 11.3)
        self.room.says("q", "covered", 12.001, i=2)
        self.assert_found("runs")

    # ---- amnesia

    def test_in_a_run_about_amnesia_forgetting_explains_no_second_holder(self) -> None:
        for kind in ("flush", "restart_empty", "flush_all", "forget_in_turn", "forget_together",
                     "forget_while_one_is_away"):
            with self.subTest(kind), tempfile.TemporaryDirectory() as folder:
                self.room = Room(folder, amnesia=True)
                self.two_at_once_after(kind)
                self.assert_found("exclusion")

    def test_in_a_run_about_amnesia_a_lock_that_is_broken_is_broken(self) -> None:
        self.room.runner("begin", 0.0, flock_mode="replace", amnesia=True)
        self.two_at_once_after("break", name="a", broke=True)
        self.assert_clean()

    def test_in_a_run_about_amnesia_who_kept_it_may_have_done_so(self) -> None:
        self.room.runner("begin", 0.0, flock_mode="replace", amnesia=True)
        self.room.fault("flush", 1.5, 1.51)
        self.room.holds("p", 1, 1.0, 2.0, FENCE)
        self.assert_clean()

    def test_a_server_that_has_forgotten_may_rest_for_a_lease(self) -> None:
        self.room.runner("begin", 0.0, flock_mode="replace", amnesia=True)
        self.room.fault("flush", 1.0, 1.01)
        self.room.asks("p", 1, 1.1, timeout=3.0)
        self.room.says("p", "no", 4.1, i=1, why="redis://…: has lost its memory")
        self.room.holds("q", 2, 11.0, 12.0, FENCE, ask=1.2, timeout=15.0)
        self.assert_clean()

    # ---- what releases say

    def test_a_release_that_does_not_tell_a_loss(self) -> None:
        self.room.fault("flush", 1.5, 1.51)
        self.room.holds("p", 1, 1.0, 2.0, FENCE)
        self.assert_found("told")

    def test_one_whose_connection_was_cut_just_then_cannot_tell(self) -> None:
        self.room.fault("flush", 1.5, 1.51)
        self.room.fault("client_kill", 2.0, 2.0005)
        self.room.holds("p", 1, 1.0, 2.0, FENCE)
        self.assertEqual(1, self.assert_clean().counts["untold_losses"])

    # ---- fencing

    def test_a_smaller_token_for_a_later_holder(self) -> None:
        self.room.holds("p", 1, 1.0, 2.0, FENCE)
        self.room.fault("flush", 2.2, 2.3)
        self.room.holds("q", 2, 3.0, 4.0, FENCE - 1)
        self.assert_found("fences")

    def test_the_same_token_twice(self) -> None:
        self.room.holds("p", 1, 1.0, 2.0, FENCE)
        self.room.holds("q", 2, 3.0, 4.0, FENCE)
        self.assert_found("fences")

    def test_tokens_of_two_that_came_at_once_may_be_either_way_round(self) -> None:
        self.room.holds("p", 1, 1.0, 2.0, FENCE + 1, ask=0.5, mode="S")
        self.room.holds("q", 2, 1.1, 2.0, FENCE, ask=0.5, mode="S")
        self.assert_clean()

    def test_a_late_write_is_refused(self) -> None:
        self.room.asks("p", 1, 1.0, ttl=0.4)
        self.room.gets("p", 1, 1.001, FENCE, left=0.39)
        self.room.asks("q", 2, 1.1)
        self.room.gets("q", 2, 1.5, FENCE + 1)
        self.room.acts("q", 2, 1.6, FENCE + 1)
        self.room.acts("p", 1, 1.7, FENCE)
        self.room.gives("p", 1, 2.0, ok=False, why="lost: its lease ran out")
        self.room.gives("q", 2, 2.1)
        counts = self.assert_clean().counts
        self.assertEqual((1, 1), (counts["fenced_writes"], counts["refused_fenced_writes"]))

    def test_a_write_refused_to_one_who_was_sure(self) -> None:
        self.room.asks("q", 2, 1.0, ttl=0.3)
        self.room.gets("q", 2, 1.05, FENCE + 1, left=0.005)
        self.room.acts("q", 2, 1.1, FENCE + 1)
        self.room.asks("p", 1, 1.02)
        self.room.gets("p", 1, 1.06, FENCE)
        self.room.acts("p", 1, 1.2, FENCE)
        self.room.gives("p", 1, 2.0)
        self.room.gives("q", 2, 2.0, ok=False, why="lost: its lease ran out")
        self.assert_found("registers")

    def test_what_was_written_before_is_no_excuse(self) -> None:
        for who, hold, begin, end in (("late", 1, 1.0, 5.0), ("q", 2, 2.0, 2.1)):
            self.room.says(who, "append", begin, i=hold, f="appended-0")
            self.room.says(who, "appended", end, i=hold, ok=True, why=None)
        (self.room.path / "files" / "appended-0").write_text("late 1\n")
        self.assert_found("whole files")
        # It had looked at its lease, and stood still before it put its copy in place.
        self.room.runner("stop", 1.5, who="late", pid=1)
        self.room.runner("cont", 4.5, who="late", pid=1)
        self.assertEqual(1, self.assert_clean().counts["appends_overwritten_late"])

    def test_an_older_holders_file_over_a_newer_ones(self) -> None:
        for who, hold, fence, begin in (("q", 1, FENCE + 1, 1.0), ("p", 2, FENCE, 2.0)):
            self.room.says(who, "write", begin, i=hold, f="guarded", fence=fence, hold=hold)
            self.room.says(who, "wrote", begin + 0.1, i=hold, ok=True, why=None)
        self.assert_found("guarded writes")

    # ---- files

    def test_half_a_file(self) -> None:
        self.room.says("p", "read", 1.0, f="plain", ok=False)
        self.assert_found("whole files")

    def test_a_lost_and_a_doubled_append(self) -> None:
        for hold in (1, 2):
            self.room.says("p", "append", hold, i=hold, f="appended-0")
            self.room.says("p", "appended", hold + 0.1, i=hold, ok=True, why=None)
        (self.room.path / "files" / "appended-0").write_text("p 1\np 1\n")
        self.assertEqual(2, len(self.room.verdict().violations))
        self.assert_found("whole files")

    # ---- progress

    def test_a_wake_up_that_is_lost(self) -> None:
        self.room.holds("p", 1, 1.0, 2.0, FENCE)
        self.room.holds("q", 2, 7.5, 8.0, FENCE + 1, ask=1.5)
        self.assert_found("progress")

    def test_a_dead_holder_blocks_for_its_lease(self) -> None:
        self.room.asks("p", 1, 1.0, ttl=4.0)
        self.room.gets("p", 1, 1.001, FENCE, left=4.0)
        self.room.runner("kill", 2.0, who="p", pid=1)
        self.room.holds("q", 2, 6.5, 8.0, FENCE + 1, ask=1.5)
        self.assert_clean()

    def test_a_dead_holder_blocks_no_longer(self) -> None:
        self.room.asks("p", 1, 1.0, ttl=4.0)
        self.room.gets("p", 1, 1.001, FENCE, left=4.0)
        self.room.runner("kill", 2.0, who="p", pid=1)
        self.room.holds("q", 2, 11.0, 12.0, FENCE + 1, ask=1.5, timeout=20.0)
        self.assert_found("progress")

    def test_the_end_of_a_request_gives_back(self) -> None:
        self.room.says("p", "request", 0.9, request="1")
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.says("p", "end", 1.1, way="exit")
        self.room.runner("response", 1.2, request="1", ok=True)
        self.room.holds("q", 2, 7.0, 8.0, FENCE + 1, ask=1.05)
        self.assert_found("progress")

    def test_a_time_out_before_its_time(self) -> None:
        self.room.holds("p", 1, 1.0, 2.0, FENCE)
        self.room.asks("q", 2, 1.1, timeout=0.5)
        self.room.says("q", "no", 1.3, i=2, why=None)
        self.assert_found("time-outs")

    def test_an_answer_long_after_its_time_out(self) -> None:
        self.room.holds("p", 1, 1.0, 9.0, FENCE)
        self.room.asks("q", 2, 1.1, timeout=0.5)
        self.room.says("q", "no", 8.0, i=2, why=None)
        self.assert_found("time-outs")

    def test_who_stood_still_may_answer_late(self) -> None:
        self.room.holds("p", 1, 1.0, 9.0, FENCE)
        self.room.asks("q", 2, 1.1, timeout=0.5)
        self.room.runner("stop", 1.2, who="q", pid=1)
        self.room.runner("cont", 7.9, who="q", pid=1)
        self.room.says("q", "no", 8.0, i=2, why=None)
        self.assert_clean()

    def test_somebody_pushes_in(self) -> None:
        self.room.holds("p", 1, 1.0, 4.0, FENCE)
        self.room.holds("late", 3, 4.1, 5.5, FENCE + 1, ask=3.0)
        self.room.holds("early", 2, 5.6, 7.0, FENCE + 2, ask=1.5)
        self.assert_found("order")

    def test_whose_request_was_swallowed_comes_later(self) -> None:
        self.room.fault("network_once", 1.45, 1.55, how="half-open server")
        self.room.holds("p", 1, 1.0, 3.0, FENCE)
        self.room.holds("late", 3, 3.1, 4.5, FENCE + 1, ask=2.0)
        self.room.holds("early", 2, 4.6, 6.0, FENCE + 2, ask=1.5)
        self.assert_clean()

    def test_who_gives_up_may_have_been_overtaken_as_well(self) -> None:
        self.room.holds("p", 1, 1.0, 4.0, FENCE)
        self.room.holds("late", 3, 4.1, 5.5, FENCE + 1, ask=3.0)
        self.room.asks("early", 2, 1.5, timeout=3.5)
        self.room.says("early", "no", 5.0, i=2, why=None)
        self.assert_found("order")

    def test_from_exclusive_to_shared_is_no_arrival(self) -> None:
        self.room.asks("p", 1, 1.0)
        self.room.gets("p", 1, 1.001, FENCE)
        self.room.asks("p", 3, 3.0, mode="S", via="convert", **{"from": 1})
        self.room.gets("p", 3, 3.001, FENCE + 1)
        self.room.gives("p", 3, 4.0)
        self.room.holds("q", 2, 4.1, 5.0, FENCE + 2, ask=1.5)
        self.assert_clean()

    def test_in_order(self) -> None:
        self.room.holds("p", 1, 1.0, 4.0, FENCE)
        self.room.holds("early", 2, 4.1, 5.5, FENCE + 1, ask=1.5)
        self.room.holds("late", 3, 5.6, 7.0, FENCE + 2, ask=3.0)
        self.assert_clean()

    def test_a_failure_without_a_reason(self) -> None:
        self.room.asks("p", 1, 1.0)
        self.room.says("p", "no", 1.1, i=1, why="redis://…: Connection refused")
        self.assert_found("reasons")

    def test_a_failure_while_the_server_is_away(self) -> None:
        self.room.fault("server_stop", 0.9, 2.0)
        self.room.asks("p", 1, 1.0)
        self.room.says("p", "no", 1.1, i=1, why="redis://…: Connection refused")
        self.assert_clean()

    # ---- leftovers

    def test_what_is_left(self) -> None:
        self.room.runner("kill", 1.0, who="p", pid=7)
        self.room.runner(
            "final", 9.0, patience=8, hung=["cli-1"], processes=["php"], crashes=["exited on signal 11"],
            eternal_keys=["k"], keys={"cluster_lock:{a}:q": 5000, "cluster_lock:{b}": -1, "cluster_lock:{c}": 50_000},
            temporary=[".f.00000000.7.0.cluster_lock.tmp", ".f.00000000.8.0.cluster_lock.tmp"], temporary_after=["t"],
            aftermath={"waited": {"a": None, "b": 0.1}, "held": [{"name": "a"}], "messages": ["m"]})
        self.assertEqual(11, len(self.room.verdict().violations))
        self.assert_found("leftovers")

    def test_a_crash(self) -> None:
        self.room.runner("exit", 1.0, who="p", pid=1, code=-11)
        self.assert_found("leftovers")

    def test_growth(self) -> None:
        for second in range(20):
            self.room.runner("sample", second, who="p", fds=5 + second, resident=1 << 20)
        self.assert_found("leftovers")

    def test_a_connection_more_to_each_server_is_no_growth(self) -> None:
        for servers, found in ((1, {"leftovers"}), (5, set())):
            with self.subTest(servers=servers), tempfile.TemporaryDirectory() as folder:
                self.room = Room(folder, servers=servers)
                for second in range(20):
                    self.room.runner("sample", second, who="p", fds=14 if second < 10 else 19, resident=1 << 20)
                self.assert_found(*found)


class PlanTest(unittest.TestCase):
    def test_the_same_seed_is_the_same_plan(self) -> None:
        self.assertEqual(plan.make(7, 120), plan.make(7, 120))
        self.assertNotEqual(plan.make(7, 120).servers, plan.make(8, 120).servers)
        for topology in plan.FAULTS:
            self.assertEqual(plan.make(7, 120, topology), plan.make(7, 120, topology))

    def test_two_minutes_have_every_kind_of_fault(self) -> None:
        for seed in range(50):
            made = plan.make(seed, 120)
            self.assertEqual(set(plan.SERVER_FAULTS), {fault.kind for fault in made.servers})
            self.assertEqual(set(plan.PROCESS_FAULTS), {fault.kind for fault in made.processes})

    def test_a_short_run_has_what_each_mistake_of_the_broken_build_needs(self) -> None:
        for topology, needed in plan.NEEDED.items():
            for seed in range(100):
                for seconds in (15, 20):
                    made = plan.make(seed, seconds, topology)
                    kinds = {fault.kind for fault in made.servers if fault.at < seconds / 2}
                    self.assertLessEqual(set(needed), kinds)
                    self.assertEqual(made.servers, sorted(made.servers, key=lambda f: f.at))

    def test_a_run_about_amnesia_forgets_and_does_nothing_else(self) -> None:
        for topology, kinds in plan.AMNESIA.items():
            made = plan.make(1, 120, topology, amnesia=True)
            self.assertEqual(set(kinds), {fault.kind for fault in made.servers})

    def test_where_clocks_are_set_everything_else_goes_wrong_as_well(self) -> None:
        for topology, kinds in plan.FAULTS.items():
            made = plan.make(1, 240, topology, clocks=True)
            self.assertEqual({*kinds, *plan.CLOCK_FAULTS}, {fault.kind for fault in made.servers})

    def test_each_kind_of_fault_is_one_that_can_be_done(self) -> None:
        for topology, target in (("single", Server), ("sentinel", Sentinels), ("cluster", Cluster), ("quorum", Quorum)):
            for kind in {*plan.FAULTS[topology], *plan.AMNESIA.get(topology, ()), *plan.CLOCK_FAULTS} - {"break"}:
                self.assertTrue(hasattr(target, f"do_{kind}"), f"{topology}: {kind}")


class BusTest(unittest.TestCase):
    def test_what_is_cut_stands_still_and_arrives_later(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as target:
            bus = Bus([target.getsockname()[1]] * 3)
            self.addCleanup(bus.stop)

            def link(source: int, to: int) -> tuple[socket.socket, socket.socket]:
                ours = socket.create_connection(("127.0.0.1", bus.ports[to]), 60, (address(source), 0))
                theirs, _ = target.accept()
                for end in (ours, theirs):
                    self.addCleanup(end.close)
                    end.settimeout(60)
                return ours, theirs

            one, other = link(1, 0), link(1, 2)
            with bus.parted({0}):
                for pair in (one, other):
                    pair[0].sendall(b"ping")
                self.assertEqual(b"ping", other[1].recv(4))
                one[1].settimeout(0.1)
                self.assertRaises(TimeoutError, one[1].recv, 4)
                one[1].settimeout(60)
                # Both ways, and whoever comes now.
                one[1].sendall(b"pong")
                late = socket.create_connection(("127.0.0.1", bus.ports[1]), 60, (address(0), 0))
                self.addCleanup(late.close)
                target.settimeout(0.1)
                self.assertRaises(TimeoutError, target.accept)
            target.settimeout(60)
            self.assertEqual(b"ping", one[1].recv(4))
            self.assertEqual(b"pong", one[0].recv(4))
            target.accept()[0].close()


class ClusterTest(unittest.TestCase):
    def test_slots_are_those_of_the_keys(self) -> None:
        self.assertEqual([slot_of(name) for name in ("site", "a{b} c*", "ключ", "a")], [9421, 2744, 2399, 15495])

    def test_what_a_server_says_of_the_others(self) -> None:
        view = View(b"1f 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-1 5 [7->-2f]\n"
                    b"2f 127.0.0.1:3@4 slave,fail? 1f 0 0 1 connected\n")
        self.assertEqual({"1f": {0, 1, 5}}, view.slots)
        self.assertEqual({"1f": "-", "2f": "1f"}, view.primary_of)
        self.assertTrue(view.suspected)


if __name__ == "__main__":
    unittest.main()
