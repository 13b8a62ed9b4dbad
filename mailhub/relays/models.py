"""HOW mail leaves."""

from __future__ import annotations

import socket
import zoneinfo
from datetime import datetime, timedelta
from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.lib import clock, states
from mailhub.lib.fields import EncryptedJSONField
from mailhub.relays import providers
from mailhub.relays.base import Provider


class Stream(models.TextChoices):
    """The kind of mail. Each has its own routes, so that one's reputation does not touch the other's."""

    TRANSACTIONAL = "transactional", _("transactional")
    CAMPAIGN = "campaign", _("campaign")


class IPPool(models.Model):
    class Kind(models.TextChoices):
        SHARED = "shared", _("shared")  # any sender
        DEDICATED = "dedicated", _("dedicated")  # only the senders that name it

    name = models.CharField(_("name"), max_length=100, unique=True)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.SHARED)

    class Meta:
        verbose_name = _("IP pool")
        verbose_name_plural = _("IP pools")
        ordering = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=["shared", "dedicated"]), name="relays_pool_kind"),
        ]

    def __str__(self) -> str:
        return self.name

    def here(self) -> list[DedicatedIP]:
        """Its addresses that this machine holds and nobody has given to another."""
        return [ip for ip in self.ips.filter(node__in=["", socket.gethostname()]) if ip.is_held()]

    def is_elsewhere(self) -> bool:
        """This machine holds none of its addresses, and another is said to."""
        return self.ips.exclude(node__in=["", socket.gethostname()]).exists() and not self.here()


class DedicatedIP(models.Model):
    pool = models.ForeignKey(IPPool, models.PROTECT, related_name="ips", verbose_name=_("pool"))
    address = models.GenericIPAddressField(_("address"), unique=True)
    ehlo_name = models.CharField(
        _("EHLO name"), max_length=255, help_text=_("The host name that the address's PTR record gives, and that resolves back to it.")
    )
    node = models.CharField(_("node"), max_length=100, blank=True, help_text=_("Host name of the machine that holds the address."))

    class Meta:
        verbose_name = _("dedicated IP")
        verbose_name_plural = _("dedicated IPs")
        ordering = ["address"]

    def __str__(self) -> str:
        return f"{self.address} ({self.ehlo_name})"

    def is_held(self) -> bool:
        """This machine can leave from it."""
        with socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET, socket.SOCK_STREAM) as sock:
            try:
                sock.bind((self.address, 0))
            except OSError:
                return False
        return True


