"""What came back or was refused, counted from the events by tally.py. Plain keys: the counts stay when relays, batches or messages go."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.relays.models import Stream


class Wording(models.Model):
    """Replies that say the same, apart from addresses, hosts and numbers."""

    #: SHA-256 of category, kind and text
    digest = models.CharField(max_length=64, unique=True, editable=False)
    # A lib/replies Category and Kind.
    category = models.CharField(_("category"), max_length=15)
    kind = models.CharField(_("kind"), max_length=10)
    # "" where nothing was said, or where too many different things were.
    text = models.CharField(_("reply"), max_length=300, blank=True)
    first_day = models.DateField(_("first seen"))

    class Meta:
        verbose_name = _("wording of replies")
        verbose_name_plural = _("wordings of replies")
        indexes: ClassVar = [
            # tally.py: how many are new today.
            models.Index(fields=["first_day"], name="returns_wording_day"),
        ]

    def __str__(self) -> str:
        return self.text or self.category


class Count(models.Model):
    """How many of a day had all of this in common."""

    #: of the site's calendar, by when it was recorded
    day = models.DateField(_("day"))
    relay_key = models.BigIntegerField(pgettext_lazy("mail", "relay"))
    destination_key = models.CharField(_("destination"), max_length=20)
    #: 0: transactional mail
    batch_key = models.BigIntegerField(_("batch"))
    stream = models.CharField(_("stream"), max_length=15, choices=Stream)
    # The wording's own.
    category = models.CharField(_("category"), max_length=15)
    kind = models.CharField(_("kind"), max_length=10)
    wording = models.ForeignKey(Wording, models.CASCADE, db_index=False, related_name="counts", verbose_name=_("reply"))
    number = models.PositiveIntegerField(_("mails"))

    class Meta:
        verbose_name = _("bounce")
        verbose_name_plural = _("bounces")
        constraints: ClassVar = [
            # Also the index for a range of days, which all pages read.
            models.UniqueConstraint(
                fields=["day", "relay_key", "destination_key", "batch_key", "stream", "wording"], name="returns_count_once"
            ),
        ]
        indexes: ClassVar = [
            # What the database looks for when a wording is deleted.
            models.Index(fields=["wording"], name="returns_count_wording"),
        ]

    def __str__(self) -> str:
        return f"{self.day}, {self.category}: {self.number}"


class Returned(models.Model):
    """One mail of a count: the way from a number to what it counts."""

    count = models.ForeignKey(Count, models.CASCADE, db_index=False, related_name="mails", verbose_name=_("count"))
    message_key = models.BigIntegerField(_("message"))
    event_key = models.BigIntegerField(_("event"))

    class Meta:
        verbose_name = _("mail that came back")
        verbose_name_plural = _("mails that came back")
        indexes: ClassVar = [
            # pages.py: the newest of some counts.
            models.Index(fields=["count", "id"], name="returns_returned_of"),
            # tally.py: what of a message is counted already.
            models.Index(fields=["message_key"], name="returns_returned_message"),
        ]

    def __str__(self) -> str:
        return str(self.message_key)


class UpTo(models.Model):
    """How far tally.py has read the events; one row."""

    #: the key of the last event that is counted
    read = models.BigIntegerField(default=0)
    #: the greatest key there was when it last looked, and when: what has a smaller one is there for all to see by the next time
    seen = models.BigIntegerField(default=0)
    seen_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("events counted")
        verbose_name_plural = _("events counted")

    def __str__(self) -> str:
        return str(self.read)
