"""A Redis server, the network in front of it, and what can be done to both; and what all topologies share."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Iterator

import redis
from stand import servers as stand

from record import Record


# What the proxy can do while a fault lasts, and what it does once; see lab/fault-proxy/README.md.
LASTING = ["delay 50", "delay 200", "delay 150 up", "delay 150 down", "drip 2 down", "hold", "hold up", "hold down",
           "black-hole", "black-hole up", "black-hole down", "refuse"]
ONCE = ["cut", "reset", "half-open client", "half-open server", "cut-after 100 up", "cut-after 10 down",
        "reset-after 200 up", "reset-after 5 down", "drop-request", "drop-reply", "drop-reply", "drop-request"]


# Longest that it takes servers to be well again: a sentinel needs ten seconds to believe that a primary which has come
# back is to be a replica.
PATIENCE = 45


# How far from the machine's time a server's clock is set, in seconds.
CLOCK_STEP = 10.0


def until(what: str, condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"still not so: {what}")
        time.sleep(0.02)


class Proxy:
    """lab/fault-proxy in front of a port."""

    def __init__(self, binary: Path, port: int) -> None:
        self.process = subprocess.Popen([*stand.prefix(), str(binary), "--to", f"127.0.0.1:{port}"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def do(self, command: str) -> None:
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        # "fired" may tell of an earlier one.
        while (line := self.process.stdout.readline().strip()) != command:
            if line != "fired":
                raise RuntimeError(f"fault-proxy: {line or 'has ended'}")

    @contextlib.contextmanager
    def fault(self, command: str) -> Iterator[None]:
        """For as long as that lasts."""
        self.do(command)
        yield
        self.do("pass")

    def stop(self) -> None:
        self.process.stdin.close()
        stand.stop(self.process)


# Of a server with a grace period, when that is over: without expiry.
BORN = "cluster_lock:{}:born"


class Target:
    """What is hit: its faults are the methods do_KIND(lasts, rng), which return when it is well again."""

    # Where the locks are: for each side of the network, which may see other servers than the other sides.
    dsns: list[str]
    _record: Record

    def servers(self) -> list[redis.Redis]:
        """To all servers that keep locks now."""
        raise NotImplementedError

    def hosts(self) -> list[stand.Redis]:
        """All of them, whether they keep locks now or may do so later."""
        raise NotImplementedError

    def about(self, _server: redis.Redis) -> dict:
        """What is told of a fault that hits this server alone."""
        return {}

    def apply(self, kind: str, lasts: float, pick: int) -> None:
        getattr(self, f"do_{kind}")(lasts, random.Random(pick))

    def do_client_kill(self, _lasts: float, rng: random.Random) -> None:
        server = rng.choice(self.servers())
        with self._record.fault("client_kill", **self.about(server)) as told:
            clients = [client for client in server.client_list() if client["name"].startswith("cluster_lock")]
            if clients:
                victim = rng.choice(clients)
                told["cmd"] = victim["cmd"]
                server.client_kill_filter(_id=victim["id"])

    def do_client_kill_all(self, _lasts: float, rng: random.Random) -> None:
        server = rng.choice(self.servers())
        with self._record.fault("client_kill_all", **self.about(server)) as told:
            told["killed"] = server.client_kill_filter(_type="normal", skipme=True)

    def do_script_flush(self, _lasts: float, _rng: random.Random) -> None:
        with self._record.fault("script_flush"):
            for server in self.servers():
                server.script_flush()

    def do_flush(self, _lasts: float, rng: random.Random) -> None:
        server = rng.choice(self.servers())
        with self._record.fault("flush", **self.about(server)):
            server.flushall()

    def do_clock_step(self, _lasts: float, rng: random.Random) -> None:
        """One that differs from the others' by what it was set to before."""
        host, ahead = rng.choice(self.hosts()), rng.uniform(-CLOCK_STEP, CLOCK_STEP)
        with self._record.fault("clock_step", port=host.port, ahead=round(ahead, 3)):
            host.set_clock(ahead)

    def keys(self) -> dict[str, int]:
        """All keys with their remaining life in ms, the longest of all servers; -1: for ever."""
        lives: dict[str, int] = {}
        for server in self.servers():
            keys = [key for key in server.scan_iter(count=1000) if key.decode() != BORN]
            pipeline = server.pipeline(transaction=False)
            for key in keys:
                pipeline.pttl(key)
            for key, life in zip((key.decode() for key in keys), pipeline.execute(), strict=True):
                if life != -2 and lives.get(key) != -1:
                    lives[key] = life if life == -1 else max(life, lives.get(key, 0))
        return lives

    def left(self) -> dict[str, int]:
        """The same, when everybody has ended."""
        return self.keys()

    def pids(self) -> list[int]:
        """Of the processes that belong to it."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends them all."""
        raise NotImplementedError


