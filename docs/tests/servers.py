"""What the pages' hosts have running: real servers, and some that do nothing but go wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from stand.servers import prefix, stop, wait_for


def until(what: str, process: subprocess.Popen, happened: Callable[[], bool]) -> None:
    """Waits for it for 10 s, while the process lives."""

    def attempt() -> None:
        if not happened():
            raise OSError

    wait_for(what, process, attempt)


class Redis:
    """A redis-server on the addresses and ports that the pages name."""

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir()
        with (directory / "log").open("w") as log:
            self.process = subprocess.Popen(
                [*prefix(), "redis-server", *options, "--dir", str(directory), "--daemonize", "no",
                 "--protected-mode", "no", "--save", "", "--appendonly", "no"],
                stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"TZ": "UTC"})

    def ready(self, *cli: str) -> Redis:
        until("redis-server", self.process, lambda: b"PONG" in redis_cli(*cli, "PING"))
        return self

    def stop(self) -> None:
        stop(self.process)


def redis_cli(*cli: str) -> bytes:
    """What redis-cli answers."""
    return subprocess.run(["redis-cli", *cli], capture_output=True, check=False).stdout


def configured(text: str, directory: Path) -> str:
    """What a redis-server says that is started with this configuration."""
    conf, log = directory / "page.conf", directory / "page.log"
    conf.write_text(f"{text}\ndir {directory}\n")
    with log.open("w") as file:
        server = subprocess.Popen([*prefix(), "redis-server", str(conf)], stdout=file, stderr=file)
    deadline = time.monotonic() + 10
    while "Ready to accept" not in log.read_text() and server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    stop(server)
    return log.read_text()


class Process:
    """A program that is there until the page ends."""

    def __init__(self, command: list[str], environment: dict[str, str], ready: Callable[[], bool]) -> None:
        self._process = subprocess.Popen([*prefix(), *command], env=environment, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
        until(command[0], self._process, ready)

    def stop(self) -> None:
        stop(self._process)


class Sockets:
    """One that is closed when the page ends."""

    def __init__(self, one: socket.socket) -> None:
        self._socket = one

    def stop(self) -> None:
        self._socket.close()


class Answering(Sockets):
    """A server that says the same to everybody, whatever they want, and hangs up."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(socket.create_server(("10.0.0.9", 6379)))
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._answer_to(client)

    def _answer_to(self, client: socket.socket) -> None:
        with client:
            client.recv(4096)
            client.sendall(self._answer)

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        super().stop()
        self._thread.join()


class Scriptless(Answering):
    """Hands on to the server what it is told, and its answers; scripts it answers itself, with this."""

    def _answer_to(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", 6379))
        threading.Thread(target=self._hand_on, args=(client, server), daemon=True).start()

    def _hand_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            while asked := client.recv(1 << 16):
                if b"\r\nEVAL" in asked:
                    client.sendall(self._answer)
                else:
                    server.sendall(asked)
                    client.sendall(server.recv(1 << 16))


class Far(Answering):
    """Hands on what it is told, and the answers, each after 0.1 s."""

    def __init__(self) -> None:
        super().__init__(b"")

    def _answer_to(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", 6379))
        for ends in ((client, server), (server, client)):
            threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(1 << 16):
            time.sleep(0.1)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
