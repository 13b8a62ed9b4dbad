"""The client's side of one SMTP connection (RFC 5321): commands out, replies in. Knows no relay, no tables and no mail."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import cast

from django.utils.translation import gettext as _

# All lines of one reply. RFC 5321 knows 512 octets a line; what is longer than this is no reply.
LONGEST_REPLY = 16 * 1024

#: a reply's code, and its lines without it
Raw = tuple[int, list[bytes]]


class Wire(asyncio.Protocol):
    """Whoever uses it writes, and then awaits as many replies as the commands ask for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        #: why the connection is of no more use; "" while it is
        self.failure = ""
        #: it ended while some of what was written had not left this machine
        self.unsent = False
        #: replies that nobody awaited yet
        self.replies: list[Raw] = []
        self._closed = loop.create_future()
        # An unfinished line, the lines of an unfinished reply, and their size.
        self._rest = b""
        self._lines: list[bytes] = []
        self._size = 0
        # Who awaits replies, how many, and until when.
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = 0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        # Something written is still on its way out; what the deadline becomes once it has left.
        self._writing = False
        self._then_within: float | None = None
        self._deaf = False

    @property
    def alive(self) -> bool:
        """Nothing has come that nobody asked for, not even the end."""
        return not self.failure and not self.replies and not self._rest and not self._lines

    # -- used by its owner

    def write(self, data: bytes) -> None:
        if self.transport and not self.failure:
            self.transport.write(data)

    async def expect(self, count: int, seconds: float, *, once_written: float | None = None) -> Sequence[Raw]:
        """The next `count` replies, fewer when the server says 421 or the connection fails (`failure` tells how).

        All have to be there `seconds` from now; with `once_written`, so many seconds from when the last byte written has left."""
        if len(self.replies) < count and not self.failure:
            self._wanted = count
            self._waiter = self.loop.create_future()
            if once_written is not None and self._writing:
                self._then_within = once_written
            self._within(seconds if once_written is None or self._writing else once_written)
            try:
                await self._waiter
            finally:
                self._waiter = self._then_within = None
        found, self.replies = self.replies[:count], self.replies[count:]
        return found

    async def ask(self, command: bytes, seconds: float) -> Raw | None:
        """One command and its reply, or None when none comes."""
        self.write(command + b"\r\n")
        replies = await self.expect(1, seconds)
        return replies[0] if replies else None

    async def start_tls(self, context: ssl.SSLContext, name: str, seconds: float) -> None:
        """Speak TLS from here on. What came in plain text and was not asked for is forgotten: it might be anybody's (CVE-2011-0411).

        Raises OSError, of which ssl.SSLError is a kind; the connection is of no more use then."""
        self._deaf = True
        self.replies, self._lines, self._rest, self._size = [], [], b"", 0
        plain = self.transport
        if plain is None or self.failure:
            raise ConnectionResetError(self.failure)
        try:
            transport = await self.loop.start_tls(plain, self, context, server_hostname=name, ssl_handshake_timeout=seconds)
        except BaseException:
            # asyncio tells nobody that this connection is lost.
            plain.abort()
            self.connection_lost(None)
            raise
        if transport is None or self.failure:
            raise ConnectionResetError(self.failure)
        self._deaf = False
        self.connection_made(transport)

    def fail(self, why: str) -> None:
        """Of no more use, for this reason; whoever awaits replies gets those that came."""
        if not self.failure:
            self.failure = why
            self.unsent = self._writing
        if self.transport:
            self.transport.abort()
        self._wake()

    async def close(self) -> None:
        """Let go of the socket, and wait until it is gone."""
        self.fail(_("We closed the connection."))
        if self.transport:
            await self._closed

    # -- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # We want to hear as soon as anything is left unwritten, so as to know whether a mail has left whole.
        self.transport.set_write_buffer_limits(high=1, low=0)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if not line[:3].isdigit() or line[3:4] not in b" -\r" or not b"2" <= line[:1] <= b"5":
                self.fail(_("The server answered what is no SMTP reply: %(line)s") % {"line": ascii(line[:60])[1:]})
                return
            self._lines.append(line[4:])
            self._size += len(line)
            if line[3:4] != b"-":
                code = int(line[:3])
                self.replies.append((code, self._lines))
                self._lines, self._size = [], 0
                if code == 421 or len(self.replies) >= self._wanted:
                    self._wake()
        if self._size + len(self._rest) > LONGEST_REPLY or len(self.replies) > 100:
            self.fail(_("The server's reply did not end."))

    def eof_received(self) -> None:
        self.fail(_("The server closed the connection."))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.failure:
            self.unsent = self._writing
            self.failure = _("The connection broke: %(error)s") % {"error": error} if error else _("The server closed the connection.")
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._closed.done():
            self._closed.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        self._writing = True

    def resume_writing(self) -> None:
        self._writing = False
        if self._waiter and self._then_within is not None:
            self._within(self._then_within)

    # -- time

    def _within(self, seconds: float) -> None:
        """One timer serves many waits: it is only set anew when a deadline comes before it."""
        self._deadline = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer:
                self._timer.cancel()
            self._timer = self.loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self.loop.time() >= self._deadline:
            self.fail(_("No answer in time."))
        else:
            self._timer = self.loop.call_at(self._deadline, self._look)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
