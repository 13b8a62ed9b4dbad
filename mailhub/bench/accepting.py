"""How many mails a second each door takes in, every one of them committed before it is answered. Clients and MailHub share the machine."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from mailhub import run
from mailhub.bench import words
from mailhub.bench.site import LOOK_EVERY, ORDERS, START_WITHIN, Failed
from mailhub.delivery.models import Message
from mailhub.lib.api import Scope
from mailhub.lib.processes import Group
from transactional.models import Credential, Project
from transactional.smtpd import certificates

# Mails, those of one request of the HTTP API, requests at a time, and connections by SMTP.
MAILS, BATCH, REQUESTS, CONNECTIONS = 10_000, 500, 3, 100
HOST = "127.0.0.1"


def by_api(project: Project, port: int, environment: Mapping[str, str]) -> float:
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

    with _served(run.web(port), port, {**environment, "MAILHUB_API_RATE": "0"}):
        # Both processes have what they need.
        for _warming in range(4):
            post(0)
        with ThreadPoolExecutor(REQUESTS) as clients:
            began = time.perf_counter()
            accepted = sum(clients.map(post, range(BATCH, BATCH + MAILS, BATCH)))
            seconds = time.perf_counter() - began
    return _rate(accepted, seconds)


def by_smtp(project: Project, port: int, environment: Mapping[str, str]) -> float:
    """On connections that are kept. Raises Failed."""
    secret = _issue(project, Credential.Kind.SMTP, [])
    credential = base64.b64encode(f"\0{secret[:11]}\0{secret}".encode())

    async def client(number: int) -> int:
        reader, writer = await asyncio.open_connection(HOST, port)
        await _heard(reader)
        for line in (b"EHLO shop.example", b"AUTH PLAIN " + credential):
            writer.write(line + b"\r\n")
            await _heard(reader)
        accepted = 0
        for mail in range(MAILS // CONNECTIONS):
            envelope = f"MAIL FROM:<{ORDERS}>\r\nRCPT TO:<customer{number}.{mail}@example.net>\r\nDATA\r\n"
            writer.write(envelope.encode())
            for _reply in range(3):
                await _heard(reader)
            text = words.TEXT.replace("\n", "\r\n")
            head = f"From: {ORDERS}\r\nTo: customer{number}.{mail}@example.net\r\nSubject: Order {mail}\r\n"
            writer.write(f"{head}MIME-Version: 1.0\r\n\r\n{text}\r\n.\r\n".encode())
            accepted += (await _heard(reader)).startswith(b"250")
        writer.close()
        return accepted

    async def all_clients() -> int:
        return sum(await asyncio.gather(*map(client, range(CONNECTIONS))))

    settings = {
        "MAILHUB_SMTPD_ADDRESSES": HOST, "MAILHUB_SMTPD_PORT": str(port), "MAILHUB_SMTPD_TLS_PORT": "0", "MAILHUB_SMTPD_RATE": "0",
        "MAILHUB_SMTPD_CLEAR_NETWORKS": "127.0.0.0/8", "MAILHUB_SMTPD_CONNECTIONS": str(10 * CONNECTIONS),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, _served(run.taking_in(), port, {**environment, **settings, **_certified(folder)}):
        began = time.perf_counter()
        accepted = asyncio.run(all_clients())
        seconds = time.perf_counter() - began
    return _rate(accepted, seconds)


def _certified(folder: str) -> dict[str, str]:
    """Nobody asks for it here, and no server begins without."""
    path = Path(folder) / "certificate.pem"
    certificates.keep(path, ["localhost"])
    return {"MAILHUB_SMTPD_CERTIFICATE": str(path)}


async def _heard(reader: asyncio.StreamReader) -> bytes:
    """The last line of a reply. Raises Failed for a refusal."""
    while (line := await reader.readline())[3:4] == b"-":
        pass
    if line[:1] not in (b"2", b"3"):
        raise Failed(f"SMTP submission answered: {line.decode(errors='replace').strip()}")
    return line


def _issue(project: Project, kind: str, scopes: list[str]) -> str:
    credential = Credential(project=project, kind=kind, name="benchmark", scopes=scopes)
    secret = credential.issue()
    credential.save()
    return secret


def _rate(accepted: int, seconds: float) -> float:
    if accepted != MAILS or Message.objects.count() < MAILS:
        raise Failed(f"{accepted} of {MAILS} mails were accepted.")
    return accepted / seconds


@contextmanager
def _served(command: list[str], port: int, environment: Mapping[str, str]) -> Iterator[None]:
    """Raises Failed where it does not begin."""
    with tempfile.TemporaryFile() as log:
        group = Group(command, env=dict(environment), output=log)
        try:
            until = time.monotonic() + START_WITHIN
            while run.is_free(port):
                if group.ended or time.monotonic() > until:
                    log.seek(0)
                    raise Failed(f"{' '.join(command)} does not begin: {log.read().decode(errors='replace')[-2000:]}")
                time.sleep(LOOK_EVERY)
            yield
        finally:
            with suppress(ProcessLookupError):
                group.stop()
            until = time.monotonic() + START_WITHIN
            while not group.ended and time.monotonic() < until:
                time.sleep(LOOK_EVERY)
            group.reap()
