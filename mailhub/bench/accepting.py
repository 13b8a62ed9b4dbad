"""How many mails a second each door takes in, every one of them committed before it is answered. Clients and MailHub share the machine."""

from __future__ import annotations

import base64
import http.client
import json
import os
import selectors
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.db import connection

from mailhub import run
from mailhub.bench import words
from mailhub.bench.memory import PROC, descendants
from mailhub.bench.site import LOOK_EVERY, ORDERS, START_WITHIN, Failed
from mailhub.delivery.models import Message
from mailhub.lib.api import Scope
from mailhub.lib.processes import Group
from transactional.models import Credential, Project
from transactional.smtpd import certificates

# Mails, those of one request of the HTTP API, requests at a time, connections by SMTP, and processes that share its port.
MAILS, BATCH, REQUESTS, CONNECTIONS, LISTENERS = 10_000, 500, 3, 100, 2
HOST = "127.0.0.1"
# What a process says in its log once it listens.
LISTENS = b"taking mail in"


@dataclass(frozen=True, slots=True)
class Taken:
    #: mails a second
    rate: float
    #: microseconds of a processor for one mail: of what takes it in, of its database connections, and of the clients here
    door: float
    database: float
    clients: float


def by_api(project: Project, port: int, environment: Mapping[str, str]) -> Taken:
    """In batches. Raises Failed."""
    secret = _issue(project, Credential.Kind.API_KEY, [Scope.SEND])

    def post(first: int) -> int:
        mails = [
            {"from": ORDERS, "to": [f"customer{number}@example.net"], "subject": f"Order {number}", "text": words.TEXT}
            for number in range(first, first + BATCH)
        ]
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json", "Idempotency-Key": f"benchmark-{first}"}
        connection = http.client.HTTPConnection(HOST, port, timeout=300)
        connection.request("POST", "/api/v1/messages/batch", json.dumps({"mails": mails}), headers)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return sum(result["status"] == 202 for result in answer.get("results", ()))

    with _served([run.web(port)], port, {**environment, "MAILHUB_API_RATE": "0"}) as pids:
        # Both processes have what they need.
        for _warming in range(4):
            post(0)
        with _measured(pids) as meter, ThreadPoolExecutor(REQUESTS) as clients:
            meter.accepted = sum(clients.map(post, range(BATCH, BATCH + MAILS, BATCH)))
    return meter.taken()


def by_smtp(project: Project, port: int, environment: Mapping[str, str]) -> Taken:
    """On connections that are kept, each waiting for every reply, as most programs do. Raises Failed."""
    secret = _issue(project, Credential.Kind.SMTP, [])
    credential = base64.b64encode(f"\0{secret[:11]}\0{secret}".encode())
    settings = {
        "MAILHUB_SMTPD_ADDRESSES": HOST, "MAILHUB_SMTPD_PORT": str(port), "MAILHUB_SMTPD_TLS_PORT": "0", "MAILHUB_SMTPD_RATE": "0",
        "MAILHUB_SMTPD_CLEAR_NETWORKS": "127.0.0.0/8", "MAILHUB_SMTPD_CONNECTIONS": str(10 * CONNECTIONS),
    }  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as folder,
        _served([run.taking_in()] * LISTENERS, port, {**environment, **settings, **_certified(folder)}, LISTENS) as pids,
        _measured(pids) as meter,
    ):
        meter.accepted = _hand_in(port, credential)
    return meter.taken()


def _hand_in(port: int, credential: bytes) -> int:
    """How many mails were accepted. One thread and bare sockets: what the clients cost, the server does not get. Raises Failed."""
    selector = selectors.DefaultSelector()
    accepted = 0
    try:
        for number in range(CONNECTIONS):
            new = socket.create_connection((HOST, port))
            new.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(new, selectors.EVENT_READ, (new, _lines(number, credential)))
        while selector.get_map():
            for key, _events in selector.select():
                one, says = key.data
                reply = one.recv(4096)
                while not _whole(reply):
                    more = one.recv(4096)
                    reply += more or b"421 The server has left\r\n"
                if reply[:1] not in (b"2", b"3"):
                    raise Failed(f"SMTP submission answered: {reply.decode(errors='replace').strip()}")
                accepted += b" queued as " in reply
                if line := next(says, b""):
                    one.sendall(line)
                else:
                    selector.unregister(one)
                    one.close()
    finally:
        for key in list(selector.get_map().values()):
            key.data[0].close()
        selector.close()
    return accepted


