"""What `manage.py demo` does once everything runs: sends a campaign and a few single mails, waits, and holds the books together."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import inf
from pathlib import Path

from django.db.models import Count, Max
from django.utils import timezone

from campaigns import launch
from campaigns.models import Campaign, Contact, LeftOut
from mailhub.delivery import progress
from mailhub.delivery.models import COUNTER_OF, COUNTERS, OPEN, Attempt, Batch, Message, Worker
from mailhub.delivery.workers import QUEUES
from mailhub.demo import receiver, reckoning, sample
from mailhub.demo.receiver import ACCEPTED, Answer, Books
from mailhub.demo.reckoning import Mail, Reckoning, Try
from mailhub.demo.sample import Shop
from mailhub.lib import clock
from mailhub.relays.models import Relay, Stream
from mailhub.run import Together, environment, receiving, working
from transactional import samples, sending
from transactional.models import Submission
from transactional.requests import NotAccepted, Request

LOOK_EVERY = 0.25


class Failed(Exception):
    """The demo cannot go on, or what came out does not add up."""


@dataclass(frozen=True, slots=True)
class Start:
    """How far the books had come before the first mail of this run."""

    answer: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What was handed in."""

    campaign: Campaign
    batch: int
    #: transactional messages' keys
    single: list[int]
    #: contacts on the campaign's lists
    contacts: int
    #: seconds since 1970
    at: float


class Demo:
    """One run. `show` is told where it stands, a line at a time."""

    def __init__(self, shop: Shop, port: int, folder: Path, seconds: float, show: Callable[[str], None]) -> None:
        self.shop = shop
        self.port = port
        self.books = folder / receiver.BOOKS.name
        self.log = folder / "log"
        self.seconds = seconds
        self.show = show
        self.node = f"demo:{os.getpid()}"

    def run(self) -> Report:
        """Raises Failed, and mailhub.run.EndedByItself."""
        only_to_the_receiver(self.shop)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with closing(Books(self.books)) as books:
            start = Start(books.last(), Attempt.objects.aggregate(last=Max("pk"))["last"] or 0)
            sent = self.send()
            return report(sent, start, books, self.port)

    def send(self) -> Sent:
        """With the workers and the server that an operator would start."""
        commands = {"worker": working("--node", self.node), "receiver": receiving(self.port, self.books)}
        with self.log.open("wb") as log:
            together = Together(commands, environment(), log)
            try:
                self.wait(together, self.ready)
                sent = hand_in(self.shop)
                self.wait(together, lambda: self.finished(sent))
            finally:
                self.show("The workers and the server end …")
                together.stop()
        return sent

    def wait(self, together: Together, over: Callable[[], bool]) -> None:
        until = time.monotonic() + self.seconds
        while not over():
            together.look()
            if together.asked:
                raise Failed("Stopped. What was accepted and has not left waits: it leaves with the next “make demo” or “make run”.")
            if time.monotonic() > until:
                raise Failed(f"Not finished after {self.seconds:.0f} s. {self.obstacle()}".rstrip())
            time.sleep(LOOK_EVERY)

    def ready(self) -> bool:
        self.show("The workers and the server start …")
        return receiver.answers(self.port) and Worker.objects.filter(node=self.node).count() == len(QUEUES)

    def finished(self, sent: Sent) -> bool:
        batch = Batch.objects.get(pk=sent.batch)
        left = Message.objects.filter(pk__in=sent.single, status__in=OPEN).count()
        self.show(standing(batch, left))
        return batch.status == Batch.Status.DONE and not left

    def obstacle(self) -> str:
        return progress.obstacle(self.shop.news, Stream.CAMPAIGN, None, clock.now())


def only_to_the_receiver(shop: Shop) -> None:
    """Raises Failed where somebody has had a route lead elsewhere: these are addresses of nobody, and a real relay should not meet them."""
    routes = {shop.news.route(Stream.CAMPAIGN), shop.orders.route(Stream.TRANSACTIONAL)} - {None}
    for relay in Relay.objects.filter(routes__in=routes).exclude(name__in=sample.RELAYS):
        raise Failed(f"Nothing was sent: a route of the demo's senders leads to the relay “{relay}” too. Take it out on the route's page.")


def hand_in(shop: Shop) -> Sent:
    """Launch the campaign, and hand in the single mails that overtake it. Raises Failed."""
    try:
        return _hand_in(shop)
    except (launch.NotReady, NotAccepted) as error:
        raise Failed(f"What the demo sends cannot be sent any more. {error}") from None


def _hand_in(shop: Shop) -> Sent:
    campaign = sample.campaign(shop, f"First flush, {timezone.localtime():%Y-%m-%d %H:%M:%S}")
    contacts = Contact.objects.filter(lists__in=shop.lists).distinct().count()
    at = time.time()
    batch = launch.launch(campaign, sample.login())
    single: list[int] = []
    for key in samples.KEYS:
        for language, customer in sample.CUSTOMERS.items():
            submission = sending.send(
                Request(
                    sender=sample.ORDERS,
                    recipients=[customer],
                    via=Submission.Via.API,
                    template=key,
                    data=samples.read(key, language).data,
                    language=language,
                    project=shop.project,
                )
            )
            single += submission.content.messages.values_list("pk", flat=True)
    return Sent(campaign, batch.pk, single, contacts, at)


def standing(batch: Batch, left: int) -> str:
    """Where the run stands, in one line."""
    parts = [f"{getattr(batch, name)} {name}" for name in COUNTERS if getattr(batch, name)]
    if left:
        parts.append(f"{left} single mails waiting")
    return f"{progress.percent(batch):3} %  {', '.join(parts)}"