class Relay(models.Model):
    """An account through which mail leaves."""

    class Status(models.TextChoices):
        ACTIVE = "active", _("active")  # takes mail, unless it rests
        PAUSED = "paused", _("paused")  # staff stopped it; its mail waits or takes the route's next relay

    MOVES: ClassVar = {
        Status.ACTIVE: {Status.PAUSED},
        Status.PAUSED: {Status.ACTIVE},
    }

    name = models.CharField(_("name"), max_length=100, unique=True)
    kind = models.CharField(_("kind"), max_length=30, choices=providers.choices)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.ACTIVE)
    pool = models.ForeignKey(
        IPPool,
        models.PROTECT,
        null=True,
        blank=True,
        verbose_name=_("IP pool"),
        help_text=_("Only for relays that leave from own addresses."),
    )
    # What the kind's own form asked for; secrets apart, encrypted.
    options = models.JSONField(_("options"), default=dict, blank=True)
    secrets = EncryptedJSONField(_("secrets"), default=dict, blank=True, editable=False)
    max_connections = models.PositiveSmallIntegerField(
        _("connections"),
        default=5,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text=_("How many connections all workers together may keep open."),
    )
    first_retry = models.PositiveIntegerField(
        _("first retry after (seconds)"),
        default=60,
        validators=[MinValueValidator(1)],
        help_text=_("After a temporary refusal; each further one doubles the wait, up to four hours."),
    )
    # The circuit breaker: until then the relay is left alone, because connecting or logging in failed or a quota is used up.
    resting_until = models.DateTimeField(_("resting until"), null=True, blank=True, editable=False)
    rest_reason = models.CharField(_("why it rests"), max_length=500, blank=True, editable=False)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0, editable=False)
    # Set while a wake-up is on its way in that queue, so that a thousand mails make one task; cleared when a drain begins.
    transactional_wake = models.DateTimeField(null=True, blank=True, editable=False)
    bulk_wake = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = pgettext_lazy("mail", "relay")
        verbose_name_plural = pgettext_lazy("mail", "relays")
        ordering = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=["active", "paused"]), name="relays_relay_status"),
            models.CheckConstraint(condition=Q(max_connections__gte=1), name="relays_relay_connections"),
        ]

    def __str__(self) -> str:
        return self.name

    def provider(self) -> Provider:
        return providers.load(self.kind)(self)

    def is_elsewhere(self) -> bool:
        """Mail can only leave through it from other machines, which hold its addresses."""
        return self.pool is not None and providers.load(self.kind).uses_pool and self.pool.is_elsewhere()

    def pause(self) -> None:
        states.move(self, self.Status.PAUSED, moves=self.MOVES)

    def resume(self) -> None:
        """Take mail again, at once: staff who resume a relay do not want to wait out its rest."""
        states.move(self, self.Status.ACTIVE, moves=self.MOVES, resting_until=None, rest_reason="", failures=0)

    def is_available(self, at: datetime) -> bool:
        return self.status == self.Status.ACTIVE and (self.resting_until is None or self.resting_until <= at)

    def rest(self, first: timedelta, reason: str) -> None:
        """Leave the relay alone for `first`, twice as long after each further failure in a row until that is half an hour."""
        for_now = max(first, min(first * 2 ** min(self.failures, 10), timedelta(minutes=30)))
        Relay.objects.filter(pk=self.pk).update(resting_until=clock.now() + for_now, rest_reason=reason[:500], failures=F("failures") + 1)
        self.refresh_from_db(fields=["resting_until", "rest_reason", "failures"])

    def rest_until(self, moment: datetime, reason: str) -> None:
        """Leave the relay alone until then, through no failure of its own: a quota is used up."""
        self.resting_until, self.rest_reason = moment, reason[:500]
        Relay.objects.filter(pk=self.pk).update(resting_until=self.resting_until, rest_reason=self.rest_reason)

    def recovered(self) -> None:
        """The relay took mail: forget its failures."""
        Relay.objects.filter(pk=self.pk, failures__gt=0).update(failures=0, resting_until=None, rest_reason="")


class Quota(models.Model):
    """No more than `limit` in any `period`; several may hold for one relay."""

    class Period(models.TextChoices):
        MINUTE = "minute", _("minute")
        HOUR = "hour", _("hour")
        DAY = "day", _("day")
        MONTH = "month", _("month")

    class Kind(models.TextChoices):
        ROLLING = "rolling", _("rolling")  # any span of that length
        CALENDAR = "calendar", _("calendar")  # from the stroke of the clock in `time_zone`

    class Counts(models.TextChoices):
        RECIPIENTS = "recipients", _("recipients")
        MESSAGES = "messages", _("messages")

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="quotas", verbose_name=pgettext_lazy("mail", "relay"))
    limit = models.PositiveIntegerField(_("limit"), validators=[MinValueValidator(1)])
    period = models.CharField(_("period"), max_length=10, choices=Period, default=Period.DAY)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.ROLLING)
    time_zone = models.CharField(_("time zone"), max_length=50, default="UTC", help_text=_("For calendar periods, such as Asia/Tokyo."))
    # MailHub hands every recipient over in a transaction of its own, so the two count alike today; what the service calls its
    # limit is kept, because its page and its bill speak of it.
    counts = models.CharField(_("counts"), max_length=10, choices=Counts, default=Counts.RECIPIENTS)

    class Meta:
        verbose_name = _("quota")
        verbose_name_plural = _("quotas")
        ordering = ["relay", "limit"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(limit__gte=1), name="relays_quota_limit"),
            models.CheckConstraint(condition=Q(period__in=["minute", "hour", "day", "month"]), name="relays_quota_period"),
            models.CheckConstraint(condition=Q(kind__in=["rolling", "calendar"]), name="relays_quota_kind"),
            models.UniqueConstraint(fields=["relay", "period", "kind", "limit"], name="relays_quota_once"),
        ]

    def __str__(self) -> str:
        return f"{self.limit} / {self.get_period_display()}"

    def clean(self) -> None:
        # "localtime" is another zone on every machine.
        if self.time_zone not in zoneinfo.available_timezones() - {"localtime"}:
            problem = _("“%(name)s” is no time zone. Give a name of the IANA list, such as Asia/Tokyo.")
            raise ValidationError({"time_zone": ValidationError(problem, code="time_zone", params={"name": self.time_zone})})