def _whole(reply: bytes) -> bool:
    return reply.endswith(b"\r\n") and reply[reply.rfind(b"\n", 0, -1) + 4 :][:1] != b"-"


def _lines(number: int, credential: bytes) -> Iterator[bytes]:
    """What one client says, each after a reply."""
    text = words.TEXT.replace("\n", "\r\n")
    yield b"EHLO shop.example\r\n"
    yield b"AUTH PLAIN %s\r\n" % credential
    for mail in range(MAILS // CONNECTIONS):
        to = f"customer{number}.{mail}@example.net"
        yield f"MAIL FROM:<{ORDERS}>\r\n".encode()
        yield f"RCPT TO:<{to}>\r\n".encode()
        yield b"DATA\r\n"
        named = f"Date: Wed, 25 Nov 2026 12:00:00 +0900\r\nMessage-ID: <{number}.{mail}@shop.example>\r\n"
        head = f"{named}From: {ORDERS}\r\nTo: {to}\r\nSubject: Order {mail}\r\nMIME-Version: 1.0\r\n"
        yield f"{head}\r\n{text}\r\n.\r\n".encode()


def _certified(folder: str) -> dict[str, str]:
    """Nobody asks for it here, and no server begins without."""
    path = Path(folder) / "certificate.pem"
    certificates.keep(path, ["localhost"])
    return {"MAILHUB_SMTPD_CERTIFICATE": str(path)}


def _issue(project: Project, kind: str, scopes: list[str]) -> str:
    credential = Credential(project=project, kind=kind, name="benchmark", scopes=scopes)
    secret = credential.issue()
    credential.save()
    return secret


# ------------------------------------------------------------------------------------------------------------------- measuring


class _Meter:
    """What passes while it is open."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        self.accepted = 0
        self.before = self._cpu()
        self.began = time.perf_counter()

    def close(self) -> None:
        self.seconds = time.perf_counter() - self.began
        self.used = [now - before for now, before in zip(self._cpu(), self.before, strict=True)]

    def taken(self) -> Taken:
        """Raises Failed."""
        if self.accepted != MAILS or Message.objects.count() < MAILS:
            raise Failed(f"{self.accepted} of {MAILS} mails were accepted.")
        door, database, clients = (seconds / MAILS * 1e6 for seconds in self.used)
        return Taken(self.accepted / self.seconds, door, database, clients)

    def _cpu(self) -> tuple[float, float, float]:
        """Seconds, until now, as in Taken."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
            backends = [row[0] for row in cursor.fetchall()]
        return _seconds(descendants(self.pids)), _seconds(backends), time.process_time()


@contextmanager
def _measured(pids: list[int]) -> Iterator[_Meter]:
    meter = _Meter(pids)
    yield meter
    meter.close()


def _seconds(pids: list[int]) -> float:
    """Of processors that these have used, as far as they live."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            user, system = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:13]
            ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def _served(commands: list[list[str]], port: int, environment: Mapping[str, str], listens: bytes = b"") -> Iterator[list[int]]:
    """The processes, once they listen: what each says then, if anything. Raises Failed where they do not."""
    with tempfile.TemporaryFile() as log:

        def said() -> bytes:
            return os.pread(log.fileno(), 1_000_000, 0)

        groups = [Group(command, env=dict(environment), output=log) for command in commands]
        try:
            until = time.monotonic() + START_WITHIN
            while run.is_free(port) or (listens and said().count(listens) < len(groups)):
                if any(group.ended for group in groups) or time.monotonic() > until:
                    raise Failed(f"{' '.join(commands[0])} does not begin: {said().decode(errors='replace')[-2000:]}")
                time.sleep(LOOK_EVERY)
            yield [group.pid for group in groups]
        finally:
            for group in groups:
                with suppress(ProcessLookupError):
                    group.stop()
            until = time.monotonic() + START_WITHIN
            while not all(group.ended for group in groups) and time.monotonic() < until:
                time.sleep(LOOK_EVERY)
            for group in groups:
                group.reap()
