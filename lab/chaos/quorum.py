"""Independent servers of which a majority decides, seen from two sides of a network, and what can be done to them."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from pathlib import Path
from typing import Iterator

import redis
from stand import servers as stand

from record import Record
from servers import LASTING, ONCE, Host, Proxy, Target

# What a voter does to the network's bytes while nobody may speak to it.
CUT_OFF = ["black-hole", "hold", "refuse", "black-hole up", "black-hole down"]
# The longest lease of a run, and the margin of a busy machine: by then a voter that has missed something, or all, has
# been told of every lock that is still held. Two that miss something within one lease are a case of their own.
REST = 3.5


class Voter:
    """One server, and the network between it and each side."""

    def __init__(self, tmp: Path, name: str, aof: bool, proxy: Path, sides: int) -> None:
        self.host = Host(tmp, name, aof)
        self.ways = [Proxy(proxy, self.host.port) for _ in range(sides)]

    @contextlib.contextmanager
    def cut_off(self, how: str) -> Iterator[None]:
        """From everybody."""
        with contextlib.ExitStack() as stack:
            for way in self.ways:
                stack.enter_context(way.fault(how))
                if how == "refuse":
                    way.do("cut")
            yield

    def stop(self) -> None:
        for way in self.ways:
            way.stop()
        self.host.stop()


class Quorum(Target):
    SIDES = 2

    def __init__(self, tmp: Path, record: Record, aof: bool, proxy: Path, voters: int) -> None:
        folder = tmp / "redis"
        folder.mkdir()
        self._record = record
        self.voters = [Voter(folder, f"voter-{number}", aof, proxy, self.SIDES) for number in range(voters)]
        self.dsns = ["redis+quorum://" + ",".join(f"127.0.0.1:{voter.ways[side].port}" for voter in self.voters)
                     for side in range(self.SIDES)]

    def servers(self) -> list[redis.Redis]:
        return [voter.host.control for voter in self.voters]

    def hosts(self) -> list[stand.Redis]:
        return [voter.host for voter in self.voters]

    def about(self, server: redis.Redis) -> dict:
        return {"voter": self.servers().index(server)}

    def pids(self) -> list[int]:
        return [process.pid for voter in self.voters
                for process in (voter.host.process, *(way.process for way in voter.ways))]

    def stop(self) -> None:
        for voter in self.voters:
            voter.stop()

    def left(self) -> dict[str, int]:
        """A letter that was not needed, because a majority had sent theirs, lies there for as long as a lease that is
        handed over."""
        deadline = time.monotonic() + 3
        while True:
            keys = self.keys()
            if time.monotonic() > deadline or not any("}:m:" in key for key in keys):
                return keys
            time.sleep(0.1)

    # ---- one of them: nobody may notice ----------------------------------------------------------------------

    @contextlib.contextmanager
    def _one(self, kind: str, rng: random.Random, **more) -> Iterator[Voter]:
        """A fault of one voter, and the time in which it is told what it has missed."""
        number = rng.randrange(len(self.voters))
        with self._record.fault(kind, voter=number, **more):
            yield self.voters[number]
        time.sleep(REST)

    def do_voter_restart(self, lasts: float, rng: random.Random) -> None:
        with self._one("voter_restart", rng) as voter:
            voter.host.end()
            time.sleep(lasts)
            voter.host.start()

    def do_voter_empty(self, lasts: float, rng: random.Random) -> None:
        with self._one("voter_empty", rng) as voter:
            voter.host.kill()
            time.sleep(lasts)
            voter.host.start_empty()

    def do_voter_flush(self, _lasts: float, rng: random.Random) -> None:
        with self._one("voter_flush", rng) as voter:
            voter.host.control.flushall()

    def do_voter_stop(self, lasts: float, rng: random.Random) -> None:
        with self._one("voter_stop", rng) as voter, voter.host.stopped():
            time.sleep(lasts)

    def do_voter_full(self, lasts: float, rng: random.Random) -> None:
        with self._one("voter_full", rng) as voter, voter.host.full():
            time.sleep(lasts)

    def do_voter_partition(self, lasts: float, rng: random.Random) -> None:
        how = rng.choice(CUT_OFF)
        with self._one("voter_partition", rng, how=how) as voter, voter.cut_off(how):
            time.sleep(lasts)

    def do_voter_network(self, lasts: float, rng: random.Random) -> None:
        how = rng.choice(LASTING)
        with self._one("voter_network", rng, how=how) as voter, rng.choice(voter.ways).fault(how):
            time.sleep(lasts)

    def do_voter_network_once(self, _lasts: float, rng: random.Random) -> None:
        how = rng.choice(ONCE)
        with self._one("voter_network_once", rng, how=how) as voter:
            rng.choice(voter.ways).do(how)
            time.sleep(0.1)

    def do_split(self, lasts: float, rng: random.Random) -> None:
        """Each side sees all but one, and not the same one."""
        cut, how = rng.sample(range(len(self.voters)), self.SIDES), rng.choice(["hold", "black-hole"])
        with self._record.fault("split", voters=cut, how=how), contextlib.ExitStack() as stack:
            for side, number in enumerate(cut):
                stack.enter_context(self.voters[number].ways[side].fault(how))
            time.sleep(lasts)
        time.sleep(REST)

    # ---- a majority ------------------------------------------------------------------------------------------

    def _majority(self, rng: random.Random) -> list[Voter]:
        return rng.sample(self.voters, len(self.voters) // 2 + 1)

    def do_majority_partition(self, lasts: float, rng: random.Random) -> None:
        how, hit = rng.choice(CUT_OFF), self._majority(rng)
        with self._record.fault("majority_partition", how=how), contextlib.ExitStack() as stack:
            for voter in hit:
                stack.enter_context(voter.cut_off(how))
            time.sleep(lasts)
        time.sleep(REST)

    def do_majority_stop(self, lasts: float, rng: random.Random) -> None:
        hit = self._majority(rng)
        with self._record.fault("majority_stop"), contextlib.ExitStack() as stack:
            for voter in hit:
                stack.enter_context(voter.host.stopped())
            time.sleep(lasts)
        time.sleep(REST)

    def do_majority_restart(self, lasts: float, rng: random.Random) -> None:
        hit = self._majority(rng)
        with self._record.fault("majority_restart"):
            for voter in hit:
                voter.host.end()
            time.sleep(lasts)
            for voter in hit:
                voter.host.start()
        time.sleep(REST)

    def do_flush_all(self, _lasts: float, _rng: random.Random) -> None:
        with self._record.fault("flush_all"):
            threads = [threading.Thread(target=voter.host.control.flushall) for voter in self.voters]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    # ---- more than one that forgets, within a lease ----------------------------------------------------------

    def do_forget_in_turn(self, lasts: float, rng: random.Random) -> None:
        """One after the other returns empty, so many seconds apart."""
        with self._record.fault("forget_in_turn") as told:
            told["voters"] = rng.sample(range(len(self.voters)), len(self.voters) // 2 + 1)
            for number in told["voters"]:
                host = self.voters[number].host
                host.kill()
                host.start_empty()
                time.sleep(lasts)

    def do_forget_together(self, lasts: float, rng: random.Random) -> None:
        """A majority returns empty at the same time."""
        hit = self._majority(rng)
        with self._record.fault("forget_together"):
            for voter in hit:
                voter.host.kill()
            time.sleep(lasts)
            for voter in hit:
                voter.host.start_empty()

    def do_forget_while_one_is_away(self, lasts: float, rng: random.Random) -> None:
        """One is stopped; another one returns empty meanwhile."""
        away, hit = rng.sample(self.voters, 2)
        with self._record.fault("forget_while_one_is_away"), away.host.stopped():
            hit.host.kill()
            hit.host.start_empty()
            time.sleep(lasts)

