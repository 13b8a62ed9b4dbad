"""An SMTP server that keeps what it gets and misbehaves as told, for tests.

    with SMTPServer() as server:
        server.answers("rcpt", Reply("451 4.7.1 Greylisted"), times=1)   # the next RCPT; after that all is well again
        server.answers("dot", Drop(), accept=True)                       # takes the next mail, and leaves without a word
        ... 127.0.0.1, server.port ...
        server.mails[0].data

It runs in a thread of its own. As a process, for tests that kill others:

    python tests/smtp_server.py --port 0 --log mails.jsonl --answer rcpt 1 "451 4.7.1 Greylisted" --delay dot 0.05

prints its port, and writes a line of JSON for each mail before it answers 250.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import re
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

HOST = "127.0.0.1"
#: where a script can step in; "body" is after the first bytes of the data, "dot" after its last
PHASES = ("connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "body", "dot", "rset", "noop", "quit")
EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 20000000", "ENHANCEDSTATUSCODES")
MESSAGE_ID = re.compile(rb"^Message-ID:\s*(<[^<>\s]+>)", re.IGNORECASE | re.MULTILINE)
LONGEST = 64 * 2**20


# ------------------------------------------------------------------------------------------------------------------- what it does


class Hangup(Exception):
    """The server has ended the connection."""


class Action(Protocol):
    @property
    def code(self) -> int | None:
        """Of the reply that it ends in; None when there is none."""

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        """Do it; returns the code sent. `usual` is what would have been answered. Raises Hangup."""


class Reply:
    """Answer these lines. A line is "250 2.1.0 words"; all but the last get their hyphen here. `close`: and leave."""

    def __init__(self, *lines: str, close: bool = False) -> None:
        self.lines = lines
        self.close = close

    @property
    def code(self) -> int | None:
        return int(self.lines[-1][:3])

    @property
    def wire(self) -> bytes:
        *first, last = self.lines
        return "".join(f"{line}\r\n" for line in [*(f"{line[:3]}-{line[4:]}" for line in first), last]).encode()

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        await connection.write(self.wire)
        if self.close:
            raise Hangup
        return self.code


@dataclass
class Delay:
    """Wait, and then do the other thing (or the usual)."""

    seconds: float
    then: Action | None = None

    @property
    def code(self) -> int | None:
        return self.then.code if self.then else 250

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        await asyncio.sleep(self.seconds)
        return await (self.then or usual).perform(connection, usual)


@dataclass
class Drop:
    """Close the connection (FIN)."""

    code: int | None = None

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        raise Hangup


@dataclass
class Reset:
    """Throw the connection away (RST)."""

    code: int | None = None

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        connection.reset()
        raise Hangup


@dataclass
class Silence:
    """Say nothing more, whatever comes, until the client leaves."""

    code: int | None = None

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        connection.server.falls_silent(1)
        while await connection.reader.read(65536):
            pass
        raise Hangup


@dataclass
class Deaf:
    """Read nothing more, and say nothing more."""

    code: int | None = None

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        connection.writer.transport.pause_reading()
        connection.server.falls_silent(1)
        await asyncio.Event().wait()
        raise Hangup


@dataclass
class Drip:
    """Answer a byte at a time: so slowly that the whole takes several times the client's patience, though each byte takes a part of it."""

    text: str = "250 2.0.0 " + "so slow " * 10
    every: float = 0.02

    @property
    def code(self) -> int | None:
        return int(self.text[:3])

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        for byte in f"{self.text}\r\n".encode():
            await connection.write(bytes([byte]))
            await asyncio.sleep(self.every)
            connection.server.falls_silent(0.1)
        return self.code


@dataclass
class Endless:
    """Repeat this for ever: a reply that never ends, or without line ends a line that never does."""

    text: str = "250-and another thing\r\n"
    code: int | None = None

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        while True:
            await connection.write(self.text.encode() * 100)
            await asyncio.sleep(0)


@dataclass
class Garbage:
    """Answer these very bytes. `code` tells the server how to go on after them."""

    wire: bytes = b"\x00\xff what?\r\n"
    code: int | None = 500

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        await connection.write(self.wire)
        return self.code


@dataclass
class Step:
    """One line of the script."""

    action: Action
    #: how often it is used; None: always
    times: int | None
    #: only for commands that contain this
    only: str
    #: at "dot": whether the mail is taken; None: when the action ends in a 2xx
    accept: bool | None


