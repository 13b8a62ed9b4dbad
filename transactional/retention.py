"""What was handed in is forgotten with its messages."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef

from mailhub.delivery import retention
from mailhub.delivery.models import Message
from mailhub.lib import clock
from mailhub.relays.models import Stream
from transactional.models import Submission

GROUP = 1000


def prune() -> None:
    """After delivery's own pruning, which leaves submissions and their contents."""
    forget_submissions(clock.now() - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS))


def forget_submissions(before: datetime) -> int:
    """Delete submissions from before then of which no message is left, with their contents, a group a transaction; returns how many.

    By primary key, up to the first group in which all are younger: they are made in the order of their keys. Index
    delivery_message_content."""
    messages = Message.objects.filter(content=OuterRef("content"), stream=Stream.TRANSACTIONAL)
    count = last = 0
    while group := list(Submission.objects.filter(pk__gt=last).order_by("pk").values_list("pk", "accepted_at")[:GROUP]):
        last = group[-1][0]
        ids = [pk for pk, accepted_at in group if accepted_at < before]
        if not ids:
            break
        with transaction.atomic():
            over = dict(Submission.objects.filter(~Exists(messages), pk__in=ids).values_list("pk", "content"))
            Submission.objects.filter(pk__in=over).delete()
            retention.forget_contents(over.values())
            count += len(over)
    return count
