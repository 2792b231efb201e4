"""A FastCGI client for one connection that stays open; requests are sent ahead, so the worker never waits for it."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

BEGIN, END, PARAMS, STDIN, STDOUT, STDERR = 1, 3, 4, 5, 6, 7
KEEP_CONNECTION = 1


def _record(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBHHBB", 1, kind, 1, len(body), 0, 0) + body


def _pair(name: str, value: str) -> bytes:
    def length(n: int) -> bytes:
        return bytes([n]) if n < 128 else struct.pack(">I", n | 1 << 31)

    return length(len(name)) + length(len(value)) + name.encode() + value.encode()


def _request(script: Path, query: str, flags: int, uri: str | None = None) -> bytes:
    params = b"".join(_pair(k, v) for k, v in {
        "SCRIPT_FILENAME": str(script), "SCRIPT_NAME": f"/{script.name}", "REQUEST_METHOD": "GET",
        "REQUEST_URI": uri or f"/{script.name}", "DOCUMENT_ROOT": str(script.parent), "SERVER_PROTOCOL": "HTTP/1.1",
        "GATEWAY_INTERFACE": "CGI/1.1", "REMOTE_ADDR": "127.0.0.1", "SERVER_NAME": "bench", "QUERY_STRING": query,
    }.items())
    begin = struct.pack(">HB5x", 1, flags)
    return _record(BEGIN, begin) + _record(PARAMS, params) + _record(PARAMS, b"") + _record(STDIN, b"")


def ask_once(path: Path, script: Path, query: str, timeout: float, uri: str | None = None) -> bool:
    """One request over a connection of its own. True when php-fpm has answered it to its end."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        data = b""
        try:
            connection.connect(str(path))
            connection.sendall(_request(script, query, 0, uri))
            while chunk := connection.recv(1 << 16):
                data += chunk
        except OSError:
            return False
    offset = 0
    while len(data) >= offset + 8:
        _, kind, _, length, padding, _ = struct.unpack_from(">BBHHBB", data, offset)
        if kind == END:
            return True
        offset += 8 + length + padding
    return False


class Client:
    """Asks one page of one php-fpm over and over."""

    def __init__(self, path: Path, script: Path) -> None:
        self._request = _request(script, "", KEEP_CONNECTION)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(path))
        self._response = self._first()

    def _first(self) -> int:
        """The length of one response, after a look at what it says."""
        self._socket.sendall(self._request)
        data, body, offset = b"", b"", 0
        while True:
            while len(data) < offset + 8:
                data += self._more()
            _, kind, _, length, padding, _ = struct.unpack_from(">BBHHBB", data, offset)
            while len(data) < offset + 8 + length + padding:
                data += self._more()
            content = data[offset + 8:offset + 8 + length]
            offset += 8 + length + padding
            if kind == STDERR:
                raise RuntimeError(f"page: {content.decode(errors='replace')}")
            if kind == STDOUT:
                body += content
            if kind == END:
                break
        if b"\r\nStatus: " in b"\r\n" + body or b"error" in body.lower():
            raise RuntimeError(f"page: {body.decode(errors='replace')}")
        return offset

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 20)
        if not data:
            raise RuntimeError("php-fpm closed the connection")
        return data

    def ask(self, requests: int, ahead: int = 32) -> None:
        """So many requests; every response must be as long as the first one."""
        left = requests * self._response
        sent = min(ahead, requests)
        self._socket.sendall(self._request * sent)
        got = 0
        while left > 0:
            n = len(self._more())
            left -= n
            got += n
            # Refilled when half of what is ahead has been answered.
            answered = got // self._response
            if sent < requests and sent - answered <= ahead // 2:
                more = min(ahead - (sent - answered), requests - sent)
                self._socket.sendall(self._request * more)
                sent += more
        if left < 0:
            raise RuntimeError("a response differs from the first one")

    def close(self) -> None:
        self._socket.close()
