"""What we tell others: to which address, and what came of it."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db import models
from django.db.models import Max, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.delivery.models import Event
from mailhub.lib import clock, signing, states
from mailhub.lib.fields import EncryptedJSONField

# After a change both secrets sign for so long.
OVERLAP = timedelta(days=1)


def last_event() -> int:
    """The largest key that can be seen: where an endpoint that is made now begins."""
    return Event.objects.aggregate(last=Max("pk"))["last"] or 0


class Endpoint(models.Model):
    """An address of somebody else's to which events are posted, in their order, from the moment it is made."""

    class Status(models.TextChoices):
        ACTIVE = "active", _("active")  # what happens is posted
        PAUSED = "paused", _("paused")  # staff stopped it; what happens waits
        DISABLED = "disabled", _("disabled")  # we stopped it: it refused for days, or said that it is gone; what happens waits

    MOVES: ClassVar = {
        Status.ACTIVE: {Status.PAUSED, Status.DISABLED},
        Status.PAUSED: {Status.ACTIVE},
        Status.DISABLED: {Status.ACTIVE},
    }

    name = models.CharField(_("name"), max_length=100)
    # forms.py says what it may be.
    url = models.CharField(_("URL"), max_length=500)
    # The upper package's number for whose mail is told of (transactional: the project's key). Empty: all mail, campaigns too.
    project_ref = models.BigIntegerField(null=True, blank=True)
    # Of Event.Type; none: all of them.
    types = models.JSONField(_("events"), default=list, blank=True)
    # Standard Webhooks secrets (signing.py). The old one signs beside the new one until then.
    secret = EncryptedJSONField(editable=False)
    old_secret = EncryptedJSONField(null=True, editable=False)
    old_secret_until = models.DateTimeField(null=True, editable=False)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.ACTIVE, editable=False)
    # The last event that stands in a delivery, or that the filter left out. Moves in the transaction that makes the delivery.
    cursor = models.BigIntegerField(default=last_event, editable=False)
    # Held by the process that posts to it: every write of its names it, so that a late one changes nothing.
    lease = models.UUIDField(null=True, editable=False)
    leased_until = models.DateTimeField(null=True, editable=False)
    # Failures in a row, since when, what the last one was, and until when it is left alone.
    tries = models.PositiveIntegerField(_("failures in a row"), default=0, editable=False)
    failing_since = models.DateTimeField(_("fails since"), null=True, editable=False)
    problem = models.CharField(_("last failure"), max_length=500, blank=True, editable=False)
    next_attempt_at = models.DateTimeField(_("next attempt"), null=True, editable=False)
    succeeded_at = models.DateTimeField(_("last success"), null=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")
        ordering = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=["active", "paused", "disabled"]), name="webhooks_endpoint_status"),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self._state.adding and not self.secret:
            self.secret = signing.new_secret()
        super().save(*args, **kwargs)

    def secrets(self, at: datetime) -> list[str]:
        """Those that sign, the newest first."""
        overlapping = self.old_secret and self.old_secret_until and at < self.old_secret_until
        return [self.secret, self.old_secret] if overlapping else [self.secret]

    def rotate(self) -> str:
        """A new secret, to be shown once; the old one signs beside it for a day."""
        self.old_secret, self.old_secret_until = self.secret, clock.now() + OVERLAP
        self.secret = signing.new_secret()
        self.save(update_fields=["secret", "old_secret", "old_secret_until"])
        return str(self.secret)

    def pause(self) -> None:
        states.move(self, self.Status.PAUSED, moves=self.MOVES)

    def resume(self) -> None:
        """What waited meanwhile is posted, as far as it has not been forgotten."""
        fresh = {"tries": 0, "failing_since": None, "next_attempt_at": None, "problem": ""}
        states.move(self, self.Status.ACTIVE, moves=self.MOVES, **fresh)

    def disable(self, problem: str) -> None:
        states.move(self, self.Status.DISABLED, moves=self.MOVES, problem=problem[:500])


class Delivery(models.Model):
    """One post: the events of an endpoint's filter between two numbers. They are read anew for each try, so the log stays small."""

    class Kind(models.TextChoices):
        EVENTS = "events", _("events")
        TEST = "test", _("test")

    class Status(models.TextChoices):
        PENDING = "pending", pgettext_lazy("webhook post", "waiting")  # made; not taken yet
        DELIVERED = "delivered", pgettext_lazy("webhook post", "taken")  # answered with 2xx
        # And not tried again: a test, an event that the other side refuses by itself, or what staff passed over.
        REFUSED = "refused", pgettext_lazy("webhook post", "not taken")

    endpoint = models.ForeignKey(Endpoint, models.CASCADE, db_index=False, related_name="deliveries", verbose_name=_("webhook"))
    # The webhook-id: the same on every try.
    public_id = models.UUIDField(_("webhook-id"), default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.EVENTS)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.PENDING)
    # Keys of the first and the last event; 0 of a test. No constraint in the database: events are forgotten with their messages.
    first_event = models.BigIntegerField(default=0)
    last_event = models.BigIntegerField(default=0)
    count = models.PositiveIntegerField(_("number of events"), default=0)
    # The filter as it was.
    types = models.JSONField(default=list)
    project_ref = models.BigIntegerField(null=True)
    tries = models.PositiveIntegerField(_("tries"), default=0)
    tried_at = models.DateTimeField(_("last try"), null=True)
    # Of the last try: how long it took, and the answer, or why there was none.
    seconds = models.FloatField(_("seconds"), null=True)
    response_status = models.PositiveSmallIntegerField(_("answer"), null=True)
    response_body = models.TextField(_("words of the answer"), blank=True)
    problem = models.CharField(_("problem"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("webhook post")
        verbose_name_plural = _("webhook posts")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=["pending", "delivered", "refused"]), name="webhooks_delivery_status"),
            models.CheckConstraint(condition=Q(kind__in=["events", "test"]), name="webhooks_delivery_kind"),
        ]
        indexes: ClassVar = [
            # posting.py: what an endpoint still has to take, the oldest first.
            models.Index(fields=["endpoint", "first_event"], name="webhooks_delivery_pending", condition=Q(status="pending")),
            # The log's filters: what was not taken, and one endpoint, the newest first.
            models.Index(fields=["status", "-id"], name="webhooks_delivery_trouble", condition=Q(status__in=["pending", "refused"])),
            models.Index(fields=["endpoint", "-id"], name="webhooks_delivery_log"),
        ]

    def __str__(self) -> str:
        return str(self.public_id)
