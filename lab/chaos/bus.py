"""The network over which the servers of a cluster speak to each other, and which can be cut between them.

Each server announces a port of ours in the place of its own, and comes to the others' ports from an address of its own:
so it is known who speaks to whom. What is cut stands still, and what was under way arrives when that has ended, as on a
network.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Iterator


def address(number: int) -> str:
    """From which a server comes to the others."""
    return f"127.0.0.{10 + number}"


class Bus:
    def __init__(self, targets: list[int]) -> None:
        """In front of the servers that will listen on these ports."""
        self._loop = asyncio.new_event_loop()
        self._apart: set[int] = set()
        self._whole = asyncio.Event()
        self._whole.set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.ports = [self._run(self._listen(number, port)) for number, port in enumerate(targets)]

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self, number: int, target: int) -> int:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            source = writer.get_extra_info("peername")[0]
            pair = {number, int(source.rsplit(".", 1)[1]) - 10}
            try:
                await self._passes(pair)
                there, back = await asyncio.open_connection("127.0.0.1", target)
                await asyncio.gather(self._carry(pair, reader, back), self._carry(pair, there, writer))
            except (OSError, asyncio.CancelledError):
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        return server.sockets[0].getsockname()[1]

    async def _passes(self, pair: set[int]) -> None:
        while len(pair & self._apart) == 1:
            await self._whole.wait()

    async def _carry(self, pair: set[int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._passes(pair)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    @contextlib.contextmanager
    def parted(self, apart: set[int]) -> Iterator[None]:
        """These servers from all the others."""
        self._run(self._part(apart))
        yield
        self._run(self._part(set()))

    async def _part(self, apart: set[int]) -> None:
        self._apart = apart
        if apart:
            self._whole.clear()
        else:
            self._whole.set()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def stop(self) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
