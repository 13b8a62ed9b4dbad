"""What is measured, in which order. Everything that is compared runs in turns, because a machine is not as fast at noon as at one."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles

from django.conf import settings
from django.db.models import Count, Max, Min, Q

from campaigns.models import Campaign, MailingList
from mailhub.bench import accepting, surroundings
from mailhub.bench.accepting import Taken
from mailhub.bench.memory import Peak
from mailhub.bench.site import ORDERS, RECEIPT, Failed, Site, Working, clear, environment_of, measured, tidy, working
from mailhub.delivery.models import Attempt, Batch, Message
from mailhub.lib import clock
from transactional import sending
from transactional.models import Submission
from transactional.requests import Request

# Transactional mails that are handed in while the large campaign runs, and seconds between two of them.
PROBES = 200
PROBE_EVERY = 0.1
# What the peers send in each round: it is enough to tell, and the slowest takes some seconds over it.
PEERS_SEND = 4_000
PEERS = {"django": "Django's SMTP backend in a loop", "post_office": "django-post_office, two processes"}

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    #: recipients of the campaigns that are compared
    messages: int
    rounds: int
    #: recipients of the large campaign
    large: int
    #: relays that share a campaign
    relays: int
    #: leave out what others do
    alone: bool


@dataclass
class Figures:
    """Rates are a second's, one a round; rounds of one number were run side by side."""

    signed: list[float] = field(default_factory=list)
    signed_limit: list[float] = field(default_factory=list)
    unsigned: list[float] = field(default_factory=list)
    unsigned_limit: list[float] = field(default_factory=list)
    peers: dict[str, list[float]] = field(default_factory=dict)
    #: signed mails by one and by two workers of one process each
    one_worker: float = math.nan
    two_workers: float = math.nan
    imported: float = math.nan
    expanded: float = math.nan
    #: seconds from the launch of the large campaign to the first reply for it
    first_mail: float = math.nan
    #: seconds from the acceptance of each transactional mail to the relay's reply
    transactional: list[float] = field(default_factory=list)
    #: mails accepted durably
    by_api: float = math.nan
    by_smtp: float = math.nan
    #: what one of them cost, by door
    costs: dict[str, Taken] = field(default_factory=dict)
    peak: Peak = field(default_factory=Peak)
    #: what the bare loop ran on
    loop: str = ""

    def ratio(self, kind: str) -> float:
        """The median of MailHub's part of the limit, each of the same round."""
        mine, limit = getattr(self, kind), getattr(self, f"{kind}_limit")
        return median(ours / most for ours, most in zip(mine, limit, strict=True)) if mine else math.nan

    @property
    def transactional_p95(self) -> float:
        return quantiles(self.transactional, n=20)[-1] if len(self.transactional) > 1 else math.nan


