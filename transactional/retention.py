"""What was handed in is forgotten with its messages; what a project's mails said, when the project says."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from mailhub.delivery import retention as delivery
from mailhub.delivery.models import Message
from mailhub.lib import clock
from mailhub.relays.models import Stream
from transactional import limits
from transactional.models import Project, Resend, Submission

GROUP = 1000


def prune() -> None:
    """After delivery's own pruning, which leaves submissions and their contents."""
    now = clock.now()
    # Sooner than MAILHUB_KEEP_BODIES_DAYS, where a project's mails are more private than others.
    for project in Project.objects.filter(keep_bodies_days__isnull=False):
        delivery.forget_bodies(now - timedelta(days=project.keep_bodies_days or 0), Q(submission__project=project))
    before = now - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS)
    forget_submissions(before)
    Resend.objects.filter(made_at__lt=before).delete()
    limits.prune(now - timedelta(days=2))


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
            delivery.forget_contents(over.values())
            count += len(over)
    return count
