"""A mail server that plays all the world's, for trying things out: it answers as each address is used to, delivers nothing, and keeps
books of its own, so that what MailHub believes can be held against what a server saw.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session
from django.conf import settings

HOST = "127.0.0.1"
PORT = 2525
# The demo's logs and the receiver's books, beside the code.
FOLDER = settings.BASE_DIR / "build" / "demo"
BOOKS = FOLDER / "receiver.sqlite3"

MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^<>\s]+)>", re.IGNORECASE | re.MULTILINE)
ACCEPTED = 250


# --------------------------------------------------------------------------------------------------------------------- habits


@dataclass(frozen=True, slots=True)
class Habit:
    """How an address refuses mail."""

    #: reply code, enhanced status code and words
    reply: str
    #: so many times in a row, then it takes a mail; None: always
    times: int | None = None
    #: once the server has read the mail, and not before
    after_data: bool = False


# Of a thousand addresses: how many have which habit. All others take what comes.
GREYLISTS = Habit("451 4.7.1 Greylisted, please try again later", times=1)
FULL_FOR_NOW = Habit("452 4.2.2 The mailbox is over its quota, please try again later", times=2)
NOBODY = Habit("550 5.1.1 User unknown")
FULL = Habit("552 5.2.2 The mailbox is full")
PARTICULAR = Habit("550 5.7.1 Not accepted, by our policy", after_data=True)
HABITS = ((50, GREYLISTS), (15, FULL_FOR_NOW), (15, NOBODY), (5, FULL), (10, PARTICULAR))


def habit(address: str) -> Habit | None:
    """The same for an address on every machine; None: it takes every mail."""
    place = int.from_bytes(hashlib.sha256(address.lower().encode()).digest()[:4], "big") % 1000
    for share, found in HABITS:
        if place < share:
            return found
        place -= share
    return None


# ---------------------------------------------------------------------------------------------------------------------- books


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply to one recipient."""

    #: seconds since 1970
    at: float
    recipient: str
    #: without angle brackets; "" where the reply came before the mail
    message_id: str
    code: int


class Books:
    """What the server answered, oldest first, and the newest mails that it took. Others may read while it writes."""

    #: so many mails are kept
    KEPT = 200

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.database = sqlite3.connect(path, isolation_level=None, timeout=30)
        # No wait for the disk: these books need to survive this process, not a power cut.
        self.database.executescript(
            """
            PRAGMA journal_mode=WAL;
            PRAGMA synchronous=NORMAL;
            CREATE TABLE IF NOT EXISTS answer (
                id INTEGER PRIMARY KEY, at REAL NOT NULL, recipient TEXT NOT NULL, message_id TEXT NOT NULL, code INTEGER NOT NULL
            );
            CREATE TABLE IF NOT EXISTS mail (place INTEGER PRIMARY KEY, number INTEGER NOT NULL, data BLOB NOT NULL);
            """
        )

    def close(self) -> None:
        self.database.close()

    def write(self, recipient: str, code: int, message_id: str = "", mail: bytes | None = None) -> int:
        """Returns the answer's number."""
        self.database.execute("BEGIN IMMEDIATE")
        number = self.database.execute(
            "INSERT INTO answer (at, recipient, message_id, code) VALUES (?, ?, ?, ?)", [time.time(), recipient, message_id, code]
        ).lastrowid
        assert number is not None  # noqa: S101  what an INSERT always gives
        if mail is not None:
            self.database.execute("INSERT OR REPLACE INTO mail VALUES (?, ?, ?)", [number % self.KEPT, number, mail])
        self.database.execute("COMMIT")
        return number

    def last(self) -> int:
        """The number of the newest answer; 0 when there is none."""
        found: int = self.database.execute("SELECT coalesce(max(id), 0) FROM answer").fetchone()[0]
        return found

    def after(self, number: int) -> list[Answer]:
        rows = self.database.execute("SELECT at, recipient, message_id, code FROM answer WHERE id > ? ORDER BY id", [number])
        return [Answer(*row) for row in rows]

    def mails(self) -> Iterator[tuple[int, bytes]]:
        """The mails that are kept, each with its answer's number, the newest first."""
        yield from self.database.execute("SELECT number, data FROM mail ORDER BY number DESC")


def export(path: Path, folder: Path) -> int:
    """Put the mails of the books at `path` into the folder, a file each that mail programs open; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with closing(Books(path)) as books:
        for number, data in books.mails():
            (folder / f"{number}.eml").write_bytes(data)
            count += 1
    return count


# --------------------------------------------------------------------------------------------------------------------- server


class Handler:
    """What aiosmtpd asks at each step; an answer is in the books before it is given."""

    def __init__(self, books: Books) -> None:
        self.books = books
        #: refusals in a row, by recipient
        self.refusals: Counter[str] = Counter()

    async def handle_EHLO(  # noqa: N802  aiosmtpd names it so
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [responses[0], "250-PIPELINING", "250-ENHANCEDSTATUSCODES", *responses[1:]]

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        found = habit(address)
        if found and not found.after_data and self.refuses(address, found):
            self.books.write(address, int(found.reply[:3]))
            return found.reply
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        data = envelope.original_content or b""
        line = MESSAGE_ID.search(data.partition(b"\r\n\r\n")[0])
        message_id = line[1].decode(errors="replace") if line else ""
        # One reply for all recipients of the mail, as SMTP has it.
        refusal = next((found.reply for address in envelope.rcpt_tos if (found := habit(address)) and found.after_data), "")
        number = 0
        for address in envelope.rcpt_tos:
            if refusal:
                self.books.write(address, int(refusal[:3]), message_id)
            else:
                number = self.books.write(address, ACCEPTED, message_id, data)
                self.refusals.pop(address, None)
        return refusal or f"{ACCEPTED} 2.0.0 OK: kept as {number}"

    def refuses(self, address: str, found: Habit) -> bool:
        if found.times is None:
            return True
        self.refusals[address] += 1
        return self.refusals[address] <= found.times


async def listen(port: int, books: Books) -> asyncio.Server:
    """Raises OSError when the port is taken."""
    # aiosmtpd tells of every command.
    logging.getLogger("mail.log").setLevel(logging.WARNING)
    loop = asyncio.get_running_loop()
    handler = Handler(books)
    return await loop.create_server(
        lambda: SMTP(handler, hostname="receiver.localhost", ident="MailHub's receiver", enable_SMTPUTF8=True, loop=loop), HOST, port
    )


def answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def run(port: int, path: Path) -> None:
    """Receive until SIGTERM or SIGINT. Raises OSError when the port is taken."""

    async def serve() -> None:
        server = await listen(port, books)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
        server.close()

    with closing(Books(path)) as books:
        asyncio.run(serve())