# ------------------------------------------------------------------------------------------------------------------- what it keeps


@dataclass(frozen=True)
class Mail:
    """A mail that the server took."""

    mail_from: str
    rcpt_to: tuple[str, ...]
    #: without dot-stuffing
    data: bytes
    #: as it came, up to and with the final dot
    raw: bytes
    #: the parameters of MAIL FROM, such as "BODY=8BITMIME"
    parameters: tuple[str, ...]
    peer: tuple[str, int]
    ehlo: str
    tls: bool
    #: who logged in, and how
    user: str | None
    mechanism: str | None
    #: seconds since 1970
    at: float

    @property
    def message_id(self) -> str:
        found = MESSAGE_ID.search(self.data)
        return found[1].decode() if found else ""

    def json(self) -> str:
        return json.dumps(
            {"at": self.at, "mail_from": self.mail_from, "rcpt_to": self.rcpt_to, "message_id": self.message_id, "size": len(self.data)}
        )


# ----------------------------------------------------------------------------------------------------------------------- the server


class SMTPServer:
    def __init__(
        self,
        *,
        host: str = HOST,
        port: int = 0,
        extensions: tuple[str, ...] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        users: dict[str, str] | None = None,
        mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN", "XOAUTH2"),
        auth_needs_tls: bool = True,
        log: Path | None = None,
    ) -> None:
        """`tls` (see tests/certificates.py) offers STARTTLS, or is spoken from the first byte; `users`, name to password or token, makes
        AUTH a must."""
        self.host = host
        self.port = port
        self.extensions = extensions
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.users = users
        self.mechanisms = mechanisms
        self.auth_needs_tls = auth_needs_tls
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if log else None
        self.mails: list[Mail] = []
        #: all that there ever were, oldest first
        self.connections: list[Connection] = []
        self.script: dict[str, list[Step]] = {phase: [] for phase in PHASES}
        self.tasks: set[asyncio.Task[None]] = set()
        #: told when a script says nothing more, and what share of the client's patience that ought to take (tests/patience.py)
        self.falls_silent: Callable[[float], None] = lambda share: None

    def answers(self, phase: str, action: Action, *, times: int | None = None, only: str = "", accept: bool | None = None) -> None:
        """Do this the next `times` that the phase is reached (None: from now on), after what was said about it before."""
        self.script[phase].append(Step(action, times, only, accept))

    def behave(self) -> None:
        """Forget the script."""
        for steps in self.script.values():
            steps.clear()

    def next_step(self, phase: str, command: str) -> Step | None:
        for step in self.script[phase]:
            if step.only in command and step.times != 0:
                if step.times is not None:
                    step.times -= 1
                return step
        return None

    def by_recipient(self) -> Counter[str]:
        return Counter(address for mail in self.mails for address in mail.rcpt_to)

    def by_message_id(self) -> Counter[str]:
        return Counter(mail.message_id for mail in self.mails)

    @property
    def commands(self) -> list[str]:
        """Every command line of every connection."""
        return [command for connection in self.connections for command in connection.commands]

    def took(self, mail: Mail) -> None:
        if self.log is not None:
            # In the kernel's hands before the client hears of it: whoever is killed then, the line stands.
            os.write(self.log, f"{mail.json()}\n".encode())
        self.mails.append(mail)

    # -- running

    def __enter__(self) -> SMTPServer:
        self.listening = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()), name="smtp-server", daemon=True)
        self.thread.start()
        self.listening.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Close all connections and the port. To do it again does nothing."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join()

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.connected, self.host, self.port, limit=LONGEST, backlog=1000)
        self.port = server.sockets[0].getsockname()[1]
        if hasattr(self, "listening"):
            self.listening.set()
        ready()
        await self.stopped.wait()
        for listener in server.sockets:
            self.loop.remove_reader(listener.fileno())
        # What was just accepted gets its task; closing before that is an error in asyncio.
        await asyncio.sleep(0.01)
        server.close()
        for connection in self.connections:
            connection.writer.transport.abort()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.log is not None:
            os.close(self.log)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        connection = Connection(self, reader, writer)
        self.connections.append(connection)
        try:
            with suppress(Hangup, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
                await connection.run()
        finally:
            self.tasks.discard(task)
            connection.closed = True
            with suppress(OSError, RuntimeError):
                writer.close()


@dataclass(eq=False)
class Connection:
    server: SMTPServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    #: every line that was read as a command
    commands: list[str] = field(default_factory=list)
    closed: bool = False
    tls: bool = False
    ehlo: str = ""
    user: str | None = None
    mechanism: str | None = None
    mail_from: str | None = None
    rcpt_to: list[str] = field(default_factory=list)
    parameters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.peer: tuple[str, int] = self.writer.get_extra_info("peername")[:2]
        self.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def write(self, wire: bytes) -> None:
        self.writer.write(wire)
        await self.writer.drain()

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def answer(self, phase: str, command: str, usual: Reply) -> int | None:
        step = self.server.next_step(phase, command)
        return await (step.action if step else usual).perform(self, usual)

    async def line(self) -> str:
        line = await self.reader.readuntil(b"\r\n")
        return line[:-2].decode("utf-8", "surrogateescape")

    async def run(self) -> None:
        if self.server.implicit_tls:
            await self.start_tls()
        if await self.answer("connect", "", Reply("220 localhost ESMTP")) != 220:
            raise Hangup
        while True:
            command = await self.line()
            self.commands.append(command)
            verb = command.partition(" ")[0].upper()
            handler = self.HANDLERS.get(verb)
            if handler:
                await handler(self, command)
            else:
                await self.write(b"500 5.5.2 What?\r\n")

    async def start_tls(self) -> None:
        assert self.server.tls
        await self.writer.start_tls(self.server.tls)
        self.tls, self.ehlo, self.user = True, "", None
        self.start_over()

    def start_over(self) -> None:
        self.mail_from, self.rcpt_to, self.parameters = None, [], ()

    # -- commands

    async def do_ehlo(self, command: str) -> None:
        lines = ["localhost", *self.server.extensions]
        if self.server.tls and not self.tls:
            lines.append("STARTTLS")
        if self.server.users is not None and (self.tls or not self.server.auth_needs_tls):
            lines.append(" ".join(["AUTH", *self.server.mechanisms]))
        if command.upper().startswith("HELO"):
            lines = lines[:1]
        if await self.answer("ehlo", command, Reply(*(f"250 {line}" for line in lines))) == 250:
            self.ehlo = command.partition(" ")[2]
            self.start_over()

    async def do_starttls(self, command: str) -> None:
        if not self.server.tls or self.tls:
            await self.write(b"503 5.5.1 Not now\r\n")
        elif await self.answer("starttls", command, Reply("220 2.0.0 Go ahead")) == 220:
            await self.start_tls()

    async def do_auth(self, command: str) -> None:
        _verb, mechanism, *initial = command.split(" ")
        try:
            user, password = await self.CREDENTIALS[mechanism.upper()](self, initial)
        except KeyError:
            await self.write(b"504 5.5.4 Unknown mechanism\r\n")
            return
        right = self.server.users is not None and self.server.users.get(user) == password
        if mechanism.upper() == "XOAUTH2" and not right:
            await self.challenge('{"status":"401"}')
        usual = Reply("235 2.7.0 Welcome") if right else Reply("535 5.7.8 Wrong name or password")
        if await self.answer("auth", command, usual) == 235:
            self.user, self.mechanism = user, mechanism.upper()

    async def challenge(self, text: str) -> str:
        await self.write(b"334 " + base64.b64encode(text.encode()) + b"\r\n")
        return await self.line()

    async def plain(self, initial: list[str]) -> tuple[str, str]:
        response = initial[0] if initial else await self.challenge("")
        _identity, user, password = base64.b64decode(response).decode().split("\0")
        return user, password

    async def login(self, initial: list[str]) -> tuple[str, str]:
        user = initial[0] if initial else await self.challenge("Username:")
        password = await self.challenge("Password:")
        return base64.b64decode(user).decode(), base64.b64decode(password).decode()

    async def xoauth2(self, initial: list[str]) -> tuple[str, str]:
        response = initial[0] if initial else await self.challenge("")
        user, token, _empty, _end = base64.b64decode(response).decode().split("\x01")
        return user.removeprefix("user="), token.removeprefix("auth=Bearer ")

    CREDENTIALS = {"PLAIN": plain, "LOGIN": login, "XOAUTH2": xoauth2}

    async def do_mail(self, command: str) -> None:
        address, parameters = path(command)
        if self.server.users is not None and self.user is None:
            usual = Reply("530 5.7.0 Log in first")
        elif self.mail_from is not None:
            usual = Reply("503 5.5.1 Nested MAIL")
        else:
            usual = Reply("250 2.1.0 Sender fine")
        if await self.answer("mail", command, usual) == 250:
            self.mail_from, self.parameters = address, parameters

    async def do_rcpt(self, command: str) -> None:
        usual = Reply("503 5.5.1 MAIL first") if self.mail_from is None else Reply("250 2.1.5 Recipient fine")
        if await self.answer("rcpt", command, usual) in (250, 251):
            self.rcpt_to.append(path(command)[0])

    async def do_data(self, command: str) -> None:
        usual = Reply("354 Go on") if self.rcpt_to else Reply("503 5.5.1 No valid recipients")
        if await self.answer("data", command, usual) != 354:
            return
        raw = bytearray(await self.reader.readexactly(1))
        if step := self.server.next_step("body", command):
            await step.action.perform(self, usual)
        if raw == b".":
            raw += await self.reader.readuntil(b"\r\n")
        while raw != b".\r\n" and not raw.endswith(b"\r\n.\r\n"):
            raw += await self.reader.readuntil(b".\r\n")
        await self.take(bytes(raw))

    async def take(self, raw: bytes) -> None:
        usual = Reply("250 2.0.0 Taken") if self.rcpt_to else Reply("554 5.5.1 No valid recipients")
        step = self.server.next_step("dot", "")
        action: Action = step.action if step else usual
        accepted = action.code is not None and 200 <= action.code < 300 and bool(self.rcpt_to)
        if step and step.accept is not None:
            accepted = step.accept
        if accepted:
            stuffed = b"\r\n" + raw[: -len(b".\r\n")]
            self.server.took(
                Mail(
                    mail_from=self.mail_from or "",
                    rcpt_to=tuple(self.rcpt_to),
                    data=stuffed.replace(b"\r\n.", b"\r\n")[2:],
                    raw=raw,
                    parameters=self.parameters,
                    peer=self.peer,
                    ehlo=self.ehlo,
                    tls=self.tls,
                    user=self.user,
                    mechanism=self.mechanism,
                    at=time.time(),
                )
            )
        self.start_over()
        await action.perform(self, usual)

    async def do_rset(self, command: str) -> None:
        if await self.answer("rset", command, Reply("250 2.0.0 Forgotten")) == 250:
            self.start_over()

    async def do_noop(self, command: str) -> None:
        await self.answer("noop", command, Reply("250 2.0.0 Still here"))

    async def do_quit(self, command: str) -> None:
        await self.answer("quit", command, Reply("221 2.0.0 Bye"))
        raise Hangup

    HANDLERS = {
        "EHLO": do_ehlo,
        "HELO": do_ehlo,
        "STARTTLS": do_starttls,
        "AUTH": do_auth,
        "MAIL": do_mail,
        "RCPT": do_rcpt,
        "DATA": do_data,
        "RSET": do_rset,
        "NOOP": do_noop,
        "QUIT": do_quit,
    }


def path(command: str) -> tuple[str, tuple[str, ...]]:
    """Address and parameters of "MAIL FROM:<a@b> SIZE=1"."""
    address, _end, parameters = command.partition("<")[2].partition(">")
    return address, tuple(parameters.split())


# ---------------------------------------------------------------------------------------------------------------------- as a process


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, help="file that gets a line of JSON for each mail")
    parser.add_argument("--answer", nargs=3, action="append", default=[], metavar=("PHASE", "TIMES", "REPLY"))
    parser.add_argument("--delay", nargs=2, action="append", default=[], metavar=("PHASE", "SECONDS"))
    options = parser.parse_args()
    server = SMTPServer(port=options.port, log=options.log)
    for phase, times, reply in options.answer:
        server.answers(phase, Reply(reply), times=int(times))
    for phase, seconds in options.delay:
        server.answers(phase, Delay(float(seconds)))

    def ready() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            server.loop.add_signal_handler(number, server.stopped.set)
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()

    asyncio.run(server.serve(ready))


if __name__ == "__main__":
    main()
