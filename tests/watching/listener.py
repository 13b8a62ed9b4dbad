"""A web server on 127.0.0.1 that keeps what is posted to it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Post:
    path: str
    fields: dict[str, str]
    body: bytes


class Listener:
    def __init__(self) -> None:
        self.posts: list[Post] = []
        #: what it answers
        self.status = 200
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.listener = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/alerts"

    def __enter__(self) -> Listener:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        listener: Listener = self.server.listener  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        listener.posts.append(Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(listener.status)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass
