"""A primary, its replica and three sentinels, and what can be done to them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import redis
from stand import servers as stand

from record import Record
from servers import Target, until

MASTER = "locks"
FAST = (*stand.NO_PERSISTENCE, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


class Node(stand.Redis):
    """One of the two servers."""

    def __init__(self, tmp: Path, name: str, of: int | None = None) -> None:
        folder = tmp / name
        folder.mkdir()
        super().__init__(folder, name, options=self._as_replica(of))
        self.control = redis.Redis(unix_socket_path=str(self.path), socket_timeout=10)

    @staticmethod
    def _as_replica(of: int | None) -> tuple[str, ...]:
        return FAST if of is None else (*FAST, "--replicaof", "127.0.0.1", str(of))

    def restart(self, of: int) -> None:
        """Killed, and back as an empty replica of the server with this port."""
        self.process.kill()
        self.process.wait()
        self._options = self._as_replica(of)
        self.start()


class Watcher:
    """One sentinel. It finds its own notes again after it was killed."""

    def __init__(self, tmp: Path, number: int, primary: int) -> None:
        self.port = stand.free_port()
        self._log = tmp / f"sentinel-{number}.log"
        self._file = tmp / f"sentinel-{number}.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {tmp}\nsentinel monitor {MASTER} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 2000\n")
        self.start()
        self.client = redis.Redis(port=self.port, socket_timeout=5)

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen([*stand.prefix(by="KILL"), "redis-server", str(self._file), "--sentinel"],
                                            stdout=log, stderr=subprocess.STDOUT)

    def listen(self, record: Record, over: threading.Event) -> None:
        """Notes every switch that it makes: on a busy machine sentinels make some for reasons of their own."""
        while not over.is_set():
            try:
                news = self.client.pubsub(ignore_subscribe_messages=True)
                news.subscribe("+switch-master")
                while not over.is_set():
                    if message := news.get_message(timeout=0.2):
                        _, _, old, _, new = _text(message["data"]).split()
                        record.tell("switch", old=int(old), new=int(new))
            except redis.RedisError:
                time.sleep(0.05)

    def named(self) -> int | None:
        """The port of the primary, as this one says."""
        try:
            address = self.client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER)
        except redis.RedisError:
            return None
        return int(address[1]) if address else None


class Sentinels(Target):
    def __init__(self, tmp: Path, record: Record) -> None:
        folder = tmp / "redis"
        folder.mkdir()
        self._record = record
        primary = Node(folder, "node-0")
        self.nodes = [primary, Node(folder, "node-1", primary.port)]
        self.watchers = [Watcher(folder, number, primary.port) for number in range(3)]
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in self.watchers)
        self.dsns = [f"redis+sentinel://{hosts}/{MASTER}"]
        for watcher in self.watchers:
            until("the sentinels know each other and the replica", lambda: self._knows_all(watcher))
        self._await_whole()
        self._over = threading.Event()
        for watcher in self.watchers:
            threading.Thread(target=watcher.listen, args=(record, self._over), daemon=True).start()

    @staticmethod
    def _knows_all(watcher: Watcher) -> bool:
        try:
            answer = watcher.client.execute_command("SENTINEL MASTER", MASTER)
        except redis.RedisError:
            return False
        # A list of names and values, or a dict, by the version of the library.
        known = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2]))
        known = {_text(key): _text(value) for key, value in known.items()}
        return known.get("num-other-sentinels") == "2" and known.get("num-slaves") == "1"

    def primary(self) -> Node:
        """The server that all sentinels name."""
        found: list[Node] = []

        def agree() -> bool:
            ports = {watcher.named() for watcher in self.watchers}
            found[:] = [node for node in self.nodes if ports == {node.port}]
            return bool(found)

        until("the sentinels agree", agree)
        return found[0]

    def servers(self) -> list[redis.Redis]:
        return [self.primary().control]

    def hosts(self) -> list[stand.Redis]:
        return list(self.nodes)

    def pids(self) -> list[int]:
        return [thing.process.pid for thing in (*self.nodes, *self.watchers)]

    def stop(self) -> None:
        self._over.set()
        for watcher in self.watchers:
            stand.stop(watcher.process)
        for node in self.nodes:
            node.stop()

    def _other(self, node: Node) -> Node:
        return self.nodes[1 - self.nodes.index(node)]

    def _await_whole(self) -> None:
        """One primary, and the other one its replica, in sync."""
        def whole() -> bool:
            try:
                info = self.primary().control.info("replication")
                return info["role"] == "master" and info.get("slave0", {}).get("state") == "online"
            except redis.RedisError:
                return False

        until("the replica is in sync", whole)

    def _fail_over(self, how: str, strike, mend) -> None:
        """A fail-over: an outage until all sentinels name another primary. Who speaks to the former one until then, or
        when it has come back, follows from when the sentinels told (history.py)."""
        old = self.primary()
        with self._record.fault("no_replica"):
            with self._record.fault("failover", how=how):
                strike(old)
                until("another primary", lambda: self._names_other(old))
            mend(old)
            self._await_whole()

    def _names_other(self, old: Node) -> bool:
        other = self._other(old)
        try:
            return (all(watcher.named() == other.port for watcher in self.watchers)
                    and other.control.info("replication")["role"] == "master")
        except redis.RedisError:
            return False

    def do_primary_kill(self, _lasts: float, _rng: random.Random) -> None:
        self._fail_over("SIGKILL", lambda old: (old.process.kill(), old.process.wait()),
                        lambda old: old.restart(self._other(old).port))

    def do_primary_stop(self, _lasts: float, _rng: random.Random) -> None:
        self._fail_over("SIGSTOP", lambda old: os.kill(old.process.pid, signal.SIGSTOP),
                        lambda old: os.kill(old.process.pid, signal.SIGCONT))

    def do_fail_over(self, _lasts: float, _rng: random.Random) -> None:
        def command(_old: Node) -> None:
            def begun() -> bool:
                try:
                    return bool(self.watchers[0].client.execute_command("SENTINEL FAILOVER", MASTER))
                except redis.RedisError:
                    return False

            until("a fail-over begins", begun)

        self._fail_over("SENTINEL FAILOVER", command, lambda _old: None)

    def do_replica_kill(self, _lasts: float, _rng: random.Random) -> None:
        with self._record.fault("replica_kill"), self._record.fault("no_replica"):
            primary = self.primary()
            self._other(primary).restart(primary.port)
            self._await_whole()

    def do_sentinel_kill(self, lasts: float, rng: random.Random) -> None:
        with self._record.fault("sentinel_kill"):
            watcher = rng.choice(self.watchers)
            watcher.process.kill()
            watcher.process.wait()
            time.sleep(lasts)
            watcher.start()
            until("the sentinel is back", lambda: watcher.named() is not None)

    def do_sentinel_stop(self, lasts: float, rng: random.Random) -> None:
        with self._record.fault("sentinel_stop"):
            watcher = rng.choice(self.watchers)
            os.kill(watcher.process.pid, signal.SIGSTOP)
            time.sleep(lasts)
            os.kill(watcher.process.pid, signal.SIGCONT)
            until("the sentinel is back", lambda: watcher.named() is not None)


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
