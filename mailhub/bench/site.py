"""A MailHub with all that a campaign needs, filled through its own doors, and the workers that an operator would start."""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from campaigns import imports, launch
from campaigns.imports import Terms
from campaigns.models import Campaign, Consent, MailingList
from mailhub import run
from mailhub.bench import words
from mailhub.bench.memory import Peak, Watch
from mailhub.delivery.models import Batch, Worker
from mailhub.delivery.workers import QUEUES
from mailhub.lib.processes import Group
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.senders.models import DKIMKey, Sender
from transactional.models import Project, Template

# Those of the bare loop (limit.py). A drain of campaigns leaves one connection of each relay to urgent mail.
CONNECTIONS = 20
LOOK_EVERY = 0.2
START_WITHIN = 60.0
STOP_WITHIN = 60.0
NEWS = "news@shop.example"
ORDERS = "orders@shop.example"
RECEIPT = "receipt"
PROJECT = "Benchmark"


class Failed(Exception):
    """What was measured did not end as it should."""


@dataclass(frozen=True, slots=True)
class Site:
    relays: list[Relay]
    route: Route
    news: Sender
    project: Project

    @classmethod
    def make(cls, host: str, port: int) -> Site:
        """With relays, all of them accounts at one server, that wait to be resumed."""
        options = {"host": host, "port": port, "security": "none", "messages_per_connection": 100_000}
        relays = [
            Relay.objects.create(name=f"Benchmark {name}", kind="smtp", options=options, status=Relay.Status.PAUSED) for name in ("A", "B")
        ]
        route = Route.objects.create(name="Benchmark", default_for=Stream.CAMPAIGN)
        urgent = Route.objects.create(name="Benchmark, transactional", default_for=Stream.TRANSACTIONAL)
        RouteMember.objects.create(route=urgent, relay=relays[0])
        law = {"organisation": "Tea Shop Ltd.", "postal_address": "1 Mihoncho\nKyoto", "contact_point": "https://shop.example/contact"}
        news, orders = (Sender.objects.create(email=email, name="Tea Shop", **law) for email in (NEWS, ORDERS))
        for sender in (news, orders):
            sender.confirm()
        project = Project.objects.create(name=PROJECT)
        project.senders.add(orders)
        said = {"source": words.HTML, "text": words.TEXT, "sample": {"name": "Reader", "city": "Kyoto"}}
        Template.objects.create(key=RECEIPT, language="en", subject="Your order", **said).publish(None)
        return cls(relays, route, news, project)

    def spread(self, count: int) -> None:
        """Have so many relays share the campaigns, and the connections."""
        self.route.members.all().delete()
        for relay in self.relays[:count]:
            RouteMember.objects.create(route=self.route, relay=relay)
        Relay.objects.update(max_connections=CONNECTIONS // count + 1)

    def sign(self, signed: bool) -> None:
        """Have the campaigns' domain sign with a new RSA key, or not at all."""
        for key in DKIMKey.objects.filter(status=DKIMKey.Status.SIGNING):
            key.retire()
        if signed:
            DKIMKey.make(self.news.domain).sign_from_now_on()

    def subscribe(self, name: str, count: int) -> tuple[MailingList, float]:
        """A new list of so many contacts, imported as staff would; and the seconds that it took."""
        wanted = MailingList.objects.create(name=name)
        file = io.BytesIO()
        file.write(b"email,name,language,city\n")
        file.writelines(b"reader%d@example.net,Reader %d,en,Kyoto\n" % (number, number) for number in range(count))
        began = time.perf_counter()
        imports.read(file, "benchmark.csv", Terms(wanted, Consent.Basis.OPT_IN, "benchmark", "Yes, send me the tea letter.", None))
        seconds = time.perf_counter() - began
        tidy("campaigns_contact", "campaigns_subscription", "campaigns_consent")
        return wanted, seconds

    def launch(self, audience: MailingList) -> Batch:
        campaign = Campaign.objects.create(
            name="Benchmark", sender=self.news, language="en", subject=words.SUBJECT, html=words.HTML, text=words.TEXT
        )
        campaign.lists.add(audience)
        return launch.launch(campaign, None)

    def pause(self) -> None:
        for relay in Relay.objects.filter(status=Relay.Status.ACTIVE):
            relay.pause()

    def resume(self) -> None:
        for relay in Relay.objects.filter(status=Relay.Status.PAUSED):
            relay.resume()


def tidy(*tables: str) -> None:
    """What PostgreSQL would do by itself a little later."""
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {', '.join(tables)}")


def clear() -> None:
    """Forget all mail and all campaigns. The contacts stay."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE delivery_message, delivery_content, delivery_batch, campaigns_campaign, django_q_ormq CASCADE")


# -------------------------------------------------------------------------------------------------------------------- workers


class Working:
    """Workers at work: each a `manage.py worker`."""

    def __init__(self, groups: list[Group], log: Path) -> None:
        self.groups = groups
        self.log = log

    def wait(self, over: Callable[[], bool], seconds: float = 3600) -> None:
        """Raises Failed."""
        until = time.monotonic() + seconds
        while not over():
            if any(group.ended for group in self.groups):
                raise Failed(f"A worker ended by itself. Its last words:\n{self.last_words()}")
            if time.monotonic() > until:
                raise Failed(f"It took longer than {seconds:.0f} s. The workers' last words:\n{self.last_words()}")
            time.sleep(LOOK_EVERY)

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def stop(self) -> None:
        for group in self.groups:
            group.stop()
        until = time.monotonic() + STOP_WITHIN
        while time.monotonic() < until and not all(group.ended for group in self.groups):
            time.sleep(LOOK_EVERY)
        for group in self.groups:
            group.reap()


def environment_of(database: str) -> dict[str, str]:
    """What the parts of MailHub that are started here need to know."""
    return {
        **run.environment(),
        "DATABASE_URL": database,
        # With it Django keeps every query in memory.
        "DEBUG": "false",
        "SECRET_KEY": settings.SECRET_KEY,
        "MAILHUB_ENCRYPTION_KEYS": ",".join(settings.MAILHUB_ENCRYPTION_KEYS),
        "LOG_FORMAT": "text",
    }


@contextmanager
def working(database: str, peak: Peak, workers: int = 1, processes: int | None = None) -> Iterator[Working]:
    """So many workers, each with so many processes a queue (None: as the environment says), until the block ends. Raises Failed."""
    environment = environment_of(database)
    if processes:
        environment["MAILHUB_WORKERS"] = str(processes)
    nodes = [f"benchmark:{os.getpid()}:{number}" for number in range(workers)]
    with tempfile.NamedTemporaryFile(prefix="mailhub-benchmark-", suffix=".log") as log:
        both = Working([Group(run.working("--node", node), env=environment, output=log.file) for node in nodes], Path(log.name))
        try:
            with Watch([group.pid for group in both.groups], peak):
                both.wait(lambda: Worker.objects.filter(node__in=nodes).count() == workers * len(QUEUES), START_WITHIN)
                yield both
        finally:
            both.stop()


def measured(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """The line of JSON that a part of the benchmark prints, run as a process of its own. Raises Failed."""
    with tempfile.TemporaryFile() as output:
        group = Group(command, env=environment, output=output)
        try:
            while not group.ended:
                time.sleep(LOOK_EVERY)
        finally:
            code = group.reap()
        output.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
    printed = [line for line in lines if line.startswith("{")]
    if code or not printed:
        raise Failed("\n".join([f"{' '.join(command[1:])} failed:", *lines[-20:]]))
    found: dict[str, Any] = json.loads(printed[-1])
    return found
