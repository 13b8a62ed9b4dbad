"""What is looked after by itself: rules, what is in trouble, and whom to tell."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.delivery.models import Throughput
from mailhub.lib import addresses
from mailhub.lib.fields import EncryptedJSONField
from mailhub.relays.models import Destination, Figures, Relay, shipped_words
from mailhub.senders.models import Sender


class Deliverability(Throughput):
    """The same rows, for a page of pictures with a permission of its own."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = _("deliverability")
        verbose_name_plural = _("deliverability")


class Rule(Figures):
    """A threshold, where it holds, and what happens when it is passed."""

    class Measure(models.TextChoices):
        COMPLAINTS = "complaints", _("complaints")  # % of the accepted
        BOUNCES = "bounces", _("hard bounces")  # % of the tries that were answered for good
        DEFERRALS = "deferrals", _("deferrals")  # % of all tries
        UNPROVEN = "unproven", _("authentication refusals")  # % of all tries
        WAITING = "waiting", _("waiting transactional mail")  # minutes

    class Scope(models.TextChoices):
        RELAY = "relay", _("each relay")
        DESTINATION = "destination", _("each destination of each relay")
        IP = "ip", _("each own address")

    class Action(models.TextChoices):
        ALERT = "alert", _("alert")
        PAUSE = "pause", _("alert and pause")

    key = models.SlugField(_("key"), max_length=50, unique=True, default="", blank=True, editable=False)
    name = models.CharField(_("name"), max_length=100, help_text=_("What is wrong, in words: staff read it where mail waits."))
    measure = models.CharField(_("what is measured"), max_length=15, choices=Measure)
    scope = models.CharField(_("where"), max_length=15, choices=Scope, default=Scope.RELAY)
    relay = models.ForeignKey(
        Relay,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=pgettext_lazy("mail", "relay"),
        help_text=_("Empty: every one."),
    )
    destination = models.ForeignKey(
        Destination,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("destination"),
        help_text=_("Only mail to it is counted. Empty: mail to all."),
    )
    threshold = models.DecimalField(
        _("more than"),
        max_digits=7,
        decimal_places=2,
        validators=[MinValueValidator(0)],
        help_text=_("Percent; of waiting mail, minutes."),
    )
    hours = models.PositiveSmallIntegerField(
        _("in the last hours"),
        default=24,
        validators=[MinValueValidator(1), MaxValueValidator(24 * 31)],
        help_text=_("Hours by the clock; the present one counts as well."),
    )
    least = models.PositiveIntegerField(
        _("from so many mails on"),
        default=500,
        validators=[MinValueValidator(1)],
        help_text=_("Of fewer, a few that are unlucky would make a large share."),
    )
    action = models.CharField(_("what to do"), max_length=10, choices=Action, default=Action.ALERT)
    active = models.BooleanField(_("in use"), default=True)

    class Meta:
        verbose_name = _("alert rule")
        verbose_name_plural = _("alert rules")
        ordering = ["measure", "threshold", "scope", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(measure__in=["complaints", "bounces", "deferrals", "unproven", "waiting"]), name="watching_rule_measure"
            ),
            models.CheckConstraint(condition=Q(scope__in=["relay", "destination", "ip"]), name="watching_rule_scope"),
            models.CheckConstraint(condition=Q(action__in=["alert", "pause"]), name="watching_rule_action"),
            models.CheckConstraint(condition=~Q(measure="waiting") | Q(action="alert"), name="watching_rule_waiting"),
        ]

    def __str__(self) -> str:
        return shipped_words(self.name)

    def clean(self) -> None:
        if self.measure == self.Measure.WAITING and self.action == self.Action.PAUSE:
            raise ValidationError({"action": _("Mail that waits is no reason to pause anything. Choose to alert.")})
        if self.measure != self.Measure.WAITING and self.threshold is not None and self.threshold >= 100:
            raise ValidationError({"threshold": _("A share is less than 100 percent.")})

    def save(self, *args: object, **kwargs: object) -> None:
        self.key = self.key or f"own-{uuid.uuid4().hex[:12]}"
        super().save(*args, **kwargs)  # type: ignore[arg-type]


