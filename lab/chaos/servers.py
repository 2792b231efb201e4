"""The Redis server of a run, the network in front of it, and what can be done to both."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import redis
from stand import servers as stand

from record import Record


# What the proxy can do while a fault lasts, and what it does once; see lab/fault-proxy/README.md.
LASTING = ["delay 50", "delay 200", "delay 150 up", "delay 150 down", "drip 2 down", "hold", "hold up", "hold down",
           "black-hole", "black-hole up", "black-hole down", "refuse"]
ONCE = ["cut", "reset", "half-open client", "half-open server", "cut-after 100 up", "cut-after 10 down",
        "reset-after 200 up", "reset-after 5 down", "drop-request", "drop-reply", "drop-reply", "drop-request"]


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

    def stop(self) -> None:
        self.process.stdin.close()
        stand.stop(self.process)


class Target:
    """What is hit: its faults are the methods do_KIND(lasts, rng), which return when it is well again."""

    dsn: str
    _record: Record

    @property
    def control(self) -> redis.Redis:
        """To whoever keeps the locks now."""
        raise NotImplementedError

    def apply(self, kind: str, lasts: float, pick: int) -> None:
        getattr(self, f"do_{kind}")(lasts, random.Random(pick))

    def do_client_kill(self, _lasts: float, rng: random.Random) -> None:
        with self._record.fault("client_kill") as told:
            clients = [client for client in self.control.client_list() if client["name"].startswith("cluster_lock")]
            if clients:
                victim = rng.choice(clients)
                told["cmd"] = victim["cmd"]
                self.control.client_kill_filter(_id=victim["id"])

    def do_client_kill_all(self, _lasts: float, _rng: random.Random) -> None:
        with self._record.fault("client_kill_all") as told:
            told["killed"] = self.control.client_kill_filter(_type="normal", skipme=True)

    def do_script_flush(self, _lasts: float, _rng: random.Random) -> None:
        with self._record.fault("script_flush"):
            self.control.script_flush()

    def do_flush(self, _lasts: float, _rng: random.Random) -> None:
        with self._record.fault("flush"):
            self.control.flushall()

    def keys(self) -> dict[str, int]:
        """All keys with their remaining life in ms; -1: for ever."""
        control = self.control
        keys = list(control.scan_iter(count=1000))
        pipeline = control.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key)
        lives = dict(zip((key.decode() for key in keys), pipeline.execute(), strict=True))
        return {key: life for key, life in lives.items() if life != -2}

    def pids(self) -> list[int]:
        """Of the processes that belong to it."""
        raise NotImplementedError


class Server(Target, stand.Redis):
    """One server. With `aof` it survives even SIGKILL with all that it has answered; else an orderly end."""

    def __init__(self, tmp: Path, record: Record, aof: bool, proxy: Path) -> None:
        self.data = tmp / "redis"
        self.data.mkdir()
        self._record, self._aof = record, aof
        super().__init__(self.data, "redis",
                         options=("--save", "", "--appendonly", "yes", "--appendfsync", "always") if aof
                         else ("--save", "", "--appendonly", "no"))
        self._control = redis.Redis(unix_socket_path=str(self.path), socket_timeout=10)
        self.proxy = Proxy(proxy, self.port)
        self.dsn = f"redis://127.0.0.1:{self.proxy.port}"

    @property
    def control(self) -> redis.Redis:
        return self._control

    def stop(self) -> None:
        self.proxy.stop()
        super().stop()

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

    def do_restart_empty(self, _lasts: float, _rng: random.Random) -> None:
        with self._record.fault("restart_empty"):
            self.process.kill()
            self.process.wait()
            for path in (self.data / "dump.rdb", *(self.data / "appendonlydir").glob("*")):
                path.unlink(missing_ok=True)
            self.start()

    def do_restart_with_data(self, _lasts: float, _rng: random.Random) -> None:
        with self._record.fault("restart_with_data", how="SIGKILL" if self._aof else "SHUTDOWN SAVE"):
            if self._aof:
                self.process.kill()
            else:
                self.control.shutdown(save=True)
            self.process.wait()
            self.start()

    def do_server_stop(self, lasts: float, _rng: random.Random) -> None:
        with self._record.fault("server_stop"):
            os.kill(self.process.pid, signal.SIGSTOP)
            time.sleep(lasts)
            os.kill(self.process.pid, signal.SIGCONT)
            self.control.ping()

    def do_out_of_memory(self, lasts: float, _rng: random.Random) -> None:
        with self._record.fault("out_of_memory"):
            self.control.config_set("maxmemory", 1)
            time.sleep(lasts)
            self.control.config_set("maxmemory", 0)

    def do_network(self, lasts: float, rng: random.Random) -> None:
        command = rng.choice(LASTING)
        with self._record.fault("network", how=command):
            self.proxy.do(command)
            time.sleep(lasts)
            self.proxy.do("pass")

    def do_network_once(self, _lasts: float, rng: random.Random) -> None:
        command = rng.choice(ONCE)
        with self._record.fault("network_once", how=command):
            self.proxy.do(command)
            # What is prepared happens with the next bytes.
            time.sleep(0.1)

    def pids(self) -> list[int]:
        return [self.process.pid, self.proxy.process.pid]
