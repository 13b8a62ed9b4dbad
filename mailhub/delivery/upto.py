"""Rows that are counted once each, in the order of their keys, by a task that keeps in a row of its own how far it has read.

Keys are drawn when a row is written and seen when its transaction commits, so a smaller one may come to light after a larger one. Hence the
greatest key is noted first, and what lies up to it is read a minute later.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

# A row is stored by then, or not at all: no transaction that writes them lasts so long.
STORED = timedelta(minutes=1)


def read_on(mark: type[Any], rows: type[Any], most: int, take: Callable[[int, int], object]) -> int:
    """Give `take` the keys between which new rows stand (past the first, up to the second), `most` of them at a time, each time in one
    transaction with the `mark`, a model of one row with the fields of CarriedUpTo; returns how many keys that were. Each is taken once,
    however often this runs at once."""
    done = 0
    while part := _read_some(mark, rows, most, take):
        done += part
    return done


@transaction.atomic
def _read_some(mark: type[Any], rows: type[Any], most: int, take: Callable[[int, int], object]) -> int:
    mark.objects.bulk_create([mark(pk=1)], ignore_conflicts=True)
    # Locked, so that one counts at a time.
    upto = mark.objects.select_for_update(no_key=True).get(pk=1)
    this = mark.objects.filter(pk=1)
    now = timezone.now()
    stored = upto.seen_at is None or upto.seen_at <= now - STORED
    if upto.read >= upto.seen:
        if stored:
            newest = rows.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
            this.update(seen=newest, seen_at=now)
        return 0
    if upto.seen_at is None or not stored:
        return 0
    last: int = min(upto.seen, upto.read + most)
    take(upto.read, last)
    this.update(read=last)
    return last - int(upto.read)