class Trouble(models.Model):
    """Something that is not as it should be, from when it was found until it was good again. troubles.py writes it, words.py says it."""

    class Kind(models.TextChoices):
        COMPLAINTS = "complaints", _("complaints")
        BOUNCES = "bounces", _("hard bounces")
        DEFERRALS = "deferrals", _("deferrals")
        UNPROVEN = "unproven", _("authentication refusals")
        WAITING = "waiting", _("waiting mail")
        RELAY = "relay", _("resting relay")
        FAILOVER = "failover", _("fail-over")
        STANDSTILL = "standstill", _("route without a relay")
        QUOTA = "quota", _("used-up quota")
        DNS = "dns", _("DNS record")
        LISTING = "listing", _("blocklist")
        PTR = "ptr", _("name of an own address")
        WORKERS = "workers", _("missing workers")
        ENDPOINT = "endpoint", _("webhook")
        CHANNEL = "channel", _("alert channel")

    class Tone(models.TextChoices):
        WARN = "warn", _("warning")  # mail still leaves
        BAD = "bad", _("grave")  # some does not

    kind = models.CharField(_("kind"), max_length=15, choices=Kind)
    # What it is about: with the kind, no two that are open are the same.
    subject = models.CharField(_("about"), max_length=200)
    tone = models.CharField(_("how grave"), max_length=5, choices=Tone, default=Tone.WARN)
    # Names and figures that its words hold, as they were last.
    about = models.JSONField(default=dict, blank=True)
    # The row whose page is the place to mend it: label of the model, and key.
    model = models.CharField(max_length=60, blank=True)
    object_id = models.CharField(max_length=60, blank=True)
    relay = models.ForeignKey(
        Relay, models.SET_NULL, null=True, blank=True, related_name="+", db_index=False, verbose_name=pgettext_lazy("mail", "relay")
    )
    rule = models.ForeignKey(
        Rule, models.SET_NULL, null=True, blank=True, related_name="troubles", db_index=False, verbose_name=_("alert rule")
    )
    opened_at = models.DateTimeField(_("since"))
    seen_at = models.DateTimeField(_("last seen"))
    closed_at = models.DateTimeField(_("good again"), null=True, blank=True)
    # What a rule has stopped, until somebody resumes it: a Rule.Scope, or "".
    holds = models.CharField(_("paused"), max_length=15, choices=Rule.Scope, blank=True)
    # Set when somebody resumed it: what had been counted in that hour until then, which is not held against it again.
    forgiven = models.JSONField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("trouble")
        verbose_name_plural = _("troubles")
        ordering = ["-id"]
        constraints: ClassVar = [
            # Found by two machines at once, it is one. Also the index by which the open ones are read.
            models.UniqueConstraint(fields=["kind", "subject"], condition=Q(closed_at__isnull=True), name="watching_trouble_open"),
            models.CheckConstraint(condition=Q(tone__in=["warn", "bad"]), name="watching_trouble_tone"),
            models.CheckConstraint(condition=Q(holds__in=["", "relay", "destination", "ip"]), name="watching_trouble_holds"),
        ]
        indexes: ClassVar = [
            # A trouble's page: those before it.
            models.Index(fields=["kind", "subject", "id"], name="watching_trouble_history"),
        ]

    def __str__(self) -> str:
        from mailhub.watching import words

        return words.title(self)


class Step(models.Model):
    """Something that happened to a trouble: its history."""

    class Deed(models.TextChoices):
        OPENED = "opened", pgettext_lazy("trouble", "found")
        PAUSED = "paused", pgettext_lazy("mail", "paused")
        ALERTED = "alerted", _("told")
        RESUMED = "resumed", _("resumed")
        CLOSED = "closed", _("good again")

    trouble = models.ForeignKey(Trouble, models.CASCADE, related_name="steps", verbose_name=_("trouble"))
    deed = models.CharField(_("deed"), max_length=10, choices=Deed)
    at = models.DateTimeField(_("at"))
    # Whom it was told, or what was done.
    detail = models.CharField(_("detail"), max_length=300, blank=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("user"))

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering = ["id"]

    def __str__(self) -> str:
        return self.get_deed_display()


