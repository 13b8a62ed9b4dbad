"""Mails that MailHub could not take yet, kept by the site itself (MAILHUB_OUTBOX)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import F
from django.utils import timezone

if TYPE_CHECKING:
    from mailhub_client.backend import Part

# Waits after a failure double from this, up to that.
FIRST, LONGEST = timedelta(seconds=30), timedelta(hours=1)
# A try takes no longer; whoever has taken a mail and is not heard of after this is dead.
HOLD = timedelta(minutes=2)


class OutboxMails(models.Manager["OutboxMail"]):
    def keep(self, part: Part) -> OutboxMail:
        """With the site's own transaction: what it rolls back is not sent."""
        return self.create(path=part.path, key=part.key, body=part.body.decode())

    def take(self) -> OutboxMail | None:
        """The one that is due for longest, held for a while: another process takes another."""
        while mail := self.filter(problem="", next_attempt_at__lte=timezone.now()).order_by("next_attempt_at", "pk").first():
            held = timezone.now() + HOLD
            if self.filter(pk=mail.pk, next_attempt_at=mail.next_attempt_at).update(next_attempt_at=held, tries=F("tries") + 1):
                mail.refresh_from_db()
                return mail
        return None


class OutboxMail(models.Model):
    """A request to MailHub, to be made again until it is answered. Its key keeps it from becoming two mails."""

    path = models.CharField(max_length=40)
    key = models.CharField(max_length=100)
    body = models.TextField()
    tries = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    # What MailHub found wrong with it: it is not tried again. "" while it waits.
    problem = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OutboxMails()

    class Meta:
        indexes = [
            # OutboxMails.take(): those that wait, the longest due first.
            models.Index(fields=["next_attempt_at"], name="mailhub_outbox_due", condition=models.Q(problem="")),
        ]

    def __str__(self) -> str:
        return self.key

    def postpone(self) -> None:
        wait = min(FIRST * 2 ** min(self.tries - 1, 10), LONGEST)
        type(self).objects.filter(pk=self.pk).update(next_attempt_at=timezone.now() + wait)
