"""How far a campaign has come, in numbers and words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from campaigns.models import Campaign, LeftOut
from mailhub.delivery.models import COUNTERS, Batch
from mailhub.lib import clock
from mailhub.relays import routing

# The parts of the bar, from its left: name -> the batch's counters that it sums up.
PARTS = {
    "sent": ("sent", "delivered"),
    "deferred": ("deferred",),
    "bounced": ("bounced", "complained"),
    "failed": ("failed", "unknown"),
    "kept": ("suppressed", "canceled"),
    "waiting": ("waiting",),
}
OPEN = ("waiting", "deferred")


@dataclass(frozen=True, slots=True)
class Sample:
    """How many messages were through at a time."""

    through: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the bar; the whole bar is 1000 wide."""

    name: str
    # Text, because the language of a page has no say in how SVG writes numbers.
    x: str
    width: str


@dataclass(frozen=True, slots=True)
class Number:
    name: str
    label: str
    count: int


@dataclass(frozen=True, slots=True)
class Progress:
    batch: Batch
    now: datetime
    left_out: dict[str, int]
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
        parts = []
        x = 0.0
        for name, counters in PARTS.items():
            width = 1000 * sum(getattr(self.batch, counter) for counter in counters) / (self.batch.total or 1)
            if width:
                parts.append(Part(name, f"{x:.2f}", f"{width:.2f}"))
            x += width
        return parts

    @property
    def numbers(self) -> list[Number]:
        """The batch's counters: those that everybody looks for, and of the others those that are not 0."""
        found = [Number(name, str(getattr(Batch, name).field.verbose_name), getattr(self.batch, name)) for name in COUNTERS]
        return [number for number in found if number.count or number.name in ("waiting", "sent", "deferred", "bounced", "failed")]

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


def of(campaign: Campaign, before: Sample | None = None) -> Progress | None:
    """Where a launched campaign stands; the rate is since `before`, or else since its launch."""
    if campaign.batch is None:
        return None
    batch = campaign.batch
    now = clock.now()
    since = before or Sample(0, batch.created_at)
    seconds = ((batch.finished_at or now) - since.at).total_seconds()
    done = through(batch) - since.through
    rate = done / seconds if seconds > 0 and done > 0 else None
    return Progress(batch, now, left_out(campaign), _obstacle(campaign, batch, now), rate)


def left_out(campaign: Campaign) -> dict[str, int]:
    """LeftOut.Reason in words -> contacts."""
    found = LeftOut.objects.filter(campaign=campaign).values_list("reason").annotate(n=Count("pk")).order_by("-n")
    return {str(LeftOut.Reason(reason).label): count for reason, count in found}


def _obstacle(campaign: Campaign, batch: Batch, now: datetime) -> str:
    route = campaign.route_in_force
    if batch.status != Batch.Status.RUNNING or not (batch.waiting or batch.deferred):
        return ""
    if route is None:
        return _("There is no route for campaigns any more.")
    if routing.serving(route, now):
        return ""
    relays = list(route.relays.order_by("resting_until"))
    resting = [relay for relay in relays if relay.status == relay.Status.ACTIVE and relay.resting_until]
    if not resting:
        return _("All relays of the route “%(route)s” are paused.") % {"route": route}
    return _("The relay “%(relay)s” rests until %(time)s: %(reason)s") % {
        "relay": resting[0],
        "time": _moment(resting[0].resting_until),
        "reason": resting[0].rest_reason,
    }


def words(campaign: Campaign) -> str:
    """The campaign's state as a sentence."""
    batch = campaign.batch
    if campaign.status == Campaign.Status.SCHEDULED:
        return _("It will be sent on %(when)s.") % {"when": _moment(campaign.scheduled_at)}
    if batch is None:
        return _("A draft: nothing of it has been sent.")
    if batch.status == Batch.Status.RUNNING:
        return _("It is being sent.") if batch.filled else _("It is being sent; more recipients are still coming in.")
    if batch.status == Batch.Status.PAUSED:
        return _("Paused: what waits stays until you resume.")
    if batch.status == Batch.Status.CANCELED:
        return _("Withdrawn on %(when)s: what had not left by then stays here.") % {"when": _moment(batch.finished_at)}
    return _("Finished on %(when)s.") % {"when": _moment(batch.finished_at)}


def _moment(at: datetime | None) -> str:
    return date_format(timezone.localtime(at), "DATETIME_FORMAT") if at else ""
