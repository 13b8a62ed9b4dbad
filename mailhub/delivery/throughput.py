"""What relays said, hour by hour: exact counts of attempts, by relay, destination, address of ours and stream, however many there are.

queue.settle() adds to them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet, Sum

from mailhub.delivery.models import Attempt, Throughput

# Two years, so that a month can be held against the same one of the year before. A row an hour, relay, destination and stream with mail.
KEPT_DAYS = 730
# Seconds from when a mail was taken until a relay took it: upper ends of what is counted together.
BOUNDS = (1, 5, 30, 300, 3600, 86400)
BUCKETS = (*(f"within_{bound}" for bound in BOUNDS), "later")
OUTCOMES = ("accepted", "deferred", "bounced", "refused", "unanswered")
COUNTS = (*OUTCOMES, "seconds", *BUCKETS)
# A refusal that is the address's fault counts as bounced instead.
COLUMN_OF: dict[str, str] = {
    Attempt.Outcome.SENT: "accepted",
    Attempt.Outcome.DEFERRED: "deferred",
    Attempt.Outcome.REFUSED: "refused",
    Attempt.Outcome.RELAY_DOWN: "unanswered",
    Attempt.Outcome.UNKNOWN: "unanswered",
}


@dataclass(frozen=True, slots=True)
class Counts:
    """Attempts by what came of them; see Throughput."""

    accepted: int = 0
    deferred: int = 0
    bounced: int = 0
    refused: int = 0
    unanswered: int = 0
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
    accepted, deferred, bounced, refused, unanswered, seconds, *spread = sums
    return Counts(accepted, deferred, bounced, refused, unanswered, seconds, tuple(spread))


def forget(before: datetime) -> int:
    """Delete the counts of hours before then; returns how many rows."""
    return Throughput.objects.filter(hour__lt=before).delete()[0]
