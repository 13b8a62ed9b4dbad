"""A customer's web server: on 127.0.0.1, over plain HTTP, believing only what is signed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mailhub.lib import signing


@dataclass(frozen=True, slots=True)
class Heard:
    #: webhook-id
    id: str
    payload: dict[str, Any]

    @property
    def keys(self) -> list[int]:
        return [int(event["event_id"]) for event in self.payload["data"]]


class Receiver:
    """Gives the next of `answers`, a status or what a function makes of the post (None: it hangs up), and 204 when there is none left."""

    def __init__(self) -> None:
        self.secrets: list[str] = []
        self.answers: list[int | Callable[[Heard], int]] = []
        self.always: int | Callable[[Heard], int] = 204
        self.fields: dict[str, str] = {}
        self.words = "thanks"
        self.heard: list[Heard] = []
        #: those of them that were answered with 2xx
        self.taken: list[Heard] = []
        self.unsigned = 0
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.receiver = self
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?from=mailhub"

    @property
    def keys(self) -> list[int]:
        """Of the events that were taken, in the order in which they came."""
        return [key for heard in self.taken for key in heard.keys]

    def __enter__(self) -> Receiver:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            id = signing.verify(receiver.secrets, self.headers, body)
        except signing.BadSignature:
            receiver.unsigned += 1
            self.send_error(401)
            return
        heard = Heard(id, json.loads(body))
        receiver.heard.append(heard)
        answer = receiver.answers.pop(0) if receiver.answers else receiver.always
        status = answer if isinstance(answer, int) else answer(heard)
        if status < 300:
            receiver.taken.append(heard)
        words = b"" if status == 204 else receiver.words.encode()
        self.send_response(status)
        for name, value in receiver.fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)
