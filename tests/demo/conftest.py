from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mailhub.demo import receiver
from mailhub.demo.receiver import Books


class Listening:
    """A receiver that answers in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=[self.listen()])
        self.thread.start()
        assert self.ready.wait(60)

    async def listen(self) -> None:
        self.over = asyncio.Event()
        with closing(Books(self.path)) as books:
            server = await receiver.listen(0, books)
            self.port = server.sockets[0].getsockname()[1]
            self.ready.set()
            await self.over.wait()
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(60)
        self.loop.close()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    listening = Listening(tmp_path / "receiver.sqlite3")
    yield listening
    listening.stop()


@pytest.fixture
def books(listening: Listening) -> Iterator[Books]:
    """The receiver's books, read beside it."""
    with closing(Books(listening.path)) as books:
        yield books
