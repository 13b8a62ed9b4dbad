"""Replies come in whatever pieces the network makes of them, or do not come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from mailhub.relays.wire import LONGEST_REPLY, Raw, Wire
from tests.relays.contract import run


class Transport(asyncio.Transport):
    """Takes what is written and sends nothing."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)


def on_a_wire(work: Callable[[Wire, Transport], Awaitable[object]]) -> None:
    async def with_wire() -> None:
        wire, transport = Wire(asyncio.get_running_loop()), Transport()
        wire.connection_made(transport)
        await work(wire, transport)
        wire.connection_lost(None)

    run(with_wire)


LINES = st.lists(st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=20), min_size=1, max_size=4)
REPLIES = st.lists(st.tuples(st.integers(200, 599).filter(lambda code: code != 421), LINES), min_size=1, max_size=6)


def on_the_wire(replies: Sequence[tuple[int, list[str]]], end: str) -> bytes:
    return "".join(
        f"{code}{'-' if place < len(lines) - 1 else ' '}{line}{end}" for code, lines in replies for place, line in enumerate(lines)
    ).encode()


@effort(max_examples=100, deadline=None)
@given(REPLIES, st.data(), st.sampled_from(["\r\n", "\n"]))
def test_replies_are_the_same_in_whatever_pieces_they_come(replies: list[tuple[int, list[str]]], data: st.DataObject, end: str) -> None:
    stream = on_the_wire(replies, end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    async def talk(wire: Wire, transport: Transport) -> None:
        waiting = asyncio.ensure_future(wire.expect(len(replies), 5))
        await asyncio.sleep(0)
        for piece in pieces:
            wire.data_received(piece)
        found = await waiting
        assert [(code, [line.rstrip(b"\r").decode() for line in lines]) for code, lines in found] == replies
        assert wire.alive

    on_a_wire(talk)


def test_replies_that_came_before_they_were_awaited_are_kept() -> None:
    async def talk(wire: Wire, transport: Transport) -> None:
        wire.data_received(b"250 one\r\n250 two\r\n")
        assert not wire.alive  # nobody had asked
        assert [code for code, _lines in await wire.expect(2, 5)] == [250, 250]
        assert wire.alive

    on_a_wire(talk)


def test_421_ends_the_waiting_for_what_will_not_come() -> None:
    async def talk(wire: Wire, transport: Transport) -> None:
        waiting = asyncio.ensure_future(wire.expect(3, 60))
        await asyncio.sleep(0)
        wire.data_received(b"250 fine\r\n421 bye\r\n")
        assert [code for code, _lines in await waiting] == [250, 421]

    on_a_wire(talk)


@pytest.mark.parametrize(
    "stream",
    [
        b"hello\r\n",
        b"\r\n",
        b"25 short\r\n",
        b"25x letters\r\n",
        b"250_what\r\n",
        b"150 too low\r\n",
        b"699 too high\r\n",
        b"\x00\x00\x00\r\n",
        "２５０ wide\r\n".encode(),
        b"250-first\r\nsecond\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_what_is_no_reply_ends_the_connection(stream: bytes) -> None:
    async def talk(wire: Wire, transport: Transport) -> None:
        waiting = asyncio.ensure_future(wire.expect(1, 60))
        await asyncio.sleep(0)
        wire.data_received(stream)
        assert await waiting == []
        assert wire.failure
        assert transport.aborted

    on_a_wire(talk)


@pytest.mark.parametrize("piece", [b"250-and on\r\n", b"x", b"250 line without an end "], ids=["lines", "letters", "words"])
def test_a_reply_that_does_not_end_is_cut_off_and_not_kept(piece: bytes) -> None:
    async def talk(wire: Wire, transport: Transport) -> None:
        for _ in range(2 * LONGEST_REPLY // len(piece)):
            wire.data_received(piece)
            if wire.failure:
                break
        assert transport.aborted
        assert await wire.expect(1, 5) == []

    on_a_wire(talk)


def test_replies_without_end_that_nobody_asked_for_are_cut_off() -> None:
    async def talk(wire: Wire, transport: Transport) -> None:
        wire.data_received(b"250 again\r\n" * 1000)
        assert transport.aborted

    on_a_wire(talk)


def test_what_is_still_to_be_written_when_the_connection_ends_is_known_to_be_unsent() -> None:
    def ending(writing: bool, end: Callable[[Wire], None]) -> bool:
        found: list[bool] = []

        async def talk(wire: Wire, transport: Transport) -> None:
            assert transport.limits == (1, 0)
            wire.pause_writing()
            if not writing:
                wire.resume_writing()
            end(wire)
            found.append(wire.unsent)

        on_a_wire(talk)
        return found[0]

    ends: list[Callable[[Wire], None]] = [
        lambda wire: wire.connection_lost(ConnectionResetError("reset")),
        lambda wire: wire.eof_received(),
        lambda wire: wire.fail("late"),
    ]
    for end in ends:
        assert ending(True, end)
        assert not ending(False, end)


def test_the_time_for_the_last_reply_begins_when_the_last_byte_has_left() -> None:
    async def talk(wire: Wire, transport: Transport) -> None:
        wire.pause_writing()
        waiting = asyncio.ensure_future(wire.expect(1, 60, once_written=0.01))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        wire.resume_writing()
        found: Sequence[Raw] = await waiting
        assert found == []
        assert wire.failure == "No answer in time."
        assert not wire.unsent

    on_a_wire(talk)


def test_a_short_wait_after_a_long_one_is_not_lengthened_by_it() -> None:
    async def talk(wire: Wire, transport: Transport) -> None:
        waiting = asyncio.ensure_future(wire.expect(1, 600))
        await asyncio.sleep(0)
        wire.data_received(b"250 fine\r\n")
        assert len(await waiting) == 1
        assert await wire.expect(1, 0.01) == []
        assert wire.failure == "No answer in time."

    on_a_wire(talk)


def test_a_long_wait_after_a_short_one_is_not_cut_by_it() -> None:
    async def talk(wire: Wire, transport: Transport) -> None:
        waiting = asyncio.ensure_future(wire.expect(1, 0.02))
        await asyncio.sleep(0)
        wire.data_received(b"250 fine\r\n")
        await waiting
        waiting = asyncio.ensure_future(wire.expect(1, 60))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        wire.data_received(b"250 late\r\n")
        assert len(await waiting) == 1

    on_a_wire(talk)
