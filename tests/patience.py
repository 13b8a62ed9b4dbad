"""Time-outs that pass at once when nothing more is going to be said.

A test that shortens a time-out fails where the machine is busy: what does answer comes too late as well. So time-outs stay long, and the
server that falls silent puts the client's clock forward, at that very moment.

    server.falls_silent = lambda share: clock.forward(TIMEOUT, share)
    with clock.ruling():
        ...
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """The time of event loops, in seconds."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.ahead = 0.0

    @contextmanager
    def ruling(self) -> Iterator[None]:
        """The loop that runs has this time."""
        loop = asyncio.get_running_loop()
        loop.time = lambda: time.monotonic() + self.ahead  # type: ignore[method-assign]
        self.loop = loop
        try:
            yield
        finally:
            self.loop = None

    def forward(self, patience: float, share: float = 1) -> None:
        """By this share of the patience; from any thread. It happens once the loop waits for something no longer than that."""
        if loop := self.loop:
            loop.call_soon_threadsafe(self._forward, loop, patience, share)

    def _forward(self, loop: asyncio.AbstractEventLoop, patience: float, share: float) -> None:
        end = loop.time() + patience
        if any(timer.when() <= end for timer in loop._scheduled if not timer.cancelled()):
            self.ahead += patience * share
        else:
            loop.call_later(0.001, self._forward, loop, patience, share)
