"""Ways to find messages among very many: every one ends with an index that bounds what is read (docs/performance.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.db.models import Max, Min, Q, QuerySet
from django.utils import timezone

from mailhub.delivery.models import Batch, Content, Message
from mailhub.relays.models import Stream

# Keys and times of rows go together, but for transactions that take a while.
OUT_OF_ORDER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Span:
    """From the first moment up to, without it, the last; None: open."""

    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def of_days(cls, first: str, last: str) -> Span:
        """The days of two dates as browsers write them, both within it. What is no date is open."""
        begin, end = _day(first), _day(last)
        return cls(midnight(begin) if begin else None, midnight(end + timedelta(days=1)) if end else None)

    def __bool__(self) -> bool:
        return bool(self.since or self.until)

    def within(self, rows: QuerySet[Any], moment: str) -> QuerySet[Any]:
        """Those of `rows` whose `moment` is within the span. By their primary keys, which grow with it: some 30 probes of that index for
        each end, and no look at what lies beyond."""
        if self.since:
            rows = rows.filter(pk__gte=edge(rows.model, moment, self.since - OUT_OF_ORDER), **{f"{moment}__gte": self.since})
        if self.until:
            rows = rows.filter(pk__lt=edge(rows.model, moment, self.until + OUT_OF_ORDER), **{f"{moment}__lt": self.until})
        return rows


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    # Others have no day before or after them.
    return day if date(1970, 1, 1) <= day < date(9999, 1, 1) else None


def midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


def edge(model: Any, moment: str, at: datetime) -> int:
    """A primary key: rows with smaller ones are from before `at`, the others from then or later."""
    rows = model._base_manager.order_by("pk")
    ends = rows.aggregate(low=Min("pk"), high=Max("pk"))
    if ends["low"] is None:
        return 0
    low: int = ends["low"]
    high: int = ends["high"] + 1
    while low < high:
        middle = (low + high) // 2
        pk, found = rows.filter(pk__gte=middle).values_list("pk", moment).first() or (high, at)
        if found < at:
            low = pk + 1
        else:
            high = middle
    return low


def saying(contents: QuerySet[Content], subject: str, most: int) -> list[int]:
    """Keys of messages whose content, one of these, has this in its subject; `most` single ones, and `most` of batches.

    Index delivery_message_content for the one, delivery_message_once for the others."""
    found = list(contents.filter(subject__icontains=subject).order_by("-pk").values_list("pk", flat=True)[:most])
    single = Message.objects.filter(stream=Stream.TRANSACTIONAL, content__in=found).order_by()
    batches = list(Batch.objects.filter(content__in=found).order_by("-pk").values_list("pk", flat=True)[:most])
    grouped = Message.objects.filter(Q(batch__in=batches)).order_by()
    return [*single.values_list("pk", flat=True)[:most], *grouped.values_list("pk", flat=True)[:most]]
