"""What relays said, hour by hour: exact counts of attempts, by relay, destination, address of ours and stream, however many there are.

queue.settle() adds to them, and events.record_all() what reports tell later of mail that was accepted."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet, Sum

from mailhub.delivery.models import Attempt, Throughput

# Two years, so that a month can be held against the same one of the year before. A row an hour, relay, destination and stream with mail.
KEPT_DAYS = 730
# Seconds from when a mail was taken until a relay took it: upper ends of what is counted together.
BOUNDS = (1, 5, 30, 300, 3600, 86400)
BUCKETS = (*(f"within_{bound}" for bound in BOUNDS), "later")
OUTCOMES = ("accepted", "deferred", "bounced", "refused", "unanswered")
# Of some of these, what more is known: of those not accepted the first, of the accepted the others.
FATES = ("unproven", "returned", "complained")
COUNTS = (*OUTCOMES, *FATES, "seconds", *BUCKETS)
# Refused, for good or for now, since SPF, DKIM or DMARC do not show whose the mail is: RFC 7372 and 8601, Microsoft's own of 5.7.5xx.
UNPROVEN = re.compile(r"[45]\.7\.(2[0-6]|30|32|50[89]|51[15])")
# A refusal that is the address's fault counts as bounced instead.
COLUMN_OF: dict[str, str] = {
    Attempt.Outcome.SENT: "accepted",
    Attempt.Outcome.DEFERRED: "deferred",
    Attempt.Outcome.REFUSED: "refused",
    Attempt.Outcome.RELAY_DOWN: "unanswered",
    Attempt.Outcome.UNKNOWN: "unanswered",
}


# Hour, relay, destination, source and stream.
Place = tuple[datetime, int, str, str, str]


@dataclass(frozen=True, slots=True)
class Counts:
    """Attempts by what came of them; see Throughput."""

    accepted: int = 0
    deferred: int = 0
    bounced: int = 0
    refused: int = 0
    unanswered: int = 0
    unproven: int = 0
    returned: int = 0
    complained: int = 0
    #: of the accepted, all together
    seconds: int = 0
    #: of the accepted, how many in each of BUCKETS
    spread: tuple[int, ...] = (0,) * len(BUCKETS)

    @property
    def tries(self) -> int:
        return self.accepted + self.deferred + self.bounced + self.refused + self.unanswered

    def within(self, share: float) -> int | None:
        """The least of BOUNDS within which that share of the accepted (0.5, 0.95) was accepted; None: longer, or nothing was."""
        reached = 0
        for bound, count in zip(BOUNDS, self.spread, strict=False):
            reached += count
            if reached and reached >= share * self.accepted:
                return bound
        return None


def bucket(seconds: float) -> str:
    return BUCKETS[bisect_left(BOUNDS, seconds)]


def between(since: datetime, until: datetime, *by: str, **only: Any) -> dict[tuple[Any, ...], Counts]:
    """The counts of the hours that begin in [since, until), by the named columns: "hour", "relay_key", "destination_key", "source",
    "stream". `only`: values of such columns that alone are counted. Index delivery_throughput_once: a range of it."""
    rows: QuerySet[Throughput] = Throughput.objects.filter(Q(**only), hour__gte=since, hour__lt=until).order_by()
    sums = rows.values_list(*by).annotate(*(Sum(name) for name in COUNTS)) if by else [tuple(_sum(rows))]
    return {tuple(row[: len(by)]): _counts(row[len(by) :]) for row in sums}


def _sum(rows: QuerySet[Throughput]) -> list[int]:
    found = rows.aggregate(*(Sum(name) for name in COUNTS))
    return [found[f"{name}__sum"] or 0 for name in COUNTS]


def _counts(sums: Sequence[int]) -> Counts:
    accepted, deferred, bounced, refused, unanswered, unproven, returned, complained, seconds, *spread = sums
    return Counts(accepted, deferred, bounced, refused, unanswered, unproven, returned, complained, seconds, tuple(spread))


def add(counts: Mapping[Place, Counter[str]]) -> None:
    """In the caller's transaction, and the last that it does: where two meet here, neither holds what the other still wants.

    Index delivery_throughput_once: a statement a place."""
    # In order of key, so that two transactions never wait for each other.
    with connection.cursor() as cursor:
        for place in sorted(counts):
            hour = connection.ops.adapt_datetimefield_value(place[0])
            cursor.execute(ADD, [hour, *place[1:], *(counts[place][name] for name in COUNTS)])


def hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


ADD = f"""
INSERT INTO delivery_throughput (hour, relay_key, destination_key, source, stream, {", ".join(COUNTS)})
VALUES ({", ".join(["%s"] * (5 + len(COUNTS)))})
ON CONFLICT (hour, relay_key, destination_key, source, stream) DO UPDATE SET
{", ".join(f"{name} = delivery_throughput.{name} + excluded.{name}" for name in COUNTS)}
"""  # noqa: S608  names of columns


def forget(before: datetime) -> int:
    """Delete the counts of hours before then; returns how many rows."""
    return Throughput.objects.filter(hour__lt=before).delete()[0]
