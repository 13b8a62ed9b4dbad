"""Counts of mail that came back, summed up. Index returns_count_once: a range of days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db.models import F, Max, Min, QuerySet, Sum

from mailhub.delivery.models import Event, Message
from mailhub.feedback.returns.models import Count, Returned

# Columns that people choose by, and the type of each.
COLUMNS: Mapping[str, type] = {
    "category": str, "kind": str, "relay_key": int, "destination_key": str, "batch_key": int, "wording": int,
}  # fmt: skip
# Rows of a table; mails of a page.
MOST, PAGE = 50, 100


def counts(first: date, last: date, **only: Any) -> QuerySet[Count]:
    return Count.objects.filter(day__gte=first, day__lte=last, **only).order_by()


def by(found: QuerySet[Count], column: str) -> list[tuple[Any, dict[str, int]]]:
    """Value -> number by kind; the most first."""
    sums: dict[Any, dict[str, int]] = {}
    for value, kind, number in found.values_list(column, "kind").annotate(n=Sum("number")):
        sums.setdefault(value, {})[kind] = number
    return sorted(sums.items(), key=lambda pair: -sum(pair[1].values()))


@dataclass(frozen=True, slots=True)
class Words:
    """A wording in a range of days."""

    key: int
    text: str
    category: str
    kind: str
    number: int
    first: date
    last: date


def wordings(found: QuerySet[Count], most: int = MOST) -> list[Words]:
    rows = (
        found.values("wording_id", "category", "kind")
        .annotate(number=Sum("number"), first=Min("day"), last=Max("day"), text=F("wording__text"))
        .order_by("-number", "wording_id")[:most]
    )
    return [Words(row["wording_id"], row["text"], row["category"], row["kind"], row["number"], row["first"], row["last"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Mail:
    key: int
    message: Message
    event: Event | None


def mails(found: QuerySet[Count], before: int = 0) -> tuple[list[Mail], int]:
    """The newest of these counts, and where to go on; 0 at the end. Of single wordings index returns_returned_of, of many the primary
    key."""
    rows = Returned.objects.filter(count__in=found).order_by("-pk")
    if before:
        rows = rows.filter(pk__lt=before)
    keys = list(rows.values_list("pk", "message_key", "event_key")[: PAGE + 1])
    messages = Message.objects.select_related("relay").defer("relay__secrets").in_bulk([message for _pk, message, _event in keys])
    events = Event.objects.in_bulk([event for _pk, _message, event in keys])
    shown = [Mail(pk, messages[message], events.get(event)) for pk, message, event in keys[:PAGE] if message in messages]
    return shown, keys[PAGE - 1][0] if len(keys) > PAGE else 0
