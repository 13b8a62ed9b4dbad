"""What becomes of MailHub with millions of messages: one figure after the other, on the data set that dataset.py makes."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any

from django.conf import settings
from django.db.models import Q, Sum

from campaigns import audience
from campaigns import tasks as campaign_tasks
from campaigns.models import Contact, MailingList
from mailhub.bench import dataset, returned
from mailhub.bench.memory import Peak
from mailhub.bench.pages import Page, Pages
from mailhub.bench.site import Failed, measured, tidy, working
from mailhub.delivery import queue, retention
from mailhub.delivery import tasks as delivery_tasks
from mailhub.delivery.models import OPEN, Attempt, Batch, Content, Message
from mailhub.delivery.queue import Outcome
from mailhub.lib import clock
from mailhub.relays.base import Reply
from mailhub.relays.models import Relay, Stream
from transactional import retention as submissions

Show = Callable[[str], None]

# Claims that are timed, at most, each of so many messages.
CLAIMS = 40
CLAIMED = 500
# So many messages are forgotten at most: it is the rate that counts.
FORGOTTEN = 200_000
# What each figure should reach, a second's or in seconds or MB (docs/performance.md).
EXPANDED_BAR = 50_000
FIRST_MAIL_BAR = 3
PAGE_BAR = 0.3
IMPORTED_BAR = 30_000
MEMORY_BAR = 200


@dataclass(frozen=True, slots=True)
class Plan:
    messages: int
    contacts: int
    #: rows of the file that is imported
    imported: int


@dataclass(frozen=True, slots=True)
class Figure:
    key: str
    words: str
    value: float | None
    bar: float | None = None
    #: the bar is what it may be at most, and not at least
    most: bool = False
    digits: int = 0

    @property
    def holds(self) -> bool | None:
        if self.value is None or self.bar is None:
            return None
        return self.value <= self.bar if self.most else self.value >= self.bar


class Measuring:
    """One run on an empty database, to which this process's default connection leads. `server`: a mail server that takes everything."""

    def __init__(self, plan: Plan, database: str, server: tuple[str, int], show: Show) -> None:
        self.plan = plan
        self.database = database
        self.server = server
        self.show = show
        self.figures: list[Figure] = []
        self.pages: list[Page] = []

    def run(self) -> None:
        """Raises Failed."""
        with self.timed("made_s", "seconds in which all of it was made"):
            self.site = dataset.make(dataset.Size(self.plan.messages, self.plan.contacts), self.server, self.show)
        self.site.spread(1)
        self.everybody = MailingList.objects.order_by("name")[0]
        for part in (self.expand, self.claim, self.first_mail, self.take_back, self.call_pages, self.keep_house, self.forget, self.take_in):
            part()

    def note(self, key: str, words: str, value: float | None, bar: float | None = None, *, most: bool = False, digits: int = 0) -> None:
        self.figures.append(Figure(key, words, value, bar, most, digits))

    def timed(self, key: str, words: str, bar: float | None = None, digits: int = 1) -> _Timed:
        return _Timed(lambda seconds: self.note(key, words, seconds, bar, most=True, digits=digits))

    # ------------------------------------------------------------------------------------------------------------------ mail

    def expand(self) -> None:
        self.show("A large campaign is filled …")
        batch = self.site.launch(self.everybody)
        began = time.perf_counter()
        audience.expand(batch.pk, seconds=3600)
        seconds = time.perf_counter() - began
        batch.refresh_from_db()
        if not batch.filled:
            raise Failed("The large campaign was not filled.")
        self.note("expand_per_s", f"recipients of a campaign to {batch.total:,} taken in a second", batch.total / seconds, EXPANDED_BAR)
        tidy("delivery_message")

    def claim(self) -> None:
        """The queue's part of sending, without the rest: what waits of all batches and senders."""
        self.site.resume()
        # Of a small data set no more than leaves enough for the second time, when half of it is another relay's.
        due = Batch.objects.filter(status=Batch.Status.RUNNING).aggregate(n=Sum("waiting"))["n"] or 0
        claims = min(CLAIMS, due // CLAIMED // 4)
        for relays, words in ((1, ""), (2, ", of a route that two share")):
            self.site.spread(relays)
            if not (times := list(self._claims(self.site.relays[0], words, claims))):
                raise Failed(f"Fewer than {CLAIMED} messages were waiting.")
            key = "" if relays == 1 else "_shared"
            for name, seconds in zip(("claim", "mark", "settle"), zip(*times, strict=True), strict=True):
                milliseconds = 1000 * median(seconds)
                self.note(f"{name}{key}_ms", f"ms to {name} {CLAIMED} messages, median{words}", milliseconds, digits=1)
            rate = CLAIMED * len(times) / sum(map(sum, times))
            self.note(f"queue{key}_per_s", f"messages a second that could pass the queue{words}", rate)
        self.site.pause()

    def _claims(self, relay: Relay, words: str, claims: int) -> Iterator[tuple[float, float, float]]:
        for number in range(claims):
            self.show(f"Messages are claimed and settled{words}: {number} of {claims} …")
            lease = queue.take_lease(relay, "bulk")
            if lease is None:
                raise Failed("The relay has no free connection.")
            before = time.perf_counter()
            found = queue.claim(lease, CLAIMED)
            claimed = time.perf_counter()
            queue.mark(lease, found)
            marked = time.perf_counter()
            now = clock.now()
            reply = Reply(250, "2.0.0", "OK")
            queue.settle(lease, [Outcome(message, Attempt.Outcome.SENT, reply, now, now, Message.Status.SENT) for message in found])
            settled = time.perf_counter()
            queue.end_lease(lease)
            # Those that must not be mailed are settled on the way: a claim may come to a few less.
            if len(found) < CLAIMED * 0.9:
                return
            yield claimed - before, marked - claimed, settled - marked

    def first_mail(self) -> None:
        self.site.spread(1)
        self.site.resume()
        newest = Attempt.objects.order_by("-pk").values_list("pk", flat=True)[0]
        with working(self.database, Peak()) as workers:
            self.show("A large campaign is launched …")
            began = clock.now()
            batch = self.site.launch(self.everybody)
            tried = Attempt.objects.filter(pk__gt=newest, message__batch=batch).order_by("pk")
            workers.wait(tried.exists, 300)
            seconds = (tried[0].finished_at - began).total_seconds()
            self.site.pause()
        batch.cancel()
        queue.withdraw(batch)
        self.note("first_mail_s", "seconds from the launch to the first mail", seconds, FIRST_MAIL_BAR, most=True, digits=2)
        tidy("delivery_message", "delivery_attempt", "delivery_event")

    def take_back(self) -> None:
        returned.run(self.site.relays[0], self.note, self.show)

    # ----------------------------------------------------------------------------------------------------------------- pages

    def call_pages(self) -> None:
        self.pages = Pages(self.show).run()
        named = {
            "lists": "change lists", "searches": "searches", "dashboard": "the first page", "pages": "pages of one row, or of pictures",
            "api": "answers of the API",
        }  # fmt: skip
        for kind, words in named.items():
            of_kind = [page for page in self.pages if page.kind == kind]
            self.note(f"{kind}_p50_s", f"{words}: seconds, median of the slowest", max(page.p50 for page in of_kind), digits=3)
            slowest = max(page.p95 for page in of_kind)
            self.note(f"{kind}_p95_s", f"{words}: seconds, p95 of the slowest", slowest, PAGE_BAR, most=True, digits=3)
            cold = [page.cold for page in of_kind if page.cold is not None]
            self.note(f"{kind}_cold_p50_s", f"{words}: seconds, median of the first calls", median(cold) if cold else None, digits=3)
            self.note(f"{kind}_cold_s", f"{words}: seconds, the slowest first call", max(cold, default=None), digits=3)

    # ----------------------------------------------------------------------------------------------------------------- house

    def keep_house(self) -> None:
        self.show("The house is kept …")
        self.site.resume()
        with self.timed("tick_s", "seconds of a tick, which comes every few seconds", digits=3):
            delivery_tasks.tick()
            campaign_tasks.tick()
        self.site.pause()
        with self.timed("audit_s", "seconds of the nightly audits"):
            wrong = [*delivery_tasks.audit(), *campaign_tasks.audit()]
        if wrong:
            raise Failed(f"The books do not balance: {wrong}")

    def forget(self) -> None:
        self.show("Words and messages are forgotten …")
        before = waiting()
        now = clock.now()
        began = time.perf_counter()
        count = retention.forget_bodies(now - timedelta(days=settings.MAILHUB_KEEP_BODIES_DAYS))
        self.note("bodies_per_s", f"contents whose words are forgotten a second, of {count:,}", count / (time.perf_counter() - began))
        until = now - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS)
        for created_at in Message.objects.order_by("pk").values_list("created_at", flat=True)[FORGOTTEN : FORGOTTEN + 1]:
            until = min(until, created_at)
        began = time.perf_counter()
        count = retention.forget_messages(until)
        self.note("forgotten_per_s", f"messages forgotten a second, of {count:,}", count / (time.perf_counter() - began))
        began = time.perf_counter()
        count = submissions.forget_submissions(until)
        self.note("submissions_per_s", f"submissions forgotten a second, of {count:,}", count / (time.perf_counter() - began))
        if waiting() != before:
            raise Failed("What a waiting message needs was forgotten.")

    def take_in(self) -> None:
        wanted = MailingList.objects.create(name="Fair")
        with tempfile.NamedTemporaryFile("w", prefix="mailhub-benchmark-", suffix=".csv") as file:
            file.writelines(rows(self.plan.imported))
            file.flush()
            for key, words in (("import", "new contacts"), ("import_again", "the same contacts again")):
                self.show(f"A file is imported, {words} …")
                found = self._import(file.name, wanted)
                bar = IMPORTED_BAR if key == "import" else None
                self.note(f"{key}_per_s", f"rows of a file of {self.plan.imported:,} imported a second, {words}", found["per_s"], bar)
                self.note(f"{key}_peak_mb", f"MB of memory that it took, {words}", found["peak_mb"], MEMORY_BAR, most=True)
        if wanted.subscriptions.count() != self.plan.imported:
            raise Failed("Not all of the file was imported.")

    def _import(self, name: str, wanted: MailingList) -> dict[str, Any]:
        command = [sys.executable, "-m", "mailhub.bench.importing", name, str(wanted.pk)]
        where = {"DATABASE_URL": self.database, "DEBUG": "false", "PYTHONPATH": str(settings.BASE_DIR)}
        kept = {"SECRET_KEY": settings.SECRET_KEY, "MAILHUB_ENCRYPTION_KEYS": ",".join(settings.MAILHUB_ENCRYPTION_KEYS)}
        return measured(command, {**os.environ, **where, **kept})


