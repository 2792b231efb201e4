"""The runner's own history: what it did to whom, and when. The same clock and form as the processes' histories."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Iterator


def now() -> int:
    """PHP's hrtime(), in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Record:
    """Written by several threads."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / "runner.jsonl").open("a", buffering=1)
        self._lock = threading.Lock()

    def tell(self, event: str, at: int | None = None, **more) -> None:
        with self._lock:
            self._file.write(json.dumps({"t": at or now(), "e": event, **more}) + "\n")

    @contextlib.contextmanager
    def fault(self, kind: str, **more) -> Iterator[dict]:
        """A fault from before it begins until the server is well again. What is put into it is told, too."""
        begin = now()
        yield more
        self.tell("fault", at=begin, kind=kind, end=now(), **more)
