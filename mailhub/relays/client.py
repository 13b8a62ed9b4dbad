"""The one SMTP client of the project: a connection from its greeting on, and mails handed over on it, one after the other.

It tells what happened; what that means is decided by whoever uses it. Made for throughput: a mail costs two writes and two waits where
the server offers PIPELINING.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from django.utils.translation import gettext as _

from mailhub.relays import replies
from mailhub.relays.base import Envelope, Fault, OutcomeUnknown, Refused, Reply
from mailhub.relays.replies import Phase
from mailhub.relays.wire import Raw, Wire

# RFC 5321 section 4.5.3.2, in seconds. Each is cut to the user's patience where that is shorter.
TIMEOUTS = {Phase.MAIL: 300, Phase.RCPT: 300, Phase.DATA: 120}
BLOCK = 180
#: first digit of the reply that each command hopes for
WANTED = {Phase.MAIL: 2, Phase.RCPT: 2, Phase.DATA: 3}
# A mail that leaves more slowly than this (bytes a second) is taken for stuck.
SLOWEST = 16 * 1024
FAREWELL = 2
# A mail that a socket takes whole, in bytes.
SMALL = 16 * 1024
# Of a mail, after the end of its last line.
END = b".\r\n"

HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
# What cannot be part of a line.
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# What could end the path in a command. A quoted local part may hold some of it.
UNQUOTED = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\s<>]")


class Answered(Exception):
    """The server answered otherwise than hoped for. The mail was not accepted."""

    def __init__(self, reply: Reply, phase: Phase) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.phase = phase


class Lost(Exception):
    """The connection failed before the whole mail had left. It was not accepted."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.reply = Reply(None, "", why[:500])


class Stale(Exception):
    """A connection that was used before took nothing of this mail: servers end them when they like. Another one may do."""