class Benchmark:
    """One run, on empty databases and with a mail server that takes everything. `show` is told where it stands, a line at a time."""

    def __init__(self, plan: Plan, databases: tuple[str, str], server: tuple[str, int], show: Show) -> None:
        self.plan = plan
        self.database, self.peers_database = databases
        self.server = server
        self.show = show
        self.figures = Figures()

    def run(self) -> Figures:
        """Raises Failed."""
        self.show("Contacts are imported …")
        self.site = Site.make(*self.server)
        readers, _seconds = self.site.subscribe("Readers", self.plan.messages)
        everyone, seconds = self.site.subscribe("Everyone", self.plan.large)
        self.figures.imported = self.plan.large / seconds
        for number in range(1, self.plan.rounds + 1):
            self.round(readers, f"round {number} of {self.plan.rounds}")
        self.scale(readers)
        self.expand(everyone)
        self.rush(everyone)
        self.accept()
        return self.figures

    def round(self, readers: MailingList, name: str) -> None:
        figures = self.figures
        self.site.spread(self.plan.relays)
        with working(self.database, figures.peak) as workers:
            figures.signed.append(self.campaign(readers, True, workers, f"MailHub, signed, {name}"))
        figures.signed_limit.append(self.limit(True, f"The limit, signed, {name}"))
        with working(self.database, figures.peak) as workers:
            figures.unsigned.append(self.campaign(readers, False, workers, f"MailHub, unsigned, {name}"))
        figures.unsigned_limit.append(self.limit(False, f"The limit, unsigned, {name}"))
        for peer, words in {} if self.plan.alone else PEERS.items():
            figures.peers.setdefault(peer, []).append(self.peer(peer, f"{words}, {name}"))

    def campaign(self, readers: MailingList, signed: bool, workers: Working, name: str) -> float:
        """Mails settled a second, from the first to the last, all recipients being in when it begins."""
        clear()
        self.site.sign(signed)
        self.site.pause()
        batch = self.fill(readers, workers, name)
        tidy("delivery_message")
        self.site.resume()
        settled = Message.objects.filter(batch=batch)

        def over() -> bool:
            batch.refresh_from_db()
            self.show(f"{name}: {batch.sent} of {batch.total} sent")
            return batch.status == Batch.Status.DONE

        workers.wait(over)
        if batch.sent != batch.total:
            raise Failed(f"{batch.total - batch.sent} of {batch.total} mails were not taken: {refusal(batch)}")
        span = settled.aggregate(first=Min("settled_at"), last=Max("settled_at"))
        # Those of the first moment took their time before it.
        count = settled.filter(settled_at__gt=span["first"]).count()
        return float(count / (span["last"] - span["first"]).total_seconds()) if count else math.nan

    def fill(self, readers: MailingList, workers: Working, name: str) -> Batch:
        batch = self.site.launch(readers)

        def over() -> bool:
            batch.refresh_from_db()
            self.show(f"{name}: {batch.total} recipients are in")
            return batch.filled

        workers.wait(over)
        return batch

    def limit(self, signed: bool, name: str) -> float:
        self.show(f"{name} …")
        module = [sys.executable, "-m", "mailhub.bench.limit", "--database", self.database, "--host", self.server[0]]
        options = ["--port", str(self.server[1]), "--messages", str(self.plan.messages), *([] if signed else ["--unsigned"])]
        found = measured([*module, *options], self.surroundings())
        self.figures.loop = found["loop"]
        return float(found["per_s"])

    def peer(self, peer: str, name: str) -> float:
        self.show(f"{name} …")
        command = [sys.executable, "-m", "mailhub.bench.peers.sending", peer, "--messages", str(min(PEERS_SEND, self.plan.messages))]
        where = {"DATABASE_URL": self.peers_database, "PEERS_HOST": self.server[0], "PEERS_PORT": str(self.server[1])}
        return float(measured(command, {**self.surroundings(), **where})["per_s"])

    def surroundings(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(settings.BASE_DIR)}

    def scale(self, readers: MailingList) -> None:
        """One worker of one process, and two, which share one relay."""
        self.site.spread(1)
        for count in (1, 2):
            with working(self.database, Peak(), workers=count, processes=1) as workers:
                rate = self.campaign(readers, True, workers, f"MailHub, signed, {count} × 1 process")
            setattr(self.figures, "one_worker" if count == 1 else "two_workers", rate)

    def expand(self, everyone: MailingList) -> None:
        """Recipients taken in a second while nothing is sent."""
        clear()
        self.site.pause()
        with working(self.database, self.figures.peak) as workers:
            began = clock.now()
            batch = self.fill(everyone, workers, "The large campaign is filled")
        # When its last recipients came in.
        ended = Campaign.objects.get(batch=batch).filling_at
        if ended is None or batch.total != self.plan.large:
            raise Failed(f"{batch.total} of {self.plan.large} recipients were taken in.")
        self.figures.expanded = batch.total / (ended - began).total_seconds()

    def rush(self, everyone: MailingList) -> None:
        """The large campaign is sent, signed, and transactional mail comes in meanwhile. It is not waited for its end."""
        clear()
        self.site.spread(self.plan.relays)
        self.site.sign(True)
        self.site.resume()
        with working(self.database, self.figures.peak) as workers:
            began = clock.now()
            batch = self.site.launch(everyone)
            tried = Attempt.objects.filter(message__batch=batch)
            self.show("The large campaign is launched …")
            workers.wait(tried.exists)
            self.figures.first_mail = (tried.order_by("finished_at")[0].finished_at - began).total_seconds()
            self.figures.transactional = self.probe(batch, workers)
            self.site.pause()
        clear()

    def accept(self) -> None:
        """Mails handed in by each door, while nothing is sent."""
        environment = environment_of(self.database)
        for door, take_in in (("api", accepting.by_api), ("smtp", accepting.by_smtp)):
            clear()
            self.show(f"Mails are handed in by {'HTTP' if door == 'api' else 'SMTP'} …")
            self.figures.costs[door] = taken = take_in(self.site.project, surroundings.free_port(), environment)
            setattr(self.figures, f"by_{door}", taken.rate)
        clear()

    def probe(self, batch: Batch, workers: Working) -> list[float]:
        accepted: dict[int, float] = {}
        for number in range(PROBES):
            batch.refresh_from_db()
            if batch.status == Batch.Status.DONE:
                break
            self.show(f"Transactional mail beside the large campaign: {number} of {PROBES} handed in, {batch.sent} of {batch.total} sent")
            data = {"name": f"Reader {number}", "city": "Kyoto", "unsubscribe_url": ""}
            request = Request(
                sender=ORDERS, recipients=[f"customer{number}@example.net"], via=Submission.Via.API, template=RECEIPT, data=data,
                language="en", project=self.site.project,
            )  # fmt: skip
            message = sending.send(request).content.messages.get()
            accepted[message.pk] = time.time()
            time.sleep(PROBE_EVERY)
        handed_over = Attempt.objects.filter(message__in=list(accepted), outcome=Attempt.Outcome.SENT)
        workers.wait(lambda: handed_over.count() == len(accepted), 120)
        return [attempt.finished_at.timestamp() - accepted[attempt.message_id] for attempt in handed_over]


def refusal(batch: Batch) -> str:
    """The most frequent reply to what was not taken."""
    others = batch.messages.filter(~Q(status=Message.Status.SENT)).values("reply").annotate(count=Count("pk")).order_by("-count")
    return str(others[0]["reply"]) if others else ""
