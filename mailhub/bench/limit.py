"""How fast can this machine personalise, sign, hand over and record mail from Python at all?

    python -m mailhub.bench.limit --database postgres://... --port 2525 --messages 40000 [--unsigned]

A bare loop of the same kinds of work that MailHub does, and none of what makes it MailHub: no routes, quotas, suppressions, retries,
leases or marks, and what is in flight when it dies is lost. Its figure is the yardstick, because absolute figures differ from machine to
machine and from hour to hour. It runs on uvloop where that is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import sys
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, TypeVar

import psycopg
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailhub.bench import words

CONNECTIONS = 20
CLAIMED = 500
# Mails that are ready and wait for a connection.
READY = 1_000
RECORD_EVERY = 0.1
THREADS = 4

TABLES = """
DROP TABLE IF EXISTS bench_mail, bench_person;
CREATE TABLE bench_person (id bigint PRIMARY KEY, address text NOT NULL UNIQUE, facts jsonb NOT NULL);
CREATE TABLE bench_mail (
    id bigint PRIMARY KEY, person_id bigint NOT NULL, token uuid NOT NULL DEFAULT gen_random_uuid(), state text NOT NULL DEFAULT 'waits',
    due_at timestamptz NOT NULL DEFAULT now(), held_until timestamptz, tries int NOT NULL DEFAULT 0, reply text, settled_at timestamptz
) WITH (fillfactor = 70);
"""
ROWS = """
INSERT INTO bench_person SELECT n, 'reader' || n || '@example.net', jsonb_build_object('name', 'Reader ' || n, 'city', 'Kyoto')
FROM generate_series(1, %(count)s) AS n;
INSERT INTO bench_mail (id, person_id) SELECT id, id FROM bench_person;
CREATE INDEX bench_mail_due ON bench_mail (due_at, id) WHERE state = 'waits';
"""
CLAIM = f"""
WITH due AS (
    SELECT id FROM bench_mail WHERE state = 'waits' AND due_at <= now() ORDER BY due_at, id LIMIT {CLAIMED} FOR UPDATE SKIP LOCKED
)
UPDATE bench_mail AS mail SET state = 'held', held_until = now() + interval '1 minute', tries = tries + 1
FROM due, bench_person AS person WHERE mail.id = due.id AND person.id = mail.person_id
RETURNING mail.id, mail.token, person.address, person.facts
"""  # noqa: S608  a number of ours
RECORD = """
UPDATE bench_mail AS mail SET state = 'sent', reply = told.reply, settled_at = now(), held_until = NULL
FROM unnest(%s::bigint[], %s::text[]) AS told (id, reply) WHERE mail.id = told.id
"""

SUBJECT, TEXT, HTML = (words.plain(part) for part in (words.SUBJECT, words.TEXT, words.HTML))

T = TypeVar("T")
Row = tuple[int, uuid.UUID, str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Mail:
    id: int
    #: MAIL, RCPT and DATA
    commands: bytes
    #: what follows, final dot and all
    data: bytes


def make(row: Row, key: rsa.RSAPrivateKey | None) -> Mail:
    pk, token, address, facts = row
    values = {**facts, "unsubscribe_url": f"https://hub.example/u/{token.hex}"}
    seam = f"=_{token.hex}"
    text, html = (part.format(**values).replace("\n", "\r\n") for part in (TEXT, HTML))
    lines = []
    for kind, part in (("plain", text), ("html", html)):
        lines.append(f"--{seam}\r\nContent-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{part}\r\n")
    body = "".join([*lines, f"--{seam}--\r\n"]).encode()
    head = [
        ("From", "Tea Shop <news@shop.example>"),
        ("To", f"{facts['name']} <{address}>"),
        ("Subject", SUBJECT.format(**values)),
        ("Date", formatdate()),
        ("Message-ID", f"<{token.hex}@shop.example>"),
        ("List-Unsubscribe", f"<{values['unsubscribe_url']}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/alternative; boundary="{seam}"'),
    ]
    if key:
        head.insert(0, ("DKIM-Signature", signature(head, body, key)))
    mail = "".join(f"{name}: {value}\r\n" for name, value in head).encode() + b"\r\n" + body
    commands = f"MAIL FROM:<bounces+{pk}@shop.example>\r\nRCPT TO:<{address}>\r\nDATA\r\n".encode()
    return Mail(pk, commands, mail.replace(b"\r\n.", b"\r\n..") + b".\r\n")


def signature(head: list[tuple[str, str]], body: bytes, key: rsa.RSAPrivateKey) -> str:
    """Of fields that are in relaxed form already, but for their names; so is the body (RFC 6376)."""
    names = ":".join(name.lower() for name, _value in head)
    hashed = base64.b64encode(hashlib.sha256(body).digest()).decode()
    said = f"v=1; a=rsa-sha256; c=relaxed/relaxed; d=shop.example; s=bench; h={names}; bh={hashed}; b="
    fields = "".join(f"{name.lower()}:{value}\r\n" for name, value in head)
    signed = key.sign(f"{fields}dkim-signature:{said}".encode(), padding.PKCS1v15(), hashes.SHA256())
    return said + base64.b64encode(signed).decode()


class Loop:
    """Claims, makes, sends and records, all at once."""

    def __init__(self, database: str, server: tuple[str, int], key: rsa.RSAPrivateKey | None) -> None:
        self.key = key
        self.server = server
        self.threads = ThreadPoolExecutor(THREADS)
        self.claims = psycopg.connect(database, autocommit=True)
        self.records = psycopg.connect(database, autocommit=True)
        self.ready: asyncio.Queue[Mail | None] = asyncio.Queue(READY)
        self.answers: list[tuple[int, str]] = []
        self.over = False

    def in_thread(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    async def run(self) -> None:
        recorder = asyncio.create_task(self.record())
        await asyncio.gather(self.feed(), *(self.send() for _ in range(CONNECTIONS)))
        self.over = True
        await recorder
        self.claims.close()
        self.records.close()

    def claim(self) -> list[Row]:
        return self.claims.execute(CLAIM).fetchall()

    def make_some(self, rows: list[Row]) -> list[Mail]:
        return [make(row, self.key) for row in rows]

    async def feed(self) -> None:
        claimed = self.in_thread(self.claim)
        while rows := await claimed:
            claimed = self.in_thread(self.claim)
            for some in await asyncio.gather(*(self.in_thread(self.make_some, rows[part::2]) for part in range(2))):
                for mail in some:
                    await self.ready.put(mail)
        for _ in range(CONNECTIONS):
            await self.ready.put(None)

    async def send(self) -> None:
        reader, writer = await asyncio.open_connection(*self.server)
        await reader.readline()
        writer.write(b"EHLO bench.example\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
        while mail := await self.ready.get():
            writer.write(mail.commands)
            for _ in range(3):
                await reader.readline()
            writer.write(mail.data)
            reply = await reader.readline()
            self.answers.append((mail.id, reply.decode().rstrip()))
        writer.close()

    async def record(self) -> None:
        while not self.over or self.answers:
            await asyncio.sleep(RECORD_EVERY)
            if self.answers:
                some, self.answers = self.answers, []
                await self.in_thread(self.store, some)

    def store(self, some: list[tuple[int, str]]) -> None:
        ids, replies = zip(*some, strict=True)
        self.records.execute(RECORD, [list(ids), list(replies)])


def fill(database: str, messages: int) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in (TABLES + ROWS % {"count": messages}).split(";"):
            if statement.strip():
                connection.execute(statement.encode())
        connection.execute("VACUUM ANALYZE bench_person, bench_mail")


def empty(database: str) -> int:
    """Away with the tables; returns how many mails the server took."""
    with psycopg.connect(database, autocommit=True) as connection:
        found: tuple[int] | None = connection.execute("SELECT count(*) FROM bench_mail WHERE reply LIKE '250%'").fetchone()
        connection.execute("DROP TABLE bench_mail, bench_person")
    return found[0] if found else 0


def runner() -> tuple[str, Callable[[Coroutine[Any, Any, None]], None]]:
    try:
        import uvloop
    except ImportError:
        return "asyncio", asyncio.run
    return "uvloop", uvloop.run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--database", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, default=40_000)
    parser.add_argument("--unsigned", action="store_true")
    options = parser.parse_args()
    key = None if options.unsigned else rsa.generate_private_key(65537, 2048)
    fill(options.database, options.messages)
    loop, run = runner()
    began = time.perf_counter()
    run(Loop(options.database, (options.host, options.port), key).run())
    seconds = time.perf_counter() - began
    taken = empty(options.database)
    if taken != options.messages:
        sys.exit(f"{taken} of {options.messages} mails were taken.")
    sys.stdout.write(json.dumps({"per_s": taken / seconds, "loop": loop}) + "\n")


if __name__ == "__main__":
    main()
