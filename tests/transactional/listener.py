"""`manage.py smtpd` in a thread of its own, and a client that says exactly what it is told."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import threading
from types import TracebackType

from tests.installation import free_ports
from transactional.models import Credential, Project
from transactional.smtpd import server

HOST = "127.0.0.1"
MAIL = b"From: Tea <shop@example.com>\r\nTo: a@example.net\r\nSubject: Order\r\n\r\nThank you.\r\n"


class Listener:
    def __init__(self) -> None:
        self.port, self.tls_port = free_ports(2)

    def __enter__(self) -> Listener:
        self.listening = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()), name="listener", daemon=True)
        self.thread.start()
        assert self.listening.wait(30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self.thread.join()

    async def serve(self) -> None:
        self.server = server.Server()
        plain, implicit = server.listen([HOST], self.port), server.listen([HOST], self.tls_port)
        self.listening.set()
        await self.server.serve(plain, implicit)

    def stop(self) -> None:
        self.server.loop.call_soon_threadsafe(self.server.stop)


def trusting() -> ssl.SSLContext:
    """Believes any certificate: these tests are about other things."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Client:
    """Says the bytes that it is told to say."""

    def __init__(self, port: int, *, tls: bool = False) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=30)
        if tls:
            self.socket = trusting().wrap_socket(self.socket)
        self.rest = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *args: object) -> None:
        self.socket.close()

    def hear(self) -> str:
        """The next reply, its lines joined by line breaks; "" when the server has left."""
        heard = b""
        while True:
            while b"\n" not in self.rest:
                try:
                    data = self.socket.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    return ""
                self.rest += data
            line, _break, self.rest = self.rest.partition(b"\n")
            assert line.endswith(b"\r") and len(line) <= 511
            heard += line[:-1] + b"\n"
            if line[3:4] != b"-":
                return heard.decode("ascii").rstrip("\n")

    def say(self, text: bytes | str) -> str:
        """A line, and what is answered."""
        self.send((text if isinstance(text, bytes) else text.encode()) + b"\r\n")
        return self.hear()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def start_tls(self) -> None:
        assert self.say("STARTTLS").startswith("220 2.0.0 ")
        assert not self.rest
        self.socket = trusting().wrap_socket(self.socket)

    def log_in(self, user: str, password: str) -> str:
        return self.say(b"AUTH PLAIN " + plain(user, password))


def plain(user: str, password: str, acts_as: str = "") -> bytes:
    return base64.b64encode(f"{acts_as}\0{user}\0{password}".encode())


def issue(project: Project, **fields: object) -> tuple[Credential, str]:
    """A new SMTP credential and its password."""
    credential = Credential(project=project, name="production", **{"kind": Credential.Kind.SMTP, **fields})
    secret = credential.issue()
    credential.save()
    return credential, secret


def envelope(client: Client, *recipients: str, sender: str = "shop@example.com", parameters: str = "") -> None:
    assert client.say(f"MAIL FROM:<{sender}>{parameters}") == "250 2.1.0 OK"
    for recipient in recipients or ("a@example.net",):
        assert client.say(f"RCPT TO:<{recipient}>") == "250 2.1.5 OK"
    assert client.say("DATA").startswith("354 ")


def hand_in(client: Client, mail: bytes = MAIL, *recipients: str, sender: str = "shop@example.com", parameters: str = "") -> str:
    envelope(client, *recipients, sender=sender, parameters=parameters)
    client.send(b"".join(b"." + line if line.startswith(b".") else line for line in mail.splitlines(keepends=True)))
    return client.say(".")