class Host(stand.Redis):
    """A server that survives: with `aof` even SIGKILL with all that it has answered; else an orderly end."""

    def __init__(self, tmp: Path, name: str, aof: bool, options: tuple[str, ...] = ()) -> None:
        self.data = tmp / name
        self.data.mkdir(parents=True)
        self._aof = aof
        super().__init__(self.data, name, options=(
            *(("--save", "", "--appendonly", "yes", "--appendfsync", "always") if aof else stand.NO_PERSISTENCE),
            *options))
        self.control = redis.Redis(unix_socket_path=str(self.path), socket_timeout=10)

    def start(self) -> None:
        super().start()
        # It loads its data first.
        for _ in range(500):
            try:
                with redis.Redis(unix_socket_path=str(self.path), socket_timeout=10) as client:
                    client.ping()
                return
            except redis.RedisError:
                time.sleep(0.01)
        raise RuntimeError("redis-server does not answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> str:
        """Ends, in the way in which it keeps its data; which is told."""
        if self._aof:
            self.kill()
            return "SIGKILL"
        self.control.shutdown(save=True)
        self.process.wait()
        return "SHUTDOWN SAVE"

    def start_empty(self) -> None:
        for path in (self.data / "dump.rdb", *(self.data / "appendonlydir").glob("*")):
            path.unlink(missing_ok=True)
        self.start()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)
        self.control.ping()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self.control.config_set("maxmemory", 1)
        yield
        self.control.config_set("maxmemory", 0)


class Server(Target):
    """One server."""

    def __init__(self, tmp: Path, record: Record, aof: bool, proxy: Path) -> None:
        self._record = record
        self.host = Host(tmp, "redis", aof)
        self.proxy = Proxy(proxy, self.host.port)
        self.dsns = [f"redis://127.0.0.1:{self.proxy.port}"]

    def servers(self) -> list[redis.Redis]:
        return [self.host.control]

    def hosts(self) -> list[stand.Redis]:
        return [self.host]

    def stop(self) -> None:
        self.proxy.stop()
        self.host.stop()

    def do_restart_empty(self, _lasts: float, _rng: random.Random) -> None:
        with self._record.fault("restart_empty"):
            self.host.kill()
            self.host.start_empty()

    def do_restart_with_data(self, _lasts: float, _rng: random.Random) -> None:
        with self._record.fault("restart_with_data") as told:
            told["how"] = self.host.end()
            self.host.start()

    def do_server_stop(self, lasts: float, _rng: random.Random) -> None:
        with self._record.fault("server_stop"), self.host.stopped():
            time.sleep(lasts)

    def do_out_of_memory(self, lasts: float, _rng: random.Random) -> None:
        with self._record.fault("out_of_memory"), self.host.full():
            time.sleep(lasts)

    def do_network(self, lasts: float, rng: random.Random) -> None:
        command = rng.choice(LASTING)
        with self._record.fault("network", how=command), self.proxy.fault(command):
            time.sleep(lasts)

    def do_network_once(self, _lasts: float, rng: random.Random) -> None:
        command = rng.choice(ONCE)
        with self._record.fault("network_once", how=command):
            self.proxy.do(command)
            # What is prepared happens with the next bytes.
            time.sleep(0.1)

    def pids(self) -> list[int]:
        return [self.host.process.pid, self.proxy.process.pid]