class _Timed:
    def __init__(self, note: Callable[[float], None]) -> None:
        self.note = note

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, failed: object, *args: object) -> None:
        if failed is None:
            self.note(time.perf_counter() - self.began)


def waiting() -> tuple[int, int, int]:
    """Messages that still wait; of the transactional ones those that have the words that they need, and what fills them."""
    going_on = Message.objects.filter(status__in=OPEN)
    single = going_on.filter(stream=Stream.TRANSACTIONAL)
    words = Content.objects.filter(~Q(html=""), pk__in=single.values("content"))
    return going_on.count(), words.count(), single.exclude(data={}).count()


def rows(count: int) -> Iterator[str]:
    """Of a file: people whom nobody knows yet."""
    yield "email,name,language,city,points\n"
    known = Contact.objects.count()
    for number in range(known, known + count):
        yield f"joiner.{number}@company{number % 40}.example,Joiner {number},ja,京都,{number % 1000}\n"


# ---------------------------------------------------------------------------------------------------------------- the report


def lines(plan: Plan, figures: Iterable[Figure], pages: Iterable[Page]) -> Iterator[str]:
    load = os.getloadavg()[1] / (os.cpu_count() or 1)
    yield f"{plan.messages:,} messages, {plan.contacts:,} contacts; the machine's load of late, a processor: {load:.1f}"
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:,.{figure.digits}f}"
        bar = "" if figure.bar is None else f"bar {figure.bar:,}"
        verdict = {True: "held", False: "MISSED", None: ""}[figure.holds]
        yield f"  {figure.words:<78}{value:>12}   {bar:<12}{verdict}".rstrip()
    yield "The slowest pages, in ms: called first, then median and p95 of later calls"
    for page in sorted(pages, key=lambda page: -page.p95)[:20]:
        cold = "-" if page.cold is None else f"{1000 * page.cold:,.0f}"
        yield f"  {cold:>8}{1000 * page.p50:>8,.0f}{1000 * page.p95:>8,.0f}   {page.path}"


def as_json(figures: Iterable[Figure]) -> str:
    """One line: each figure with its bar, and whether that holds."""

    def number(value: float | None, digits: int) -> float | None:
        return None if value is None or math.isnan(value) else round(value, digits or None)

    return json.dumps({
        figure.key: {"value": number(figure.value, figure.digits), "bar": figure.bar, "holds": figure.holds} for figure in figures
    })  # fmt: skip
