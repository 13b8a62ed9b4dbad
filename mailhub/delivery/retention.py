"""What is forgotten in time, and the nightly look whether the books are right."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q

from mailhub.delivery import carried, throughput
from mailhub.delivery.models import COUNTER_OF, COUNTERS, OPEN, WITH_BODY, Batch, Content, Message
from mailhub.lib import clock
from mailhub.relays import limits, shaping
from mailhub.relays.models import InboxMail, Stream

logger = logging.getLogger(__name__)

GROUP = 1000
# Batches of which no message is forgotten.
GOING_ON = (Batch.Status.RUNNING, Batch.Status.PAUSED)


def prune() -> None:
    """Forget what has been kept long enough. A mail that still waits keeps all it needs."""
    now = clock.now()
    bodies_before = now - timedelta(days=settings.MAILHUB_KEEP_BODIES_DAYS)
    forget_bodies(bodies_before)
    InboxMail.objects.filter(received_at__lt=bodies_before).delete()
    forget_messages(now - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS))
    throughput.forget(now - timedelta(days=throughput.KEPT_DAYS))
    carried.forget(now - timedelta(days=throughput.KEPT_DAYS))
    limits.prune(now - timedelta(days=62))
    shaping.prune(now - timedelta(days=7))


def forget_bodies(before: datetime, among: Q | None = None) -> int:
    """Empty transactional contents from before then (those of `among`), and what filled their placeholders, a group a transaction; subjects
    and all other facts stay. Returns how many contents that were.

    They may hold password-reset links. A campaign's content is nobody's secret and stays for its page. Index delivery_content_bodies,
    which holds none that is empty already; in its order, so that none is passed again."""
    waiting = Message.objects.filter(content=OuterRef("pk"), stream=Stream.TRANSACTIONAL, status__in=OPEN)
    shared = Batch.objects.filter(content=OuterRef("pk"))
    old = Content.objects.filter(WITH_BODY, ~Exists(waiting), ~Exists(shared), created_at__lt=before).order_by("created_at")
    if among is not None:
        old = old.filter(among)
    count = 0
    while group := dict(old.values_list("pk", "created_at")[:GROUP]):
        count += _empty(group)
        old = old.filter(created_at__gte=max(group.values()))
    return count


@transaction.atomic
def _empty(contents: Collection[int]) -> int:
    """Those of which staff have not sent a mail again meanwhile: queue.copy() holds their rows. Index delivery_message_content."""
    list(Content.objects.filter(pk__in=contents).order_by("pk").select_for_update(no_key=True).values_list("pk"))
    messages = Message.objects.filter(content__in=contents, stream=Stream.TRANSACTIONAL)
    held = list(messages.order_by("pk").select_for_update(no_key=True).values_list("pk", "content", "status"))
    waiting = {content for _pk, content, status in held if status in OPEN}
    over = [pk for pk in contents if pk not in waiting]
    # By their own keys: looking for them by so many contents once more, PostgreSQL would rather read all messages.
    settled = [pk for pk, content, _status in held if content not in waiting]
    Message.objects.filter(pk__in=settled).exclude(data={}).update(data={})
    return Content.objects.filter(pk__in=over).update(html="", text="", raw=None)


def forget_messages(before: datetime) -> int:
    """Delete settled messages made before then, with their attempts and events, a group a transaction; returns how many.

    By primary key, up to the first group in which all are younger: they are made in the order of their keys, or nearly so."""
    over = Q(batch__isnull=True) | Q(batch__status__in=[Batch.Status.DONE, Batch.Status.CANCELED])
    count = last = 0
    while group := list(Message.objects.filter(pk__gt=last).order_by("pk").values_list("pk", "created_at")[:GROUP]):
        last = group[-1][0]
        ids = [pk for pk, created_at in group if created_at < before]
        if not ids:
            break
        with transaction.atomic():
            gone = Message.objects.filter(over, pk__in=ids).exclude(status__in=OPEN)
            # Held before what belongs to them goes: who writes an event of one holds it, too, and so leaves none behind.
            held = list(gone.order_by("pk").select_for_update(of=("self",)).values_list("pk", flat=True))
            count += Message.objects.filter(pk__in=held).delete()[1].get("delivery.Message", 0)
    return count


def forget_contents(keys: Collection[int]) -> int:
    """Delete those of these contents that no message and no batch needs any more, in the caller's transaction; returns how many.

    Nobody makes a message for a content that is there already but in a batch. Index delivery_message_content; raw, because Django would
    first look for messages of all streams, and so read them all."""
    needed = Message.objects.filter(content=OuterRef("pk"), stream=Stream.TRANSACTIONAL)
    shared = Batch.objects.filter(content=OuterRef("pk"))
    found = Content.objects.filter(~Exists(needed), ~Exists(shared), pk__in=keys)
    return found._raw_delete(found.db) or 0


def audit() -> list[int]:
    """Compare the counters of batches with their rows; returns (and logs) the batches that differ. Not of those that are over and of which
    messages may have been forgotten since.

    One statement a batch, hence one snapshot: no lock, and no move half seen. Some 0.8 s a million messages (delivery_message_once)."""
    rows = {
        f"rows_{name}": Count("messages", filter=Q(messages__status__in=[state for state in COUNTER_OF if COUNTER_OF[state] == name]))
        for name in COUNTERS
    }
    wrong = []
    whole = clock.now() - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS)
    for pk in Batch.objects.filter(Q(status__in=GOING_ON) | Q(created_at__gt=whole)).values_list("pk", flat=True):
        counted = Batch.objects.filter(pk=pk).annotate(**rows).values(*COUNTERS, *rows).get()
        differing = {name: (counted[name], counted[f"rows_{name}"]) for name in COUNTERS if counted[name] != counted[f"rows_{name}"]}
        if differing:
            logger.critical("batch %s counts otherwise than its rows (counted, rows): %s", pk, differing)
            wrong.append(pk)
    return wrong
