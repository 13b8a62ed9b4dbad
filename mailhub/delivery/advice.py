"""Which relay to use: how much mail there is, what the present relays carry and cost, and what services would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.utils import timezone

from mailhub.delivery import carried, throughput
from mailhub.delivery.carried import Load
from mailhub.relays import costs
from mailhub.relays.costs import Need, Offer, Rates
from mailhub.relays.models import Plan, Quota, Relay, Service
from mailhub.senders.models import Sender

# Months that are looked back on, the present one included.
MONTHS = 6
# How many of a quota's periods the shortest month has.
IN_A_MONTH = {Quota.Period.MINUTE: 28 * 24 * 60, Quota.Period.HOUR: 28 * 24, Quota.Period.DAY: 28, Quota.Period.MONTH: 1}


def months(now: datetime) -> list[datetime]:
    """The first moments of the last MONTHS months of the site's calendar, the oldest first."""
    found = [timezone.localtime(now).replace(day=1, hour=0, minute=0, second=0, microsecond=0)]
    while len(found) < MONTHS:
        before = found[0].date() - timedelta(days=1)
        found.insert(0, datetime(before.year, before.month, 1, tzinfo=timezone.get_current_timezone()))
    return found


# ------------------------------------------------------------------------------------------------------------ how much there is


@dataclass(frozen=True, slots=True)
class Volume:
    """Mails accepted by relays, as counted."""

    #: of the fullest of the last months
    month: int
    day: int
    hour: int
    since: datetime


def volume(stream: str, now: datetime) -> Volume:
    """The greatest of the last months, by day and hour of the clock."""
    since = months(now)[0]
    only = {"stream": stream} if stream else {}
    by_hour = {hour: count.accepted for (hour,), count in throughput.between(since, now, "hour", **only).items()}
    by_day: dict[date, int] = {}
    by_month: dict[tuple[int, int], int] = {}
    for hour, count in by_hour.items():
        day = timezone.localtime(hour).date()
        by_day[day] = by_day.get(day, 0) + count
        by_month[day.year, day.month] = by_month.get((day.year, day.month), 0) + count
    return Volume(max(by_month.values(), default=0), max(by_day.values(), default=0), max(by_hour.values(), default=0), since)


# ----------------------------------------------------------------------------------------------------------- the present relays


@dataclass(frozen=True, slots=True)
class Present:
    relay: Relay
    #: mails accepted, month by month, the oldest first
    history: Sequence[int]
    #: mails a month that its quotas let through; None where none is entered
    capacity: int | None
    #: quotas that the need passes
    passed: Sequence[Quota]
    #: the month from which its quotas no longer do, if it grows as it did; None where it does not
    until: date | None
    plan: Plan | None
    #: of the present month so far; None where no plan is entered
    cost: Decimal | None

    @property
    def current(self) -> int:
        return self.history[-1]


def present(need: Need | None, now: datetime) -> list[Present]:
    starts = months(now)
    counts = {
        at: {relay: count.accepted for (relay,), count in throughput.between(start, end, "relay_key").items()}
        for at, (start, end) in enumerate(zip(starts, [*starts[1:], now], strict=True))
    }
    relays = Relay.objects.defer("secrets").prefetch_related("quotas", "plans__plan__service").order_by("name")
    return [_present(relay, [counts[at].get(relay.pk, 0) for at in range(MONTHS)], need, now) for relay in relays]


def _present(relay: Relay, history: Sequence[int], need: Need | None, now: datetime) -> Present:
    quotas = list(relay.quotas.all())
    capacity = min((quota.limit * IN_A_MONTH[Quota.Period(quota.period)] for quota in quotas), default=None)
    plan = in_force(relay, timezone.localdate(now))
    cost = costs.monthly(plan, history[-1]) if plan else None
    return Present(relay, history, capacity, _passed(quotas, need), _until(history, capacity, now), plan, cost)


def in_force(relay: Relay, on: date) -> Plan | None:
    """The plan that is paid on that day."""
    rows = sorted((row for row in relay.plans.all() if row.valid_from <= on), key=lambda row: row.valid_from)
    return rows[-1].plan if rows else None


def _passed(quotas: Sequence[Quota], need: Need | None) -> list[Quota]:
    if need is None:
        return []
    return [quota for quota in quotas if need.within(quota.period) > quota.limit]


def _until(history: Sequence[int], capacity: int | None, now: datetime) -> date | None:
    """By a straight line through the full months in which it had mail; three of them at least."""
    full = list(history[:-1])
    while full and not full[0]:
        full.pop(0)
    if capacity is None or len(full) < 3:
        return None
    middle, mean = (len(full) - 1) / 2, sum(full) / len(full)
    slope = sum((at - middle) * (count - mean) for at, count in enumerate(full)) / sum((at - middle) ** 2 for at in range(len(full)))
    if slope <= 0:
        return None
    ahead = max(int((capacity - full[-1]) / slope), 0)
    today = timezone.localdate(now)
    month = today.year * 12 + today.month - 1 + ahead
    return date(month // 12, month % 12 + 1, 1) if ahead < 120 else None


# --------------------------------------------------------------------------------------------------------------------- services


def offers(need: Need, rates: Rates) -> list[Offer]:
    plans: dict[str, list[Plan]] = {}
    for plan in Plan.objects.select_related("service"):
        plans.setdefault(plan.service_id, []).append(plan)
    return costs.ranked([costs.offer(service, plans.get(service.pk, []), need) for service in Service.objects.all()], rates)


# ----------------------------------------------------------------------------------------------------------------------- report


@dataclass(frozen=True, slots=True)
class Row:
    """What one relay carried for one sender, month by month."""

    sender: str
    relay: str
    loads: Sequence[Load]

    @property
    def total(self) -> Load:
        return carried.total(self.loads)


def report(now: datetime) -> tuple[list[datetime], list[Row]]:
    """Months, and what was carried in them; those with the most mail first. A name that is gone is told by its number."""
    starts = months(now)
    found = carried.months(starts)
    pairs = {(sender, relay) for _month, sender, relay in found}
    senders: Mapping[int, str] = dict(Sender.objects.values_list("pk", "email"))
    relays: Mapping[int, str] = dict(Relay.objects.values_list("pk", "name"))
    rows = [
        Row(
            senders.get(sender, f"#{sender}"),
            relays.get(relay, f"#{relay}"),
            [found.get((month, sender, relay), Load()) for month in starts],
        )
        for sender, relay in pairs
    ]
    return starts, sorted(rows, key=lambda row: (-row.total.accepted, row.sender, row.relay))
