"""How a list has grown, as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from django.db.models import Count
from django.db.models.functions import TruncWeek
from django.utils import timezone

from campaigns.models import MailingList, Subscription

WEEKS = 26


@dataclass(frozen=True, slots=True)
class Week:
    #: its Monday
    start: date
    joined: int
    left: int
    # Of the picture, which is 100 high with the zero line at 60; a week is 10 wide, and its bar 8.
    x: int
    x_bar: int
    top: int
    up: int
    down: int


def weeks(mailing_list: MailingList) -> list[Week]:
    """Who joined and who left in each of the last weeks and has not changed their mind since."""
    monday = timezone.localdate() - timedelta(days=timezone.localdate().weekday())
    starts = [monday - timedelta(weeks=back) for back in reversed(range(WEEKS))]
    found: dict[tuple[date, str], int] = {
        (week.date(), status): count
        for week, status, count in Subscription.objects.filter(list=mailing_list, changed_at__date__gte=starts[0])
        .annotate(week=TruncWeek("changed_at"))
        .values_list("week", "status")
        .annotate(count=Count("pk"))
        .order_by()
    }
    joined = [found.get((start, "subscribed"), 0) for start in starts]
    left = [found.get((start, "unsubscribed"), 0) for start in starts]
    scale = max(*joined, *left, 1)
    return [
        Week(start, up, down, place * 10, place * 10 + 1, 60 - 56 * up // scale, 56 * up // scale, 36 * down // scale)
        for place, (start, up, down) in enumerate(zip(starts, joined, left, strict=True))
    ]
