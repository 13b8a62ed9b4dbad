"""What is forgotten in time, and the nightly look whether the books are right."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q

from mailhub.delivery.models import COUNTER_OF, COUNTERS, OPEN, Batch, Content, Message
from mailhub.lib import clock
from mailhub.relays import limits
from mailhub.relays.models import InboxMail, Stream

logger = logging.getLogger(__name__)

GROUP = 1000


def prune() -> None:
    """Forget what has been kept long enough. A mail that still waits keeps all it needs."""
    now = clock.now()
    bodies_before = now - timedelta(days=settings.MAILHUB_KEEP_BODIES_DAYS)
    forget_bodies(bodies_before)
    InboxMail.objects.filter(received_at__lt=bodies_before).delete()
    forget_messages(now - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS))
    limits.prune(now - timedelta(days=62))


def forget_bodies(before: datetime) -> int:
    """Empty transactional contents from before then, subjects and all facts apart; returns how many.

    They may hold password-reset links. A campaign's content is nobody's secret and stays for its page."""
    still_needed = Message.objects.filter(content=OuterRef("pk"), stream=Stream.TRANSACTIONAL, status__in=OPEN)
    old = Content.objects.filter(~Exists(still_needed), created_at__lt=before, unsubscribe_base="").exclude(
        Q(html="") & Q(text="") & Q(raw__isnull=True)
    )
    return old.filter(messages__stream=Stream.TRANSACTIONAL).update(html="", text="", raw=None)


def forget_messages(before: datetime) -> int:
    """Delete settled messages made before then, with their attempts and events, a group a transaction; returns how many."""
    count = 0
    old = Message.objects.filter(created_at__lt=before).exclude(status__in=OPEN)
    old = old.filter(Q(batch__isnull=True) | Q(batch__status__in=[Batch.Status.DONE, Batch.Status.CANCELED])).order_by("id")
    while ids := list(old.values_list("pk", flat=True)[:GROUP]):
        with transaction.atomic():
            Message.objects.filter(pk__in=ids).delete()
        count += len(ids)
    return count


def audit() -> list[int]:
    """Compare the counters of batches that are not over with their rows; returns (and logs) the batches that differ.

    One statement a batch, hence one snapshot: no lock, and no move half seen."""
    rows = {
        f"rows_{name}": Count("messages", filter=Q(messages__status__in=[state for state in COUNTER_OF if COUNTER_OF[state] == name]))
        for name in COUNTERS
    }
    wrong = []
    for pk in Batch.objects.exclude(status=Batch.Status.DONE).values_list("pk", flat=True):
        counted = Batch.objects.filter(pk=pk).annotate(**rows).values(*COUNTERS, *rows).get()
        differing = {name: (counted[name], counted[f"rows_{name}"]) for name in COUNTERS if counted[name] != counted[f"rows_{name}"]}
        if differing:
            logger.critical("batch %s counts otherwise than its rows (counted, rows): %s", pk, differing)
            wrong.append(pk)
    return wrong
