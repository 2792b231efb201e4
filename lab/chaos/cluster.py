"""Three primaries, a replica of each, and what can be done to them."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from pathlib import Path
from typing import Iterator
from urllib.parse import quote

import redis
from redis.crc import key_slot
from stand import servers as stand

from bus import Bus, address
from record import Record, now
from servers import Host, Proxy, Target, until

SHARDS = 3
SLOTS = 16384
SECOND = 1_000_000_000
# The servers speak to each other on a port of their own; it takes them so long to believe that one is gone, in ms.
TIMEOUT = 2000
OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(TIMEOUT), "--cluster-announce-ip", "127.0.0.1",
           # One shard without a primary is no reason for the others to refuse.
           "--cluster-require-full-coverage", "no", "--cluster-allow-replica-migration", "no",
           "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--repl-timeout", "5")
# What the network can do to the connections of clients, and of the replica: nothing that TCP would not do.
LASTING = ["delay 50", "delay 200", "delay 150 up", "delay 150 down", "drip 2 down", "hold", "hold up", "hold down",
           "refuse"]
ONCE = ["cut", "reset", "cut-after 100 up", "cut-after 10 down", "reset-after 200 up", "reset-after 5 down",
        "drop-request", "drop-reply", "drop-reply", "drop-request"]


def slot_of(name: str) -> int:
    """The hash slot of a lock."""
    encoded = quote(name.encode(), safe="-_.~:/@+=,;!$&'()#|<>")
    return key_slot(f"cluster_lock:{{{encoded}}}".encode())


class Node(Host):
    """One of the servers, and the network between it and its clients."""

    def __init__(self, tmp: Path, number: int, aof: bool, proxy: Path, bus_port: int, announced_bus_port: int) -> None:
        self.number = number
        super().__init__(tmp, f"node-{number}", aof, (
            *OPTIONS, "--bind-source-addr", address(number), "--cluster-port", str(bus_port),
            "--cluster-announce-bus-port", str(announced_bus_port)))
        self.proxy = Proxy(proxy, self.port)
        self.control.config_set("cluster-announce-port", self.proxy.port)
        self._options += ("--cluster-announce-port", str(self.proxy.port))
        self.id = self.cluster("MYID").decode()

    def cluster(self, *words: str | int):
        return self.control.execute_command("CLUSTER", *words)

    def view(self) -> View:
        return View(self.cluster("NODES"))

    def is_well(self) -> bool:
        return b"cluster_state:ok" in self.cluster("INFO")

    def is_primary(self) -> bool:
        return self.control.info("replication")["role"] == "master"

    def stop(self) -> None:
        self.proxy.stop()
        super().stop()


class View:
    """The cluster as one of them sees it."""

    def __init__(self, nodes: bytes) -> None:
        self.suspected = False
        # By id: the id of its primary, "-" of a primary; and for each primary its slots.
        self.primary_of: dict[str, str] = {}
        self.slots: dict[str, set[int]] = {}
        for line in nodes.decode().splitlines():
            node, _, flags, primary, _, _, _, _, *ranges = line.split(" ")
            self.suspected |= "fail" in flags or "handshake" in flags or "noaddr" in flags
            self.primary_of[node] = primary
            slots: set[int] = set()
            for span in ranges:
                if not span.startswith("["):
                    first, _, last = span.partition("-")
                    slots |= set(range(int(first), int(last or first) + 1))
            if slots:
                self.slots[node] = slots


class Cluster(Target):
    def __init__(self, tmp: Path, record: Record, aof: bool, proxy: Path, names: list[str]) -> None:
        folder = tmp / "redis"
        folder.mkdir()
        self._record, self._names = record, names
        ports = [stand.free_port() for _ in range(2 * SHARDS)]
        self._bus = Bus(ports)
        self.nodes = [Node(folder, number, aof, proxy, port, announced)
                      for number, (port, announced) in enumerate(zip(ports, self._bus.ports))]
        # Locks that were moved away from a server, which some may not have heard of.
        self._formerly: list[set[str]] = [set() for _ in self.nodes]
        self._create()
        self.dsns = ["redis+cluster://" + ",".join(f"127.0.0.1:{node.proxy.port}" for node in self.nodes)]
        self._over = threading.Event()
        for node in self.nodes:
            threading.Thread(target=self._watch, args=(node,), daemon=True).start()

    def _create(self) -> None:
        for number, node in enumerate(self.nodes):
            node.cluster("SET-CONFIG-EPOCH", number + 1)
        for shard, node in enumerate(self.nodes[:SHARDS]):
            node.cluster("ADDSLOTSRANGE", shard * SLOTS // SHARDS, (shard + 1) * SLOTS // SHARDS - 1)
        for node in self.nodes[1:]:
            self.nodes[0].cluster("MEET", "127.0.0.1", node.proxy.port, self._bus.ports[node.number])
        until("all know each other", lambda: all(
            len(view.primary_of) == len(self.nodes) and not view.suspected
            for view in (node.view() for node in self.nodes)))
        for shard, node in enumerate(self.nodes[SHARDS:]):
            node.cluster("REPLICATE", self.nodes[shard].id)
        self._await_whole()

    # ---- who is who ------------------------------------------------------------------------------------------

    def primaries(self) -> list[Node]:
        return [node for node in self.nodes if node.is_primary()]

    def _replica_of(self, primary: Node) -> Node:
        view = primary.view()
        return next(node for node in self.nodes if view.primary_of[node.id] == primary.id)

    def names_of(self, node: Node) -> list[str]:
        """The locks that this primary keeps."""
        slots = node.view().slots.get(node.id, set())
        return [name for name in self._names if slot_of(name) in slots]

    def servers(self) -> list[redis.Redis]:
        return [node.control for node in self.primaries()]

    def hosts(self) -> list[stand.Redis]:
        return list(self.nodes)

    def about(self, server: redis.Redis) -> dict:
        node = next(node for node in self.nodes if node.control is server)
        names = self.names_of(node)
        return {"node": node.number, "names": names, "formerly": sorted(self._formerly[node.number] - set(names))}

    def pids(self) -> list[int]:
        return [process.pid for node in self.nodes for process in (node.process, node.proxy.process)]

    def stop(self) -> None:
        self._over.set()
        for node in self.nodes:
            node.stop()
        self._bus.stop()

    def _await_whole(self) -> None:
        """All agree on who serves what, nobody is suspected, and the replicas are in sync."""
        def whole() -> bool:
            try:
                views = [node.view() for node in self.nodes]
                infos = [node.control.info("replication") for node in self.nodes]
                return (all(view.slots == views[0].slots and view.primary_of == views[0].primary_of
                            and not view.suspected for view in views)
                        and sum(len(slots) for slots in views[0].slots.values()) == SLOTS
                        and all(node.is_well() for node in self.nodes)
                        and sum(info["role"] == "master" for info in infos) == SHARDS
                        and all(self._in_sync(info) for info in infos))
            except redis.RedisError:
                return False

        try:
            until("the cluster is whole", whole)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n" + "\n".join(self._state_of(node) for node in self.nodes)) from None

    @staticmethod
    def _state_of(node: Node) -> str:
        """For whoever has to find out why not."""
        try:
            info = node.control.info("replication")
            return (f"node {node.number} ({node.proxy.port}): well: {node.is_well()}, {info['role']}, "
                    f"link {info.get('master_link_status')}, replica {info.get('slave0')}, "
                    f"offset {info['master_repl_offset']}\n{node.cluster('NODES').decode()}")
        except redis.RedisError as error:
            return f"node {node.number}: {error}"

    @staticmethod
    def _in_sync(info: dict) -> bool:
        if info["role"] != "master":
            return info["master_link_status"] == "up"
        replica = info.get("slave0", {})
        return replica.get("state") == "online" and info["master_repl_offset"] - replica["offset"] < 4096

    def _watch(self, node: Node) -> None:
        """Notes when a server takes over, or refuses to serve: on a busy machine some do for reasons of their own."""
        client = redis.Redis(unix_socket_path=str(node.path), socket_timeout=0.5)
        was_primary, well, names = node.number < SHARDS, now(), self.names_of(node)
        while not self._over.wait(0.1):
            try:
                is_primary = client.info("replication")["role"] == "master"
                is_well = b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO")
                slots = View(client.execute_command("CLUSTER", "NODES")).slots.get(node.id, set())
            except redis.RedisError:
                continue
            if is_primary and not was_primary:
                names = [name for name in self._names if slot_of(name) in slots]
                self._record.tell("promoted", node=node.number, names=names)
            was_primary = is_primary
            if is_well:
                if now() - well > SECOND and is_primary:
                    self._record.tell("fault", at=well, kind="unwell", end=now(), node=node.number, names=names)
                well = now()
                names = [name for name in self._names if slot_of(name) in slots]

    # ---- what a replica has to save --------------------------------------------------------------------------

    def _fail_over(self, how: str, rng: random.Random, strike, mend) -> None:
        """A primary is lost to the others: until its replica serves (an outage), and until it knows that it is none any
        more (both may have let somebody in)."""
        old = rng.choice(self.primaries())
        new, about = self._replica_of(old), self.about(old.control)
        begin = now()
        strike(old)
        until("the replica takes over", lambda: self._serves(new, old))
        self._record.tell("fault", at=begin, kind="failover", end=now(), how=how, **about)
        mend(old)
        until("the former primary knows", lambda: _answers(lambda: not old.is_primary()))
        self._record.tell("fault", at=begin, kind="divergence", end=now(), how=how, **about)
        self._await_whole()
        self._record.tell("fault", at=begin, kind="no_replica", end=now(), **about)

    def _serves(self, new: Node, old: Node) -> bool:
        """All others say so."""
        try:
            views = [node.view() for node in self.nodes if node is not old]
            return new.is_well() and all(new.id in view.slots and old.id not in view.slots for view in views)
        except redis.RedisError:
            return False

    def do_primary_kill(self, _lasts: float, rng: random.Random) -> None:
        self._fail_over("SIGKILL", rng, Node.kill, Node.start_empty)

    def do_primary_stop(self, _lasts: float, rng: random.Random) -> None:
        with contextlib.ExitStack() as stack:
            self._fail_over("SIGSTOP", rng, lambda old: stack.enter_context(old.stopped()), lambda _old: stack.close())

    def do_partition(self, _lasts: float, rng: random.Random) -> None:
        """Nobody can speak to a primary, neither servers nor clients."""
        def part(old: Node) -> None:
            stack.enter_context(self._bus.parted({old.number}))
            stack.enter_context(old.proxy.fault("hold"))

        with contextlib.ExitStack() as stack:
            self._fail_over("partition", rng, part, lambda _old: stack.close())

    def do_bus_partition(self, _lasts: float, rng: random.Random) -> None:
        """The others cannot speak to a primary; clients can, and its replica's connection lasts."""
        with contextlib.ExitStack() as stack:
            self._fail_over("partition of the servers", rng,
                            lambda old: stack.enter_context(self._bus.parted({old.number})),
                            lambda _old: stack.close())

    def do_fail_over(self, _lasts: float, rng: random.Random) -> None:
        """On purpose: a pause, in which the replica catches up. Nothing is lost."""
        old = rng.choice(self.primaries())
        new = self._replica_of(old)
        with self._record.fault("failover", how="CLUSTER FAILOVER", **self.about(old.control)):
            deadline = 0.0
            while not self._serves(new, old):
                # One that is not through within five seconds gives up.
                if time.monotonic() > deadline:
                    deadline = time.monotonic() + 6
                    with contextlib.suppress(redis.ResponseError):
                        new.cluster("FAILOVER")
                time.sleep(0.02)
            # The former primary has to become its replica.
            with self._record.fault("no_replica", **self.about(new.control)):
                self._await_whole()

    # ---- what one shard has to bear --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _one(self, kind: str, rng: random.Random, **more) -> Iterator[Node]:
        node = rng.choice(self.primaries())
        with self._record.fault(kind, **self.about(node.control), **more):
            yield node
            self._await_whole()

    def do_server_stop(self, lasts: float, rng: random.Random) -> None:
        with self._one("server_stop", rng) as node, node.stopped():
            time.sleep(lasts)

    def do_restart_empty(self, _lasts: float, rng: random.Random) -> None:
        """Before its replica takes over, which then forgets as well: nothing saves a cluster from that."""
        with self._one("restart_empty", rng) as node:
            node.kill()
            node.start_empty()

    def do_restart_with_data(self, _lasts: float, rng: random.Random) -> None:
        with self._one("restart_with_data", rng) as node:
            node.end()
            node.start()

    def do_out_of_memory(self, lasts: float, rng: random.Random) -> None:
        with self._one("out_of_memory", rng) as node, node.full():
            time.sleep(lasts)

    def do_network(self, lasts: float, rng: random.Random) -> None:
        how = rng.choice(LASTING)
        with self._one("network", rng, how=how) as node, node.proxy.fault(how):
            time.sleep(lasts)

    def do_network_once(self, _lasts: float, rng: random.Random) -> None:
        how = rng.choice(ONCE)
        with self._one("network_once", rng, how=how) as node:
            node.proxy.do(how)
            time.sleep(0.1)

    def do_replica_kill(self, _lasts: float, rng: random.Random) -> None:
        primary = rng.choice(self.primaries())
        node = self._replica_of(primary)
        with (self._record.fault("replica_kill", node=node.number),
              self._record.fault("no_replica", **self.about(primary.control))):
            node.kill()
            node.start_empty()
            self._await_whole()

    def do_slot_move(self, lasts: float, rng: random.Random) -> None:
        """A lock goes to another shard, key by key, with a pause on the way."""
        name = rng.choice(self._names)
        slot = slot_of(name)
        primaries = self.primaries()
        source = next(node for node in primaries if slot in node.view().slots.get(node.id, ()))
        target = rng.choice([node for node in primaries if node is not source])
        here = [other for other in self._names if slot_of(other) == slot]
        with self._record.fault("slot_move", names=here, source=source.number, target=target.number) as told:
            target.cluster("SETSLOT", slot, "IMPORTING", source.id)
            source.cluster("SETSLOT", slot, "MIGRATING", target.id)
            keys = source.cluster("GETKEYSINSLOT", slot, 1000)
            told["keys"] = len(keys)
            rng.shuffle(keys)
            self._migrate(source, target, keys[:len(keys) // 2])
            time.sleep(lasts)
            while keys := source.cluster("GETKEYSINSLOT", slot, 1000):
                self._migrate(source, target, keys)
            for node in (target, source, *(other for other in primaries if other not in (source, target))):
                node.cluster("SETSLOT", slot, "NODE", target.id)
            self._formerly[source.number] |= set(here)
        self._await_whole()

    @staticmethod
    def _migrate(source: Node, target: Node, keys: list[bytes]) -> None:
        for key in keys:
            # Of one that has expired meanwhile it says NOKEY.
            source.control.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)


def _answers(condition) -> bool:
    try:
        return condition()
    except redis.RedisError:
        return False
