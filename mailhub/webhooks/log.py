"""The log of posts is forgotten in time."""

from __future__ import annotations

from datetime import timedelta

from mailhub.lib import clock
from mailhub.webhooks.models import Delivery

# What was taken, and what was not; what still waits stays.
KEPT = {Delivery.Status.DELIVERED: timedelta(days=7), Delivery.Status.REFUSED: timedelta(days=30)}
GROUP = 1_000


def forget() -> int:
    """Returns how many. By primary key, up to the first group in which all are younger: they are made in the order of their keys."""
    now = clock.now()
    count = last = 0
    while group := list(Delivery.objects.filter(pk__gt=last).order_by("pk").values_list("pk", "status", "created_at")[:GROUP]):
        last = group[-1][0]
        over = [pk for pk, status, made in group if status in KEPT and made < now - KEPT[Delivery.Status(status)]]
        count += Delivery.objects.filter(pk__in=over).delete()[0]
        if all(made > now - min(KEPT.values()) for _pk, _status, made in group):
            break
    return count
