"""Workers without their cluster, and sites that hand mail in, born in no time: Django is loaded once, and each is a fork. Run by world.py.

Reads a line of JSON a process (the fields of Options), and answers with its number. They end with this one.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import django

django.setup()

import environ  # noqa: E402
import time_machine  # noqa: E402
from django.db import Error as DatabaseError  # noqa: E402
from django.db import connection  # noqa: E402

from mailhub.delivery import engine, prepare, queue  # noqa: E402
from mailhub.delivery.models import Message  # noqa: E402
from mailhub.lib import processes  # noqa: E402
from mailhub.relays.base import Envelope  # noqa: E402
from mailhub.relays.models import Relay  # noqa: E402
from transactional import sending  # noqa: E402
from transactional.models import Submission  # noqa: E402
from transactional.requests import Request  # noqa: E402

logger = logging.getLogger("tests.faults")


@dataclass(frozen=True, slots=True)
class Options:
    #: its database
    url: str
    #: changes to its environment
    environment: dict[str, str] = field(default_factory=dict)
    #: seconds that its machine's clock is ahead
    skew: float = 0
    #: seconds that it waits when there was nothing to do
    pause: float = 0.02
    #: the only relay that it drains
    relay: int | None = None
    #: making the mail of an address that begins like this kills the worker
    poison: str = ""
    #: or raises what nobody foresaw
    broken: str = ""
    #: it does not drain, but accepts a mail after the other, and writes into this file the number of each that it has accepted
    accepts: str = ""
    #: from this one on
    first: int = 0


def patiently(work: Callable[[], object]) -> None:
    """A task ends when the database is away, and another begins."""
    while True:
        try:
            work()
            return
        except DatabaseError:
            logger.exception("a task ended")
            connection.close()
            time.sleep(0.2)


def drain(options: Options) -> NoReturn:
    relays = Relay.objects.filter(pk=options.relay) if options.relay else Relay.objects.all()

    def round() -> None:
        queue.reap()
        done = [engine.drain(relay, work) for relay in relays.all() for work in ("transactional", "bulk")]
        if not any(done):
            time.sleep(options.pause)

    while True:
        patiently(round)


def hurt(options: Options) -> None:
    envelope = prepare.Compiled.envelope

    def hurting(self: prepare.Compiled, message: Message, *, own_path: bool = False, signed: bool = False) -> Envelope:
        if options.poison and message.address.startswith(options.poison):
            os.kill(os.getpid(), signal.SIGKILL)
        if options.broken and message.address.startswith(options.broken):
            raise RuntimeError("nobody foresaw this")
        return envelope(self, message, own_path=own_path, signed=signed)

    prepare.Compiled.envelope = hurting  # type: ignore[method-assign]


def accept(options: Options) -> NoReturn:
    log = os.open(options.accepts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for number in itertools.count(options.first):
        sending.send(order(number))
        os.write(log, f"{number}\n".encode())
    raise AssertionError("numbers do not end")


def order(number: int) -> Request:
    """What a site asks for, the same each time."""
    return Request(
        sender="shop@tea.example", recipients=[f"taro{number}@example.net"], via=Submission.Via.API, template="order", language="en",
        data={"name": f"Taro {number}"}, idempotency_key=str(number),
    )  # fmt: skip


def live(options: Options) -> NoReturn:
    os.environ.update(options.environment)
    connection.settings_dict.update(environ.Env.db_url_config(options.url))
    if options.skew:
        time_machine.travel(time.time() + options.skew, tick=True).start()
    if options.poison or options.broken:
        hurt(options)
    if options.accepts:
        accept(options)
    drain(options)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getpid()
    for line in sys.stdin:
        if pid := os.fork():
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
            continue
        processes.die_with(parent)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        live(Options(**json.loads(line)))


if __name__ == "__main__":
    main()