# --------------------------------------------------------------------------------------------------------------------- report


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run."""

    campaign: Campaign
    batch: Batch
    contacts: int
    #: LeftOut.Reason -> contacts
    left_out: dict[str, int]
    #: single mails accepted, and how many of them are sent
    single: int
    single_sent: int
    #: mails of the run that were refused for now and sent later
    came_back: int
    reckoning: Reckoning
    #: first tries of the campaign a second, from "Send" on
    rate: float
    #: seconds from "Send" until the server had the first mail
    first: float
    #: seconds from its acceptance until the server had the slowest single mail
    slowest_single: float
    problems: list[str]

    def lines(self) -> Iterator[str]:
        batch, server = self.batch, self.reckoning
        yield f"Campaign “{self.campaign}”"
        yield _line("contacts on the lists", self.contacts)
        yield _line("left out", sum(self.left_out.values()), ", ".join(f"{count} {reason}" for reason, count in self.left_out.items()))
        yield _line("accepted", batch.total)
        yield _line("sent", batch.sent + batch.delivered)
        yield _line("bounced", batch.bounced, "the recipient's server refused the address")
        yield _line("failed", batch.failed, "refused by no fault of the address")
        yield _line("suppressed", batch.suppressed)
        yield "Single mails (order confirmation, purchase details, registration; English and Japanese)"
        yield _line("accepted", self.single)
        yield _line("sent", self.single_sent)
        yield "Counted at the server"
        yield _line("received", server.received, f"and {server.others} of a run that was broken off" if server.others else "")
        yield _line("deferred, then sent", self.came_back, f"{server.replies.get(4, 0)} temporary refusals")
        yield _line("refused for good", server.replies.get(5, 0))
        yield "Altogether"
        yield _line("lost", server.lost)
        yield _line("doubled", server.doubled)
        yield _line("mails a second", round(self.rate), "first tries, from the launch on")
        yield f"  the first mail was there {self.first:.1f} s after the launch; no single mail took longer than {self.slowest_single:.1f} s"


def _line(name: str, number: int, remark: str = "") -> str:
    return f"  {name:<22}{number:>7,}   {remark}".rstrip()


def report(sent: Sent, start: Start, books: Books, port: int) -> Report:
    answers = books.after(start.answer)
    batch = Batch.objects.get(pk=sent.batch)
    single = list(Message.objects.filter(pk__in=sent.single).select_related("content"))
    campaign = list(Message.objects.filter(batch=batch).select_related("content").only(*MAIL))
    found = reckoning.reckon([mail(message) for message in (*campaign, *single)], tries(start.attempt, port), answers)
    left_out = Counter(str(reason.get_reason_display()) for reason in LeftOut.objects.filter(campaign=sent.campaign))
    counters = {name: getattr(batch, name) for name in COUNTERS}
    rows = Counter(COUNTER_OF[Message.Status(message.status)] for message in campaign)
    problems = reckoning.sums(len(campaign), left_out.total(), sent.contacts, counters, rows)
    if len(single) != len(sent.single):
        problems.append(f"{len(sent.single)} single mails were accepted, and {len(single)} are there")
    first_tries = Attempt.objects.filter(message__batch=batch, number=1).aggregate(count=Count("pk"), last=Max("finished_at"))
    return Report(
        campaign=sent.campaign,
        batch=batch,
        contacts=sent.contacts,
        left_out=dict(left_out.most_common()),
        single=len(sent.single),
        single_sent=sum(message.status in reckoning.GONE for message in single),
        came_back=came_back(answers, [*campaign, *single]),
        reckoning=found,
        rate=first_tries["count"] / (first_tries["last"].timestamp() - sent.at) if first_tries["count"] else 0,
        first=min(arrivals(answers, campaign).values(), default=inf) - sent.at,
        slowest_single=slowest(answers, single),
        problems=[*problems, *found.problems],
    )


# What mail() asks of a message; the content itself may be large.
MAIL = ("public_id", "address", "status", "content__from_email")


def mail(message: Message) -> Mail:
    return Mail(message.address, message.message_id, message.status)


def tries(after: int, port: int) -> list[Try]:
    """Attempts since then at the receiver, whatever message they were for: those of a run that was broken off may have come in between."""
    relays = [relay for relay in Relay.objects.filter(kind="smtp") if relay.options.get("port") == port]
    attempts = Attempt.objects.filter(pk__gt=after, relay__in=relays).select_related("message__content")
    return [
        Try(attempt.message.address, attempt.message.message_id, attempt.code)
        for attempt in attempts.only("code", *(f"message__{name}" for name in MAIL))
    ]


def came_back(answers: Sequence[Answer], messages: Sequence[Message]) -> int:
    """Messages that the server has taken after it had refused their recipient for now."""
    refused: set[str] = set()
    wanted = {(message.address, message.message_id) for message in messages}
    count = 0
    for answer in answers:
        if answer.code // 100 == 4:
            refused.add(answer.recipient)
        elif answer.recipient in refused and (answer.recipient, answer.message_id) in wanted:
            refused.discard(answer.recipient)
            count += 1
    return count


def arrivals(answers: Sequence[Answer], messages: Sequence[Message]) -> dict[int, float]:
    """When the server took each of the messages, by their keys; those that it has not got are absent."""
    keys = {(message.address, message.message_id): message.pk for message in messages}
    taken = [answer for answer in answers if answer.code == ACCEPTED]
    return {keys[place]: answer.at for answer in taken if (place := (answer.recipient, answer.message_id)) in keys}


def slowest(answers: Sequence[Answer], messages: Sequence[Message]) -> float:
    """The longest that any of them took from its acceptance to the server, in seconds."""
    arrived = arrivals(answers, messages)
    return max((arrived.get(message.pk, inf) - message.created_at.timestamp() for message in messages), default=inf)
