"""What each relay carried for each sender, hour by hour: for the report of a move, and of a month.

Counted from the attempts by a task, so that sending costs nothing more. Who reads adds what the task has yet to count, and is never late.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import TruncHour

from mailhub.delivery import upto
from mailhub.delivery.models import Attempt, Carried, CarriedUpTo, Message
from mailhub.delivery.throughput import hour_of

COLUMNS = ("accepted", "deferred", "bounced", "refused", "unanswered")
# Attempts that are counted in one transaction.
GROUP = 50_000

_BOUNCED = Q(outcome=Attempt.Outcome.REFUSED, message__status__in=[Message.Status.BOUNCED, Message.Status.COMPLAINED])
# As throughput.py counts them.
_COUNTS = {
    "accepted": Count("pk", filter=Q(outcome=Attempt.Outcome.SENT)),
    "deferred": Count("pk", filter=Q(outcome=Attempt.Outcome.DEFERRED)),
    "bounced": Count("pk", filter=_BOUNCED),
    "refused": Count("pk", filter=Q(outcome=Attempt.Outcome.REFUSED) & ~_BOUNCED),
    "unanswered": Count("pk", filter=Q(outcome__in=[Attempt.Outcome.RELAY_DOWN, Attempt.Outcome.UNKNOWN])),
}


@dataclass(frozen=True, slots=True)
class Load:
    """Attempts by what came of them."""

    accepted: int = 0
    deferred: int = 0
    bounced: int = 0
    refused: int = 0
    unanswered: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Load) -> Load:
        return Load(*(one - less for one, less in zip(astuple(self), astuple(other), strict=True)))

    @property
    def tries(self) -> int:
        return sum(astuple(self))


def count() -> int:
    """Count the attempts that came until the last time this ran; returns how many. Each is counted once, however often it runs at once."""
    return upto.read_on(CarriedUpTo, Attempt, GROUP, _add)


def _add(after: int, last: int) -> None:
    for (sender, relay, stream, hour), load in _loads(Attempt.objects.filter(pk__gt=after, pk__lte=last)).items():
        place = {"hour": hour, "sender_key": sender, "relay_key": relay, "stream": stream}
        counts = dict(zip(COLUMNS, astuple(load), strict=True))
        if not Carried.objects.filter(**place).update(**{name: F(name) + number for name, number in counts.items()}):
            Carried.objects.create(**place, **counts)


def _loads(attempts: QuerySet[Attempt]) -> dict[tuple[int, int, str, datetime], Load]:
    """By sender, relay, stream and hour. Each attempt by its primary key, and its message by its own."""
    rows = (
        attempts.filter(relay__isnull=False)
        .order_by()
        .annotate(hour=TruncHour("finished_at", tzinfo=UTC))
        .values_list("message__sender", "relay", "message__stream", "hour")
        .annotate(**_COUNTS)
    )
    return {(row[0], row[1], row[2], row[3]): Load(*row[4:]) for row in rows}


def of(sender: int, relays: Sequence[int], streams: Sequence[str], since: datetime) -> dict[int, Load]:
    """What each of the relays carried for the sender in the hours from `since` on, up to this moment."""
    found = dict.fromkeys(relays, Load())
    rows = Carried.objects.filter(hour__gte=hour_of(since), sender_key=sender, relay_key__in=relays, stream__in=streams).order_by()
    for relay, *sums in rows.values_list("relay_key").annotate(*(Sum(name) for name in COLUMNS)):
        found[relay] += Load(*sums)
    for (of_sender, relay, stream, hour), load in _uncounted().items():
        if of_sender == sender and relay in found and stream in streams and hour >= hour_of(since):
            found[relay] += load
    return found


def months(starts: Sequence[datetime]) -> dict[tuple[datetime, int, int], Load]:
    """By month, sender and relay. `starts`: the first moments of the months, of the site's calendar, one after the other; the last is the
    present one. A statement a month is half the work of one that tells months apart row by row."""
    found: dict[tuple[datetime, int, int], Load] = {}
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        rows = Carried.objects.filter(hour__gte=hour_of(start), **({"hour__lt": hour_of(end)} if end else {})).order_by()
        for sender, relay, *sums in rows.values_list("sender_key", "relay_key").annotate(*(Sum(name) for name in COLUMNS)):
            found[start, sender, relay] = Load(*sums)
    for (sender, relay, _stream, hour), load in _uncounted().items():
        if month := next((start for start in reversed(starts) if hour >= hour_of(start)), None):
            found[month, sender, relay] = found.get((month, sender, relay), Load()) + load
    return found


def _uncounted() -> dict[tuple[int, int, str, datetime], Load]:
    read = CarriedUpTo.objects.values_list("read", flat=True).first() or 0
    return _loads(Attempt.objects.filter(pk__gt=read))


def forget(before: datetime) -> int:
    return Carried.objects.filter(hour__lt=before).delete()[0]


def total(loads: Iterable[Load]) -> Load:
    return sum(loads, Load())
