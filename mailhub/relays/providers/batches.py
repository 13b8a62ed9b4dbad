"""Several mails to an e-mail service provider in one request, where it has one for mails that differ.

Anymail makes a request for each mail and reads the answer to it. What is asked for at the same moment by the connections of one drain goes
out together here, and each gets its own part of the answer, in the form that an answer to it alone would have had."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
from django.utils.translation import gettext as _

# Seconds that the first of a batch waits for others.
GATHER = 0.03
# Bytes that go out together: all of these services take more.
LARGEST = 5_000_000

#: status and body of one mail's answer
Part = tuple[int, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """How a service takes several mails at once (its API reference, "batch" or "bulk")."""

    most: int
    #: the address for one mail -> that for several
    url: Callable[[str], str]
    #: the bodies for one mail each -> that for several
    join: Callable[[list[Any]], Any]
    #: what was answered, and how many were asked for -> what each would have been answered; None: it is not understood
    split: Callable[[Any, int], list[Part] | None]
    headers: dict[str, str] = field(default_factory=dict)
    #: bodies with one of these fields cannot go together with others
    alone: frozenset[str] = frozenset()


@dataclass(slots=True)
class Asked:
    """A request for one mail, and what came of it."""

    web: Any
    options: dict[str, Any]
    done: threading.Event = field(default_factory=threading.Event)
    response: requests.Response | None = None
    error: Exception | None = None

    @property
    def size(self) -> int:
        return len(self.options["data"])


class Gatherer:
    """What the connections of one drain ask for at the same moment. Each waits in its own thread; the first of a batch asks for all."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.lock = threading.Lock()
        self.waiting: list[Asked] = []
        #: nobody is left who could ask for more
        self.full = threading.Event()
        self.connections = 0

    def opened(self) -> None:
        with self.lock:
            self.connections += 1

    def closed(self) -> None:
        with self.lock:
            self.connections -= 1

    def request(self, web: Any, options: dict[str, Any]) -> requests.Response:
        """The answer to this request, made together with others. Raises what requests does."""
        if self.batch.alone & json.loads(options["data"]).keys():
            alone: requests.Response = web.ask(options)
            return alone
        mine = Asked(web, options)
        with self.lock:
            self.waiting.append(mine)
            first = len(self.waiting) == 1
            if len(self.waiting) >= self.connections:
                self.full.set()
        if first:
            self.full.wait(GATHER)
            with self.lock:
                asked, self.waiting = self.waiting, []
                self.full.clear()
            for group in self.groups(asked):
                self.ask(group)
        mine.done.wait()
        if mine.error:
            raise mine.error
        assert mine.response is not None  # noqa: S101
        return mine.response

    def groups(self, asked: Sequence[Asked]) -> list[list[Asked]]:
        """No more at once than the service takes, nor more bytes."""
        groups: list[list[Asked]] = []
        room, count = 0, 0
        for one in asked:
            if one.size > room or count == self.batch.most:
                groups.append([])
                room, count = LARGEST, 0
            groups[-1].append(one)
            room, count = room - one.size, count + 1
        return groups

    def ask(self, group: list[Asked]) -> None:
        """Everybody in the group hears, whatever happens."""
        web = group[0].web
        try:
            if len(group) == 1:
                group[0].response = self.insist(web, group[0].options)
            else:
                for one, response in zip(group, self.together(web, group), strict=True):
                    one.response = response
        except Exception as error:  # noqa: BLE001  it is raised where each waits
            for one in group:
                one.error = error
        finally:
            for one in group:
                one.web.door.begun = web.door.begun
                one.done.set()

    def together(self, web: Any, group: list[Asked]) -> list[requests.Response]:
        options = {**group[0].options, "url": self.batch.url(group[0].options["url"])}
        options["data"] = json.dumps(self.batch.join([json.loads(one.options["data"]) for one in group]))
        options["headers"] = {**(options.get("headers") or {}), **self.batch.headers}
        keys = [one.web.headers.get("Idempotency-Key", "") for one in group]
        if any(keys):
            options["headers"]["Idempotency-Key"] = hashlib.sha256(" ".join(keys).encode()).hexdigest()[:32]
        response = self.insist(web, options)
        if not response.ok:
            return [response] * len(group)
        try:
            parts = self.batch.split(response.json(), len(group))
        except (ValueError, AttributeError):
            parts = None
        if parts is None:
            raise requests.RequestException(_("The answer does not tell what became of each mail."))
        return [part(response, status, body) for status, body in parts]

    def insist(self, web: Any, options: dict[str, Any]) -> requests.Response:
        """Where nobody knows, once more: if it has a key by which the service knows it again."""
        if not any("Idempotency-Key" in fields for fields in (options.get("headers") or {}, web.headers)):
            only: requests.Response = web.ask(options)
            return only
        try:
            response: requests.Response = web.ask(options)
        except requests.RequestException:
            if not web.door.begun:
                raise
        else:
            if response.status_code < 500:  # noqa: PLR2004
                return response
        again: requests.Response = web.ask(options)
        return again


def part(whole: requests.Response, status: int, body: Any) -> requests.Response:
    found = requests.Response()
    found.status_code = status
    found.headers = whole.headers
    found.encoding = "utf-8"
    found._content = json.dumps(body).encode()
    return found


# -------------------------------------------------------------------------------------------------------------------- services


def fits(items: Any, count: int) -> bool:
    return isinstance(items, list) and len(items) == count and all(isinstance(item, dict) for item in items)


def _postmark(said: Any, count: int) -> list[Part] | None:
    return [(422 if item.get("ErrorCode") else 200, item) for item in said] if fits(said, count) else None


def _resend(said: Any, count: int) -> list[Part] | None:
    """In the mails' order the numbers of those that were taken; and by their place those that were not."""
    data, errors = said.get("data"), said.get("errors") or []
    wrong = {item.get("index"): item for item in errors if isinstance(item, dict)}
    if not fits(data, count - len(wrong)) or not wrong.keys() <= set(range(count)):
        return None
    taken = iter(data)
    return [(422, {"name": "validation_error", **wrong[place]}) if place in wrong else (200, next(taken)) for place in range(count)]


def _mailjet(said: Any, count: int) -> list[Part] | None:
    items = said.get("Messages")
    if not fits(items, count):
        return None
    return [(200 if item.get("Status") == "success" else 400, {"Messages": [item]}) for item in items]


def _mailtrap(said: Any, count: int) -> list[Part] | None:
    items = said.get("responses")
    return [(200 if item.get("success") else 400, item) for item in items] if fits(items, count) else None


POSTMARK = Batch(500, lambda url: f"{url}/batch", list, _postmark)
# It takes attachments with single mails only.
RESEND = Batch(
    100,
    lambda url: f"{url}/batch",
    list,
    _resend,
    headers={"x-batch-validation": "permissive"},
    alone=frozenset({"attachments", "scheduled_at"}),
)
MAILJET = Batch(
    50,
    lambda url: url,
    lambda bodies: {"Messages": [{**body.get("Globals", {}), **mail} for body in bodies for mail in body["Messages"]]},
    _mailjet,
)
MAILTRAP = Batch(500, lambda url: "/batch".join(url.rsplit("/send", 1)), lambda bodies: {"requests": bodies}, _mailtrap)
