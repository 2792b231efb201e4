"""An NFSv4.1 proxy that makes the server look like one that does not call back when a lock comes free (as AWS EFS).

In the server's replies to OPEN it clears the flag OPEN4_RESULT_MAY_NOTIFY_LOCK; all else passes unchanged.
Arguments: the addresses to listen on and to connect to, host:port each.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading

RECORD_LENGTH = 0x7FFFFFFF  # the highest bit marks the last fragment of an RPC record
RPC_REPLY = 1
OP_OPEN, OP_PUTFH, OP_SEQUENCE = 18, 22, 53
MAY_NOTIFY_LOCK = 0x20


def clear_notification(reply: bytearray) -> None:
    """RFC 8881: xid, type, status, verifier, status, then the compound: status, tag, number of results, results."""

    def word(at: int) -> int:
        return struct.unpack_from(">I", reply, at)[0]

    def behind_opaque(at: int) -> int:
        return at + 4 + (word(at) + 3 & ~3)

    if (word(4), word(8)) != (RPC_REPLY, 0):
        return
    at = behind_opaque(16)
    if word(at) != 0:
        return
    at = behind_opaque(at + 8)
    results = word(at)
    at += 4
    for _ in range(results):
        operation, status = word(at), word(at + 4)
        at += 8
        if status:
            return
        if operation == OP_SEQUENCE:
            at += 36
        elif operation == OP_OPEN:
            flags = at + 16 + 20  # behind the state id and the change information
            reply[flags + 3] &= ~MAY_NOTIFY_LOCK
            return
        elif operation != OP_PUTFH:
            return


def receive(source: socket.socket, length: int) -> bytearray:
    data = bytearray()
    while len(data) < length:
        part = source.recv(length - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def forward(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(1 << 18):
        target.sendall(data)


def forward_replies(source: socket.socket, target: socket.socket) -> None:
    while True:
        head = receive(source, 4)
        record = receive(source, struct.unpack(">I", head)[0] & RECORD_LENGTH)
        try:
            clear_notification(record)
        except struct.error:
            pass  # shorter than any reply to OPEN
        target.sendall(head + record)


def until_closed(pump, source: socket.socket, target: socket.socket) -> None:
    try:
        pump(source, target)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def address(text: str) -> tuple[str, int]:
    host, port = text.split(":")
    return host, int(port)


def main() -> None:
    listener = socket.create_server(address(sys.argv[1]))
    print("listening", flush=True)
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(address(sys.argv[2]))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=until_closed, args=(forward, client, server), daemon=True).start()
        threading.Thread(target=until_closed, args=(forward_replies, server, client), daemon=True).start()


main()
