"""A web server on 127.0.0.1 that answers under TLS with the very bytes that a test gave it, which need not be HTTP.

with HTTPSServer(authority.issue("www.example.test")) as server:
    server.say("www.example.test", "/", page("hello"))
    await http.get("https://www.example.test/", ..., connect=server.connect, trust=authority.trust)
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass

from mailhub.lib import dialer
from tests.certificates import Identity


def page(body: str | bytes, status: int = 200, media_type: str = "text/plain", **fields: str) -> bytes:
    """An answer as servers give it."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Words", f"Content-Type: {media_type}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


@dataclass(frozen=True, slots=True)
class Posted:
    path: str
    fields: dict[str, str]
    body: bytes


class HTTPSServer:
    def __init__(self, identity: Identity) -> None:
        self.context = identity.context()
        self.answers: dict[tuple[str, str], bytes] = {}
        #: every request that came, as (host, path)
        self.asked: list[tuple[str, str]] = []
        #: those of them that came with a body
        self.posted: list[Posted] = []
        #: set: an answer is followed by silence instead of the connection's end
        self.lingering = False
        self.over = threading.Event()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.pages = self

    def say(self, host: str, path: str, answer: bytes) -> None:
        self.answers[host, path] = answer

    async def connect(self, host: str, port: int) -> socket.socket:
        """In place of lib/http.py's: every host is here."""
        return await dialer.connect(["127.0.0.1"], self.server.server_address[1])

    def __enter__(self) -> HTTPSServer:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    pages: HTTPSServer


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        pages = self.server.pages
        # A client that does not believe us, or has heard enough, goes without a word.
        with suppress(OSError), pages.context.wrap_socket(self.request, server_side=True) as sock, sock.makefile("rb") as lines:
            method, path, _version = lines.readline().decode().split()
            fields = dict(line.decode().rstrip("\r\n").split(": ", 1) for line in iter(lines.readline, b"\r\n"))
            pages.asked.append((fields["Host"], path))
            if method == "POST":
                pages.posted.append(Posted(path, fields, lines.read(int(fields["Content-Length"]))))
            sock.sendall(pages.answers.get((fields["Host"], path), page("", 404)))
            if pages.lingering:
                pages.over.wait(10)
            with suppress(OSError, ssl.SSLError):
                sock.unwrap()
