"""How far a batch has come, in numbers and words, and what holds it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from mailhub.delivery import workers
from mailhub.delivery.models import COUNTERS, Batch
from mailhub.lib import charts, clock
from mailhub.lib.charts import Part
from mailhub.relays import routing
from mailhub.relays.models import Destination, Parking, Relay, Route, Stream, shipped_words
from mailhub.senders.models import Sender

# The parts of the bar, from its left: name -> the batch's counters that it sums up.
PARTS = {
    "sent": ("sent", "delivered"),
    "deferred": ("deferred",),
    "bounced": ("bounced", "complained"),
    "failed": ("failed", "unknown"),
    "kept": ("suppressed", "canceled"),
    "waiting": ("waiting",),
}
# Counters that are shown when they are 0, too.
ALWAYS = ("waiting", "sent", "deferred", "bounced", "failed")
QUEUE_OF = {Stream.TRANSACTIONAL: "transactional", Stream.CAMPAIGN: "bulk"}


@dataclass(frozen=True, slots=True)
class Sample:
    """How many messages were through at a time."""

    through: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Number:
    name: str
    label: str
    count: int


@dataclass(frozen=True, slots=True)
class Progress:
    batch: Batch
    now: datetime
    #: what holds it up, in words, or ""
    obstacle: str
    #: messages a second, None while it is not known
    rate: float | None

    @property
    def through(self) -> int:
        return through(self.batch)

    @property
    def percent(self) -> int:
        return percent(self.batch)

    @property
    def running(self) -> bool:
        """Whether the numbers still change by themselves."""
        if self.batch.status == Batch.Status.CANCELED:
            return bool(self.batch.waiting or self.batch.deferred)
        return self.batch.status != Batch.Status.DONE

    @property
    def bar(self) -> list[Part]:
        return bar(self.batch)

    @property
    def numbers(self) -> list[Number]:
        """The batch's counters: those that everybody looks for, and of the others those that are not 0."""
        found = [Number(name, str(getattr(Batch, name).field.verbose_name), getattr(self.batch, name)) for name in COUNTERS]
        return [number for number in found if number.count or number.name in ALWAYS]

    @property
    def time_left(self) -> timedelta | None:
        if not self.rate or self.batch.status != Batch.Status.RUNNING:
            return None
        return timedelta(seconds=(self.batch.waiting + self.batch.deferred) / self.rate)

    @property
    def duration(self) -> timedelta:
        return (self.batch.finished_at or self.now) - self.batch.created_at


def through(batch: Batch) -> int:
    """Messages of which nothing more is to be done."""
    return batch.total - batch.waiting - batch.deferred


def percent(batch: Batch) -> int:
    """100 only when nothing is left."""
    return 100 * through(batch) // batch.total if batch.total else 0


def bar(batch: Batch) -> list[Part]:
    return charts.shares([(name, sum(getattr(batch, counter) for counter in counters)) for name, counters in PARTS.items()], batch.total)


def of(batch: Batch, before: Sample | None = None) -> Progress:
    """Where the batch stands; the rate is since `before`, or else since its launch."""
    now = clock.now()
    since = before or Sample(0, batch.created_at)
    seconds = ((batch.finished_at or now) - since.at).total_seconds()
    done = through(batch) - since.through
    rate = done / seconds if seconds > 0 and done > 0 else None
    running = batch.status == Batch.Status.RUNNING and (batch.waiting or batch.deferred)
    return Progress(batch, now, obstacle(batch.sender, Stream.CAMPAIGN, batch.route, now) if running else "", rate)


def obstacle(sender: Sender, stream: str, route: Route | None, now: datetime, destination: str = "") -> str:
    """What keeps waiting mail of the sender from being sent, in words, or ""; `route` where the mail names one itself, `destination` where
    it all goes to one."""
    route = route or sender.route(stream)
    if sender.status != Sender.Status.CONFIRMED:
        return _("The sender %(address)s is %(status)s.") % {"address": sender.email, "status": sender.get_status_display()}
    if route is None:
        return _("There is no route for this mail any more.")
    if routing.serving(route, now):
        if QUEUE_OF[Stream(stream)] not in workers.served(now):
            return _("No worker is running that would send it.")
        # What one of them leaves alone takes the next.
        return left_alone([relay for relay in route.relays.defer("secrets") if relay.is_available(now)], now, destination)
    relays = list(route.relays.order_by("resting_until"))
    resting = [relay for relay in relays if relay.status == Relay.Status.ACTIVE and relay.resting_until]
    if resting:
        return _("The relay “%(relay)s” rests until %(time)s: %(reason)s") % {
            "relay": resting[0],
            "time": moment(resting[0].resting_until),
            "reason": resting[0].rest_words,
        }
    ruled = next((relay for relay in relays if relay.status == Relay.Status.PAUSED and relay.pause_reason), None)
    if ruled:
        words = _("The relay “%(relay)s” is paused by a rule: %(reason)s. It stays so until somebody resumes it.")
        return words % {"relay": ruled, "reason": shipped_words(ruled.pause_reason)}
    if relays:
        return _("All relays of the route “%(route)s” are paused.") % {"route": route}
    return _("The route “%(route)s” has no relay.") % {"route": route}


def left_alone(relays: Sequence[Relay], now: datetime, destination: str = "") -> str:
    """Which destinations are left alone by each of the relays, and why, in words; "" where there is none."""
    rows = Parking.objects.filter(relay__in=relays, until__gt=now, sender_domain="").select_related("destination").order_by("-until")
    by_destination: dict[Destination, list[Parking]] = {}
    for row in rows.filter(destination=destination) if destination else rows:
        by_destination.setdefault(row.destination, []).append(row)
    held = {key: found[-1] for key, found in by_destination.items() if len(found) == len({relay.pk for relay in relays})}
    if not held:
        return ""
    first = next(iter(held.values()))
    return _("Mail to %(destinations)s is left alone until %(time)s: %(reason)s") % {
        "destinations": pgettext("between things", ", ").join(str(key) for key in list(held)[:3]),
        "time": moment(first.until),
        "reason": first.words,
    }


def words(batch: Batch) -> str:
    """The batch's state as a sentence."""
    if batch.status == Batch.Status.RUNNING:
        return _("It is being sent.") if batch.filled else _("It is being sent; more recipients are still coming in.")
    if batch.status == Batch.Status.PAUSED:
        return _("Paused: what waits stays until you resume.")
    if batch.status == Batch.Status.CANCELED:
        return _("Withdrawn on %(when)s: what had not left by then stays here.") % {"when": moment(batch.finished_at)}
    return _("Finished on %(when)s.") % {"when": moment(batch.finished_at)}


def moment(at: datetime | None) -> str:
    return date_format(timezone.localtime(at), "DATETIME_FORMAT") if at else ""
