"""How lists have grown: noted day by day, and shown as a picture."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, timedelta

from django.db import transaction
from django.db.models import Count, F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, TruncDate
from django.utils import timezone

from campaigns.models import Growth, MailingList, Subscription
from mailhub.lib import clock

logger = logging.getLogger(__name__)

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


def add(list_id: int, *, joined: int = 0, left: int = 0) -> None:
    """Note that so many have joined or left the list, today. Last in the caller's transaction, which moves the subscriptions: until it
    ends, nobody else joins or leaves. For several lists in the order of their keys."""
    if joined or left:
        day, _created = Growth.objects.get_or_create(list_id=list_id, day=timezone.localdate(clock.now()))
        Growth.objects.filter(pk=day.pk).update(joined=F("joined") + joined, left=F("left") + left)


@transaction.atomic
def recount(mailing_list: MailingList) -> None:
    """Note anew how the list has grown, by its subscriptions as they are. Of those who have left, only that is known by then: they count
    as having joined on the same day."""
    Growth.objects.filter(list=mailing_list).delete()
    by_day = mailing_list.subscriptions.annotate(day=TruncDate("changed_at")).values_list("day").order_by("day")
    left = Count("pk", filter=Q(status=Subscription.Status.UNSUBSCRIBED))
    days = by_day.annotate(joined=Count("pk"), left=left)
    Growth.objects.bulk_create(Growth(list=mailing_list, day=day, joined=joined, left=left) for day, joined, left in days)


def audit() -> list[int]:
    """Compare what is noted with the subscriptions; returns (and logs, and puts right) the lists that differ.

    One statement a list, hence one snapshot: no lock, and no move half seen. Index campaigns_subscription_walk, 0.1 s a million."""
    subscribed = Subscription.objects.filter(list=OuterRef("pk"), status=Subscription.Status.SUBSCRIBED).order_by()
    rows = subscribed.values("list").annotate(n=Count("pk")).values("n")
    noted = Growth.objects.filter(list=OuterRef("pk")).values("list").annotate(n=Sum("joined") - Sum("left")).values("n")
    wrong = []
    for mailing_list in MailingList.objects.order_by("pk"):
        both = MailingList.objects.filter(pk=mailing_list.pk).values_list(Coalesce(Subquery(noted), 0), Coalesce(Subquery(rows), 0))
        counted, found = both.get()
        if counted != found:
            logger.critical("list %s counts otherwise than its subscriptions (counted, found): %s", mailing_list.pk, (counted, found))
            recount(mailing_list)
            wrong.append(mailing_list.pk)
    return wrong


def weeks(mailing_list: MailingList) -> list[Week]:
    """How many joined and how many left in each of the last weeks."""
    monday = timezone.localdate() - timedelta(days=timezone.localdate().weekday())
    starts = [monday - timedelta(weeks=back) for back in reversed(range(WEEKS))]
    joined, left = [0] * WEEKS, [0] * WEEKS
    for day in mailing_list.growth.filter(day__gte=starts[0], day__lt=monday + timedelta(weeks=1)):
        place = (day.day - starts[0]).days // 7
        joined[place] += day.joined
        left[place] += day.left
    scale = max(*joined, *left, 1)
    return [
        Week(start, up, down, place * 10, place * 10 + 1, 60 - 56 * up // scale, 56 * up // scale, 36 * down // scale)
        for place, (start, up, down) in enumerate(zip(starts, joined, left, strict=True))
    ]