class Channel(models.Model):
    """Whom to tell of troubles, and how."""

    class Kind(models.TextChoices):
        MAIL = "mail", _("mail")
        CALL = "call", _("signed HTTP call")
        SLACK = "slack", _("Slack or what speaks like it")

    name = models.CharField(_("name"), max_length=100, unique=True)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.MAIL)
    active = models.BooleanField(_("in use"), default=True)
    to = models.TextField(_("addresses"), blank=True, help_text=_("Mail addresses, one a line."))
    sender = models.ForeignKey(
        Sender,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("sender"),
        help_text=_("The From of the mails. They go past the queue, through a relay that is not in trouble where there is one."),
    )
    url = EncryptedJSONField(_("URL"), default=str, blank=True)
    secret = EncryptedJSONField(_("secret"), default=str, blank=True)
    wants_alerts = models.BooleanField(_("alerts"), default=True, help_text=_("What is newly in trouble, and that it is good again."))
    wants_weekly = models.BooleanField(
        _("weekly summary"),
        default=False,
        help_text=_("Every Monday: what became of the week's mail, its troubles and its campaigns. The last week comes at once."),
    )
    language = models.CharField(_("language"), max_length=10, choices=settings.LANGUAGES, default=settings.LANGUAGE_CODE)
    most = models.PositiveSmallIntegerField(
        _("most an hour"),
        default=10,
        validators=[MinValueValidator(1)],
        help_text=_("The last of them tells in a few words of all that is left."),
    )
    # Why the last alert did not get through; empty when it did.
    problem = models.CharField(_("problem"), max_length=300, blank=True, editable=False)
    failed_at = models.DateTimeField(_("failed"), null=True, blank=True, editable=False)
    told_at = models.DateTimeField(_("last told"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("alert channel")
        verbose_name_plural = _("alert channels")
        ordering = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=["mail", "call", "slack"]), name="watching_channel_kind"),
            models.CheckConstraint(condition=Q(most__gte=1), name="watching_channel_most"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def recipients(self) -> list[str]:
        return [addresses.normalise(line) for line in self.to.split()]


class Alert(models.Model):
    """One thing to tell one channel: the outbox that alerts.py empties."""

    class Kind(models.TextChoices):
        OPENED = "opened", _("newly in trouble")
        CLOSED = "closed", _("good again")
        TEST = "test", _("test")
        WEEKLY = "weekly", _("weekly summary")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="alerts", verbose_name=_("alert channel"))
    trouble = models.ForeignKey(Trouble, models.CASCADE, null=True, blank=True, related_name="alerts", verbose_name=_("trouble"))
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    # Of a weekly summary: the Monday with which the week began.
    week = models.DateField(null=True, blank=True)
    made_at = models.DateTimeField(_("made"))
    due_at = models.DateTimeField(_("due"))
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    # Recipients of a mail that have it already, when it was not taken for others.
    reached = models.JSONField(default=list, blank=True)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    gave_up = models.BooleanField(_("given up"), default=False)
    # Told in a few words together with this one.
    within = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="others", db_index=False)

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        ordering = ["-id"]
        constraints: ClassVar = [
            # Each is told once, whatever the number of machines that find it.
            models.UniqueConstraint(fields=["channel", "trouble", "kind"], name="watching_alert_once"),
            models.UniqueConstraint(fields=["channel", "week"], name="watching_alert_week"),
        ]
        indexes: ClassVar = [
            # alerts.due(): what is still to be told.
            models.Index(fields=["channel", "due_at"], name="watching_alert_due", condition=Q(sent_at__isnull=True, gave_up=False)),
            # alerts.room(): what was told in the last hour.
            models.Index(fields=["channel", "sent_at"], name="watching_alert_sent", condition=Q(sent_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.channel}: {self.get_kind_display()}"