class QuotaUse(models.Model):
    """How much of a quota was taken in one slice of time; limits.py writes and reads it."""

    quota = models.ForeignKey(Quota, models.CASCADE, related_name="uses", verbose_name=_("quota"))
    starts_at = models.DateTimeField(_("from"))
    used = models.PositiveIntegerField(_("used"), default=0)

    class Meta:
        verbose_name = _("quota use")
        verbose_name_plural = _("quota uses")
        constraints: ClassVar = [
            # Also the index that limits.take() sums a window by.
            models.UniqueConstraint(fields=["quota", "starts_at"], name="relays_quotause_slice"),
        ]

    def __str__(self) -> str:
        return f"{self.quota}: {self.used}"


class Route(models.Model):
    """An ordered, weighted set of relays."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    default_for = models.CharField(
        _("default for"),
        max_length=15,
        choices=Stream,
        null=True,
        blank=True,
        unique=True,
        help_text=_("Senders without a route of their own use this one for that kind of mail."),
    )
    relays = models.ManyToManyField(Relay, through="RouteMember", related_name="routes", verbose_name=pgettext_lazy("mail", "relays"))

    class Meta:
        verbose_name = _("route")
        verbose_name_plural = _("routes")
        ordering = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(default_for__isnull=True) | Q(default_for__in=Stream.values), name="relays_route_default_for"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class RouteMember(models.Model):
    route = models.ForeignKey(Route, models.CASCADE, related_name="members", verbose_name=_("route"))
    relay = models.ForeignKey(Relay, models.PROTECT, related_name="memberships", verbose_name=pgettext_lazy("mail", "relay"))
    position = models.PositiveSmallIntegerField(
        _("position"), default=1, help_text=_("Relays of the lowest position share the mail; the next take over when none of them can.")
    )
    weight = models.PositiveSmallIntegerField(
        _("share"), default=1, validators=[MinValueValidator(1)], help_text=_("Its part of the mail among relays of the same position.")
    )

    class Meta:
        verbose_name = _("relay of a route")
        verbose_name_plural = _("relays of a route")
        ordering = ["route", "position", "relay"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["route", "relay"], name="relays_member_once"),
            models.CheckConstraint(condition=Q(weight__gte=1), name="relays_member_weight"),
        ]

    def __str__(self) -> str:
        return f"{self.route}: {self.relay}"


class MTASTSPolicy(models.Model):
    """What a domain asks of those who mail it directly (RFC 8461); mta_sts.py writes and reads it."""

    domain = models.CharField(_("domain"), max_length=255, unique=True)
    # The id that the domain's TXT record gave: another one means another policy.
    identifier = models.CharField(_("identifier"), max_length=32)
    text = models.TextField(_("policy"))
    fetched_at = models.DateTimeField(_("fetched"))
    expires_at = models.DateTimeField(_("expires"))

    class Meta:
        verbose_name = _("MTA-STS policy")
        verbose_name_plural = _("MTA-STS policies")
        ordering = ["domain"]

    def __str__(self) -> str:
        return self.domain


class InboxMail(models.Model):
    """A mail that an inbox relay kept to be looked at."""

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="inbox", verbose_name=pgettext_lazy("mail", "relay"))
    # The delivery message's key: a mail handed over again after a crash is kept once more, not over the first.
    message = models.BigIntegerField(_("message"))
    mail_from = models.CharField(_("envelope sender"), max_length=320, blank=True)
    rcpt_to = models.CharField(_("recipient"), max_length=320)
    subject = models.CharField(_("subject"), max_length=1000, blank=True)
    data = models.BinaryField(_("data"))
    received_at = models.DateTimeField(_("received"), auto_now_add=True)

    class Meta:
        verbose_name = _("inbox mail")
        verbose_name_plural = _("inbox")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.subject or self.rcpt_to