class Client:
    def __init__(self, *, patience: float, final_timeout: float, name: str = "") -> None:
        """`patience`: seconds that the server may take over any reply, and over all of a mail but its last; `final_timeout`: over that
        one; `name`: for EHLO, this machine's where none is given."""
        self.patience = patience
        self.final_timeout = final_timeout
        self.name = name
        self.loop = asyncio.get_running_loop()
        self.wire = Wire(self.loop)
        self.opened_at = self.loop.time()
        #: EHLO keyword -> its parameters
        self.offers: dict[str, str] = {}
        #: of a mail, in bytes; 0: it names none
        self.size_limit = 0
        self.encrypted = False
        #: mails that were begun
        self.count = 0
        #: key of the mail whose commands have left with the mail before; nothing else may come next
        self.announced: int | None = None
        self._next: Envelope | None = None
        # A transaction was begun that must be forgotten before the next.
        self._begun = False
        self._ended = False

    @property
    def alive(self) -> bool:
        """It may be used for another mail."""
        if self._ended:
            return False
        return self.wire.alive if self.announced is None else not self.wire.failure

    # -- getting there

    async def connect(self, sock: socket.socket) -> None:
        """Speak on this connected socket, which is ours from here on."""
        await self.loop.create_connection(lambda: self.wire, sock=sock)

    async def greeting(self) -> Reply:
        """Raises Lost."""
        replies_ = await self.wire.expect(1, self.patience)
        return self._read(replies_[0] if replies_ else None)

    async def hello(self) -> Reply:
        """Introduce ourselves, and learn what the server offers: nothing, where it only knows HELO. Raises Lost."""
        name = self.name or self._own_name()
        raw = await self.wire.ask(f"EHLO {name}".encode(), self.patience)
        if raw and raw[0] in (500, 501, 502, 504, 550):
            raw = await self.wire.ask(f"HELO {name}".encode(), self.patience)
            raw = raw and (raw[0], raw[1][:1])
        reply = self._read(raw)
        self.offers = {}
        for line in raw[1][1:] if raw and raw[0] == 250 else ():
            # "AUTH=LOGIN PLAIN" is how it was written before there was a standard.
            words = line.decode("ascii", "replace").strip().upper().replace("AUTH=", "AUTH ", 1)
            keyword, _space, parameters = words.partition(" ")
            self.offers[keyword] = f"{self.offers.get(keyword, '')} {parameters}".strip()
        limit = self.offers.get("SIZE", "")
        self.size_limit = int(limit) if limit.isdigit() else 0
        return reply

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """From here on in TLS; what the server offered before is forgotten. Raises OSError, of which ssl.SSLError is a kind."""
        self.offers = {}
        await self.wire.start_tls(context, host.rstrip("."), self.patience)
        self.encrypted = True

    async def ask(self, command: str) -> Reply:
        """One command and its reply. Raises Lost."""
        return self._read(await self.wire.ask(command.encode(), self.patience))

    def address(self, which: str) -> str:
        """IP address of the "peername" or the "sockname"."""
        found = self.wire.transport.get_extra_info(which) if self.wire.transport else None
        return str(found[0]) if found else ""

    def _own_name(self) -> str:
        name = socket.gethostname()
        if "." in name and HOST.fullmatch(name):
            return name
        address = self.address("sockname")
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    def _read(self, raw: Raw | None) -> Reply:
        if raw is None:
            raise Lost(self.wire.failure)
        return replies.read(*raw)

    async def quit(self) -> None:
        """Leave politely; never raises."""
        # Once a mail is announced the server may wait for its text, and takes all for that. Without an end it is none.
        if self.alive and self.announced is None:
            await self.wire.ask(b"QUIT", FAREWELL)
        await self.wire.close()

    # -- a mail

    def announce(self, envelope: Envelope) -> None:
        """After the mail that is sent next comes this one: where the server offers PIPELINING, its commands leave with the end of that one
        (RFC 2920 section 3.1), so that a mail costs one wait and not two. Of a mail's text nothing leaves before its own commands are
        answered."""
        self._next = envelope

    async def send(self, envelope: Envelope) -> Reply:
        """Hand one mail over; returns the accepting reply.

        Raises Refused where the server could not take it, or else Answered, Lost, Stale or OutcomeUnknown."""
        following, self._next = self._next, None
        if self.announced not in (None, envelope.message):
            self._ended = True
            raise Stale
        envelope = await self._fit(envelope)
        # Those of a mail that was announced have left.
        commands = self._commands(envelope) if self.announced is None else ()
        data = envelope.data + END if envelope.dotless else stuffed(envelope.data)
        if not self.alive:
            raise Stale
        reused, self.count = self.count > 0, self.count + 1
        if "PIPELINING" in self.offers:
            await self._go_ahead_at_once(commands, reused)
        else:
            await self._go_ahead_by_steps(commands, reused)
        return await self._hand_over(data, following)

    async def _fit(self, envelope: Envelope) -> Envelope:
        """In 7-bit, where the server takes no other. Raises Refused."""
        if envelope.seven_bit is None:
            return envelope
        plain_addresses = envelope.mail_from.isascii() and envelope.rcpt_to.isascii()
        too_much = "SMTPUTF8" not in self.offers and not header(envelope.data).isascii()
        if not plain_addresses or ("8BITMIME" in self.offers and not too_much):
            return envelope
        # Parsing a large mail takes a while, and other mails should not wait for it.
        return replace(envelope, data=await asyncio.to_thread(envelope.seven_bit), seven_bit=None)

    def _commands(self, envelope: Envelope) -> Sequence[bytes]:
        """MAIL, RCPT and DATA. Raises Refused."""
        offers, data = self.offers, envelope.data
        sender, recipient = path(envelope.mail_from, Fault.SENDER), path(envelope.rcpt_to, Fault.RECIPIENT)
        mail = b"MAIL FROM:<" + sender + b">"
        if "SIZE" in offers:
            if 0 < self.size_limit < len(data):
                words = {"size": len(data), "limit": self.size_limit}
                refuse("5.3.4", _("The mail has %(size)s bytes, and the server takes %(limit)s.") % words, Fault.CONTENT)
            mail += b" SIZE=%d" % len(data)
        eight_bit = not data.isascii()
        if eight_bit:
            if "8BITMIME" not in offers:
                refuse("5.6.3", _("The mail holds 8-bit text, and the server only takes 7-bit text."), Fault.CONTENT)
            mail += b" BODY=8BITMIME"
        if not sender.isascii() or not recipient.isascii() or (eight_bit and not header(data).isascii()):
            if "SMTPUTF8" not in offers:
                problem = _("The server only takes addresses and header fields of ASCII letters: it does not offer SMTPUTF8.")
                refuse("5.6.7", problem, Fault.POLICY)
            mail += b" SMTPUTF8"
        return mail + b"\r\n", b"RCPT TO:<" + recipient + b">\r\n", b"DATA\r\n"

    async def _go_ahead_at_once(self, commands: Sequence[bytes], reused: bool) -> None:
        """All commands in one write (RFC 2920); none where they have left. The replies decide, each in its turn, before a byte of the mail
        leaves."""
        forget = self._begun and self.announced is None
        if commands:
            self.wire.write((b"RSET\r\n" if forget else b"") + b"".join(commands))
        self.announced, self._begun = None, True
        answers = list(await self.wire.expect(len(WANTED) + forget, self._within(Phase.MAIL)))
        if forget and (not answers or answers.pop(0)[0] != 250):
            # What it holds of the mail before must not become part of this one.
            self.wire.fail(_("The server did not forget the last mail."))
            self._lost(True)
        for (phase, wanted), raw in zip(WANTED.items(), answers, strict=False):
            if raw[0] // 100 != wanted:
                if len(answers) == len(WANTED) and answers[-1][0] == 354:
                    await self._hand_over_nothing(to_nobody=answers[1][0] // 100 != 2)
                self._refused(raw, phase, reused)
        if len(answers) < len(WANTED):
            self._lost(reused and not answers)

    async def _go_ahead_by_steps(self, commands: Sequence[bytes], reused: bool) -> None:
        if self._begun:
            raw = await self.wire.ask(b"RSET", self._within(Phase.MAIL))
            if raw is None or raw[0] != 250:
                self._ended = True
                raise Stale
        self._begun = True
        for (phase, wanted), command in zip(WANTED.items(), commands, strict=True):
            self.wire.write(command)
            raws = await self.wire.expect(1, self._within(phase))
            if not raws:
                self._lost(reused and phase == Phase.MAIL)
            if raws[0][0] // 100 != wanted:
                self._refused(raws[0], phase, reused)

    async def _hand_over_nothing(self, to_nobody: bool) -> None:
        """End a transaction that the server wants a mail for, although it refused the sender or the recipient (RFC 2920 section 3.1)."""
        if to_nobody:
            self.wire.write(b".\r\n")
            await self.wire.expect(1, self._within(Phase.DATA))
            self._begun = False
        else:
            # An empty mail would go to the recipient.
            self.wire.fail(_("The server wanted a mail whose sender it had refused."))
            self._ended = True

    async def _hand_over(self, data: bytes, following: Envelope | None) -> Reply:
        """The mail and its final dot, and the commands of the one that follows. From here on it may have been taken, whatever is heard."""
        if self.wire.replies:
            # More replies than commands: none can be trusted any more.
            self.wire.fail(_("The server sent a reply that nothing had asked for."))
            self._lost(False)
        commands = self._early(data, following) if following else b""
        self.wire.write(data + commands)
        to_write = min(BLOCK, self.patience) + len(data) / SLOWEST
        raws = await self.wire.expect(1, to_write, once_written=self.final_timeout)
        self._begun = bool(commands)
        # Where commands follow, they may be all that has not left.
        if not raws and self.wire.unsent and not commands:
            self._lost(False)
        if not raws or raws[0][0] // 100 == 3:
            self._ended = True
            raise OutcomeUnknown(replies.read(*raws[0]) if raws else Reply(None, "", self.wire.failure[:500]))
        if raws[0][0] // 100 != 2:
            self._refused(raws[0], Phase.DOT, False)
        return replies.read(*raws[0])

    def _early(self, data: bytes, following: Envelope) -> bytes:
        """The commands of the mail that follows, if they may leave with this one's end: it goes as it is, and this one is so small that it
        leaves in one piece, so that nobody need ask whether its end has left."""
        if "PIPELINING" not in self.offers or len(data) > SMALL or following.seven_bit is not None:
            return b""
        try:
            commands = b"".join(self._commands(following))
        except Refused:
            return b""
        self.announced = following.message
        return commands

    def _within(self, phase: Phase) -> float:
        return min(TIMEOUTS[phase], self.patience)

    def _refused(self, raw: Raw, phase: Phase, reused: bool) -> NoReturn:
        reply = replies.read(*raw)
        if replies.ends_connection(reply):
            self._ended = True
            if reused and phase == Phase.MAIL:
                raise Stale
        raise Answered(reply, phase)

    def _lost(self, untouched: bool) -> NoReturn:
        self._ended = True
        if untouched:
            raise Stale
        raise Lost(self.wire.failure)


def refuse(enhanced: str, why: str, fault: Fault) -> NoReturn:
    """Say no before the server has to."""
    raise Refused(Reply(None, enhanced, why), fault)


def header(data: bytes) -> bytes:
    return data[: data.find(b"\r\n\r\n")]


def path(text: str, fault: Fault) -> bytes:
    """An address as it goes between < and >. Raises Refused."""
    if UNQUOTED.search(text) and (CONTROL.search(text) or not text.startswith('"')):
        refuse("5.1.3", _("“%(address)s” is not a mail address.") % {"address": ascii(text)[1:-1]}, fault)
    return text.encode()


def stuffed(data: bytes) -> bytes:
    """The mail as it goes over the wire, final dot and all (RFC 5321 section 4.5.2). Raises Refused."""
    lines = data.count(b"\n")
    if lines != data.count(b"\r\n") or lines != data.count(b"\r") or b"\0" in data:
        # Some servers take a lone one for a line's end, and what follows it for another mail ("SMTP smuggling"). It is too late to mend
        # it: the mail may be signed.
        refuse("5.6.0", _("The mail holds a CR, LF or NUL that is no line's end."), Fault.CONTENT)
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    if data.startswith(b"."):
        data = b"." + data
    return data.replace(b"\r\n.", b"\r\n..") + END
