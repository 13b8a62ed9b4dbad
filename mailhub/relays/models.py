"""HOW mail leaves."""

from __future__ import annotations

import re
import socket
import zoneinfo
from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator, validate_slug
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

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
        """Its addresses that this machine holds, nobody has given to another, and no rule has paused."""
        return [ip for ip in self.ips.filter(node__in=["", socket.gethostname()], pause_reason="") if ip.is_held()]

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
    # Set while nothing may leave from it, by a rule of watching/; in English, for each reader's language.
    pause_reason = models.CharField(_("why it is paused"), max_length=300, blank=True, default="", db_default="", editable=False)
    plan = models.ForeignKey(
        "relays.WarmupPlan",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="ips",
        verbose_name=_("warm-up plan"),
        help_text=_("For an address that receivers do not know yet: it sends a little more each day. Empty: it is warm, without a cap."),
    )
    first_day = models.PositiveSmallIntegerField(
        _("first day"), default=1, validators=[MinValueValidator(1)], help_text=_("The day of the plan that it begins with.")
    )

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


# Those that a domain adds for a service (RFC 7208 section 5).
SPF_TERMS = r"\A(include:[A-Za-z0-9._-]+|ip4:[0-9./]+|ip6:[0-9A-Fa-f:./]+)( (include:[A-Za-z0-9._-]+|ip4:[0-9./]+|ip6:[0-9A-Fa-f:./]+))*\Z"

SELECTORS = r"\A[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?( [a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?)*\Z"


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
    # Checked for each domain that mail leaves from (senders/records.py). Addresses of our own are known without it.
    spf = models.CharField(
        pgettext_lazy("DNS", "SPF terms"),
        max_length=500,
        blank=True,
        validators=[RegexValidator(SPF_TERMS, _("Write it as include:spf.example.com or ip4:192.0.2.1, with spaces between several."))],
        help_text=_("What the SPF record of your senders' domains must hold for this relay, as its service says. Empty: nothing."),
    )
    # Its service signs with keys of its own: checked as SPF is.
    dkim_selectors = models.CharField(
        _("DKIM selectors"),
        max_length=300,
        blank=True,
        default="",
        db_default="",
        validators=[RegexValidator(SELECTORS, _("Write the parts before ._domainkey, with spaces between several."))],
        help_text=_(
            "Where its service signs with keys of its own: the parts before ._domainkey of the records that it asks your senders' domains"
            " to publish, such as “s1 s2”. Empty: MailHub's own key signs."
        ),
    )
    # Whether it hands the envelope's sender on as it was. Mail that leaves from own addresses always has it.
    keeps_return_path = models.BooleanField(
        _("keeps return paths"),
        default=False,
        db_default=False,
        help_text=_("Many services put an address of their own in its place, or refuse those that they do not know. A test finds out."),
    )
    do_not_send = models.BooleanField(
        _("keep its mail here instead of sending it"),
        default=False,
        help_text=_("For trying things out: mail takes all its steps and ends in MailHub's own inbox. Nobody gets it."),
    )
    # Why it is paused, where nobody of the staff did it (watching/): shown wherever its mail waits. In English, for each reader's language.
    pause_reason = models.CharField(_("why it is paused"), max_length=300, blank=True, default="", db_default="", editable=False)
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

    @property
    def sends_nothing(self) -> bool:
        """Its mail is kept in the inbox, by its own setting or that of the installation."""
        return self.do_not_send or settings.MAILHUB_DO_NOT_SEND

    def provider(self) -> Provider:
        return providers.load("inbox" if self.sends_nothing else self.kind)(self)

    @property
    def is_direct(self) -> bool:
        """Mail leaves from addresses of our own, to the servers of its destinations."""
        return not self.sends_nothing and self.kind in providers.REGISTRY and providers.load(self.kind).uses_pool

    def is_elsewhere(self) -> bool:
        """Mail can only leave through it from other machines, which hold its addresses, or have newer code, which knows its kind."""
        if self.kind not in providers.REGISTRY:
            return True
        return self.pool is not None and self.is_direct and self.pool.is_elsewhere()

    def pause(self, reason: str = "") -> None:
        states.move(self, self.Status.PAUSED, moves=self.MOVES, pause_reason=reason[:300])

    def resume(self) -> None:
        """Take mail again, at once: staff who resume a relay do not want to wait out its rest."""
        states.move(self, self.Status.ACTIVE, moves=self.MOVES, resting_until=None, rest_reason="", failures=0, pause_reason="")

    @property
    def rest_words(self) -> str:
        """Why it rests: a server's own words as they came, MailHub's in the reader's language."""
        return shipped_words(self.rest_reason)

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
    # Conditions: mail that meets all of them goes through it, rather than through relays without any.
    stream = models.CharField(_("only this kind of mail"), max_length=15, choices=Stream, blank=True, help_text=_("Empty: both."))
    # Addresses and domains, one a line, in lower case. As text, since senders stand in a package above.
    senders = models.TextField(_("only from"), blank=True, help_text=_("Senders' addresses, or their domains, one a line. Empty: all."))
    destinations = models.ManyToManyField(
        "relays.Destination",
        blank=True,
        related_name="+",
        verbose_name=_("only to"),
        help_text=_("Mail for these goes through it, rather than through relays that take everything. None chosen: it takes everything."),
    )

    class Meta:
        verbose_name = _("relay of a route")
        verbose_name_plural = _("relays of a route")
        ordering = ["route", "position", "relay"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["route", "relay"], name="relays_member_once"),
            models.CheckConstraint(condition=Q(weight__gte=1), name="relays_member_weight"),
            models.CheckConstraint(condition=Q(stream__in=["", *Stream.values]), name="relays_member_stream"),
        ]

    def __str__(self) -> str:
        return f"{self.route}: {self.relay}"

    @property
    def sender_names(self) -> frozenset[str]:
        """Addresses and domains that it is for; empty: all."""
        return frozenset(self.senders.split())


# -------------------------------------------------------------------------------------------------------------- destinations

# Where mail belongs that belongs to no group.
OTHER = "other"


class Unit(models.TextChoices):
    """What a rate is for."""

    SECOND = "second", _("second")
    MINUTE = "minute", _("minute")
    HOUR = "hour", _("hour")


UNIT_LENGTH = {Unit.SECOND: timedelta(seconds=1), Unit.MINUTE: timedelta(minutes=1), Unit.HOUR: timedelta(hours=1)}


def spacing(rate: int | None, per: str) -> timedelta | None:
    """The time between two mails at that rate; None where there is no limit."""
    return UNIT_LENGTH[Unit(per)] / rate if rate else None


def shipped_words(text: str) -> str:
    """A text that MailHub ships as a row, in the reader's language; what staff wrote stays as it is."""
    return gettext(text) if text else text


class Figures(models.Model):
    """Figures that somebody published, or that we chose: who, when, and how far to trust them. Shipped with MailHub, edited by staff."""

    class Confidence(models.TextChoices):
        HIGH = "high", _("high")
        MEDIUM = "medium", _("medium")
        LOW = "low", _("low")
        OWN = "own", _("our own choice")  # nobody publishes any

    source = models.CharField(pgettext_lazy("of figures", "source"), max_length=200, blank=True, help_text=_("Where the figures are from."))
    as_of = models.DateField(_("as of"), null=True, blank=True)
    confidence = models.CharField(_("confidence"), max_length=10, choices=Confidence, default=Confidence.OWN)
    # Digest of the row as it was shipped: whoever edits the row makes it differ, and a new version then leaves it alone.
    shipped_as = models.CharField(max_length=64, blank=True, editable=False)

    class Meta:
        abstract = True


class Destination(Figures):
    """Mailboxes behind the same servers, which keep one count of what we do: Gmail, docomo, ...

    The limits hold for mail that leaves from addresses of our own; a service that we relay through keeps to them by itself. Reply rules and
    rests hold for every relay."""

    key = models.CharField(_("key"), max_length=20, primary_key=True, validators=[validate_slug])
    name = models.CharField(_("name"), max_length=100)
    mx_suffixes = models.TextField(
        _("mail exchangers"),
        blank=True,
        help_text=_("Ends of host names, one a line. A domain belongs here when the names of all its mail exchangers end so."),
    )
    connections = models.PositiveSmallIntegerField(
        _("connections"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("At once from each of our addresses, all workers together. Empty: no limit but the relay's."),
    )
    messages_per_connection = models.PositiveSmallIntegerField(
        _("mails per connection"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    rate = models.PositiveIntegerField(
        _("mails"), null=True, blank=True, validators=[MinValueValidator(1)], help_text=_("In the time beside. Empty: no limit.")
    )
    per = models.CharField(_("per"), max_length=10, choices=Unit, default=Unit.SECOND)
    tls_required = models.BooleanField(_("only encrypted"), default=False)

    class Meta:
        verbose_name = _("destination")
        verbose_name_plural = _("destinations")
        ordering = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(per__in=Unit.values), name="relays_destination_per"),
            models.CheckConstraint(condition=Q(connections__isnull=True) | Q(connections__gte=1), name="relays_destination_connections"),
            models.CheckConstraint(condition=Q(rate__isnull=True) | Q(rate__gte=1), name="relays_destination_rate"),
        ]

    def __str__(self) -> str:
        return shipped_words(self.name)

    @property
    def suffixes(self) -> list[str]:
        """Without dots at either end, in lower case."""
        return [line.strip(". ").lower() for line in self.mx_suffixes.splitlines() if line.strip(". ")]


class KnownDomain(models.Model):
    """A domain whose mail goes to a destination. All others' goes to OTHER. destinations.py writes and reads it."""

    # Unique: also the index by which queue.enqueue() and audience.expand() look it up.
    domain = models.CharField(_("domain"), max_length=255, unique=True)
    destination = models.ForeignKey(Destination, models.CASCADE, related_name="domains", verbose_name=_("destination"))
    # Set where direct delivery found it by the domain's mail exchangers, and not by a list.
    learnt_at = models.DateTimeField(_("found"), null=True, blank=True)

    class Meta:
        verbose_name = _("known domain")
        verbose_name_plural = _("known domains")
        ordering = ["domain"]

    def __str__(self) -> str:
        return self.domain


class ResponseRule(Figures):
    """What to do when servers say something. The first rule that fits decides: those of the mail's destination, then those for any."""

    class Action(models.TextChoices):
        PARK = "park", _("leave alone")  # nothing more for the time
        SLOW = "slow", _("slow down")  # to a rate, to fewer connections, or both

    class Scope(models.TextChoices):
        DESTINATION = "destination", _("the destination, through this relay")
        SENDER = "sender", _("the sender's domain at the destination, through this relay")
        RELAY = "relay", _("all that goes through this relay")

    key = models.SlugField(_("key"), max_length=50, unique=True)
    name = models.CharField(_("name"), max_length=100, help_text=_("What happened, in words: staff read it where mail waits."))
    destination = models.ForeignKey(
        Destination, models.CASCADE, null=True, blank=True, related_name="rules", verbose_name=_("destination"), help_text=_("Empty: any.")
    )
    pattern = models.CharField(
        _("pattern"),
        max_length=300,
        help_text=_("A regular expression that is looked for in the whole reply, such as “421 4.7.0 Try again later”."),
    )
    sample = models.CharField(_("sample reply"), max_length=500, help_text=_("A reply that the rule is for."))
    action = models.CharField(_("action"), max_length=10, choices=Action, default=Action.PARK)
    scope = models.CharField(_("holds for"), max_length=15, choices=Scope, default=Scope.DESTINATION)
    rate = models.PositiveIntegerField(_("mails"), null=True, blank=True, validators=[MinValueValidator(1)])
    per = models.CharField(_("per"), max_length=10, choices=Unit, default=Unit.MINUTE)
    connections = models.PositiveSmallIntegerField(_("connections"), null=True, blank=True, validators=[MinValueValidator(1)])
    lasts = models.PositiveIntegerField(_("for (seconds)"), default=3600, validators=[MinValueValidator(1)])
    trigger = models.PositiveSmallIntegerField(_("after so many"), default=1, validators=[MinValueValidator(1)])
    within = models.PositiveIntegerField(_("within (seconds)"), default=3600, validators=[MinValueValidator(1)])
    keeps_mail = models.BooleanField(
        _("try the mail again"),
        default=False,
        help_text=_("Even where it was refused for good: for what is the sender's to mend, such as a missing signature."),
    )
    active = models.BooleanField(_("in use"), default=True)
    position = models.PositiveSmallIntegerField(_("position"), default=100, help_text=_("Of several that fit, the lowest decides."))

    class Meta:
        verbose_name = _("reply rule")
        verbose_name_plural = _("reply rules")
        ordering = ["destination", "position", "key"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(action__in=["park", "slow"]), name="relays_rule_action"),
            models.CheckConstraint(condition=Q(scope__in=["destination", "sender", "relay"]), name="relays_rule_scope"),
            models.CheckConstraint(condition=Q(per__in=Unit.values), name="relays_rule_per"),
            models.CheckConstraint(
                condition=Q(action="park") | Q(scope="destination", rate__gte=1) | Q(scope="destination", connections__gte=1),
                name="relays_rule_slow",
            ),
        ]

    def __str__(self) -> str:
        return shipped_words(self.name)

    def clean(self) -> None:
        try:
            fits = self.expression.search(self.sample)
        except re.error as error:
            problem = _("This is no regular expression: %(error)s.")
            raise ValidationError({"pattern": ValidationError(problem, code="pattern", params={"error": error})}) from None
        if not fits:
            raise ValidationError({"sample": _("The pattern does not fit the sample. Correct one of them.")})
        if self.action == self.Action.SLOW and not self.rate and not self.connections:
            raise ValidationError({"rate": _("Give a rate, a number of connections, or both.")})
        if self.action == self.Action.SLOW and self.scope != self.Scope.DESTINATION:
            raise ValidationError({"scope": _("Only a destination can be slowed down. Choose it, or leave the rest alone for a while.")})

    @property
    def expression(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.IGNORECASE)


class Parking(models.Model):
    """A destination that is left alone through one relay, or is being tried again a little at a time. shaping.py writes and reads it.

    Once `until` has come, `allowance` mails are tried. What is taken doubles it; from shaping.RECOVERED on the row goes away."""

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="parkings", verbose_name=pgettext_lazy("mail", "relay"))
    destination = models.ForeignKey(Destination, models.CASCADE, related_name="parkings", verbose_name=_("destination"))
    # Only mail from this domain; "": all.
    sender_domain = models.CharField(_("sender's domain"), max_length=253, blank=True)
    since = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"))
    #: times in a row that it had to be left alone: each doubles the time
    strikes = models.PositiveSmallIntegerField(_("times"), default=1)
    allowance = models.PositiveIntegerField(_("tried at once"))
    # Some were taken to be tried; until `until` we wait for what becomes of them.
    probing = models.BooleanField(_("being tried"), default=False)
    reason = models.CharField(_("why"), max_length=200)
    reply = models.CharField(_("reply"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("parked destination")
        verbose_name_plural = _("parked destinations")
        ordering = ["relay", "destination"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["relay", "destination", "sender_domain"], name="relays_parking_once"),
        ]

    def __str__(self) -> str:
        return f"{self.destination} / {self.relay}"

    @property
    def words(self) -> str:
        """Why, in the reader's language: it is stored as the rule's name was at the time."""
        return shipped_words(self.reason)


class Slowdown(models.Model):
    """A destination that gets less through one relay for a while, by a reply rule. shaping.py writes and reads it."""

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="slowdowns", verbose_name=pgettext_lazy("mail", "relay"))
    destination = models.ForeignKey(Destination, models.CASCADE, related_name="slowdowns", verbose_name=_("destination"))
    rule = models.ForeignKey(ResponseRule, models.CASCADE, related_name="slowdowns", verbose_name=_("reply rule"))
    rate = models.PositiveIntegerField(_("mails"), null=True, blank=True)
    per = models.CharField(_("per"), max_length=10, choices=Unit, default=Unit.MINUTE)
    connections = models.PositiveSmallIntegerField(_("connections"), null=True, blank=True)
    since = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"))
    reply = models.CharField(_("reply"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("slowed destination")
        verbose_name_plural = _("slowed destinations")
        ordering = ["relay", "destination"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["relay", "destination", "rule"], name="relays_slowdown_once"),
        ]

    def __str__(self) -> str:
        return f"{self.destination} / {self.relay}"


class Sighting(models.Model):
    """How often a reply rule was met since a moment, while it waits for its trigger. shaping.py writes and reads it."""

    rule = models.ForeignKey(ResponseRule, models.CASCADE, related_name="+", verbose_name=_("reply rule"))
    relay = models.ForeignKey(Relay, models.CASCADE, related_name="+", verbose_name=pgettext_lazy("mail", "relay"))
    destination = models.ForeignKey(Destination, models.CASCADE, related_name="+", verbose_name=_("destination"))
    sender_domain = models.CharField(_("sender's domain"), max_length=253, blank=True)
    since = models.DateTimeField(_("since"))
    count = models.PositiveIntegerField(_("times"))

    class Meta:
        verbose_name = _("sighting")
        verbose_name_plural = _("sightings")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rule", "relay", "destination", "sender_domain"], name="relays_sighting_once"),
        ]

    def __str__(self) -> str:
        return f"{self.rule}: {self.count}"


class Pace(models.Model):
    """The token bucket of a destination through one relay. shaping.py writes and reads it."""

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="+", verbose_name=pgettext_lazy("mail", "relay"))
    destination = models.ForeignKey(Destination, models.CASCADE, related_name="+", verbose_name=_("destination"))
    # When the next mail would leave if all before it had left evenly.
    next_at = models.DateTimeField(_("next"))

    class Meta:
        verbose_name = _("pace")
        verbose_name_plural = _("paces")
        constraints: ClassVar = [models.UniqueConstraint(fields=["relay", "destination"], name="relays_pace_once")]

    def __str__(self) -> str:
        return f"{self.destination} / {self.relay}"


class WarmupPlan(Figures):
    """How many mails a day an address may send that receivers do not know yet."""

    class Counts(models.TextChoices):
        EACH = "each", _("mails to each destination by itself")
        ALL = "all", _("all mails of the address together")

    key = models.SlugField(_("key"), max_length=30, unique=True)
    name = models.CharField(_("name"), max_length=100)
    counts = models.CharField(_("counts"), max_length=10, choices=Counts, default=Counts.EACH)
    caps = models.TextField(
        _("mails a day"), help_text=_("The first day's number, the second's and so on, one a line. After the last it is warm.")
    )

    class Meta:
        verbose_name = _("warm-up plan")
        verbose_name_plural = _("warm-up plans")
        ordering = ["name"]
        constraints: ClassVar = [models.CheckConstraint(condition=Q(counts__in=["each", "all"]), name="relays_warmupplan_counts")]

    def __str__(self) -> str:
        return shipped_words(self.name)

    def clean(self) -> None:
        numbers = self.caps.split()
        wrong = next((number for number in numbers if not (number.isascii() and number.isdigit()) or not 0 < int(number) < 2**31), None)
        if wrong or not numbers:
            problem = _("“%(number)s” is no number of mails. Write one a line, such as 500.")
            raise ValidationError({"caps": ValidationError(problem, code="caps", params={"number": wrong or ""})})

    def cap(self, day: int) -> int | None:
        """Of that day, the first being 1; None when it is over."""
        numbers = self.caps.split()
        return int(numbers[day - 1]) if day <= len(numbers) else None

    @property
    def length(self) -> int:
        return len(self.caps.split())


class WarmupUse(models.Model):
    """What an address that warms up sent on one day of the site's calendar, and what became of it. warmup.py writes and reads it."""

    ip = models.ForeignKey(DedicatedIP, models.CASCADE, related_name="warmups", verbose_name=_("dedicated IP"))
    # Empty where the plan counts all mails of the address together.
    destination = models.ForeignKey(Destination, models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("destination"))
    date = models.DateField(_("date"))
    day = models.PositiveSmallIntegerField(_("day of the plan"))
    #: set apart: no more than the cap; what was set apart by a worker that died counts as sent
    taken = models.PositiveIntegerField(_("used"), default=0)
    accepted = models.PositiveIntegerField(_("accepted"), default=0)
    deferred = models.PositiveIntegerField(_("deferred"), default=0)
    #: by what receivers think of us, not by the recipient
    refused = models.PositiveIntegerField(_("refused"), default=0)
    bounced = models.PositiveIntegerField(_("bounced"), default=0)
    #: called spam, whenever that was sent
    complained = models.PositiveIntegerField(_("called spam"), default=0)

    class Meta:
        verbose_name = _("warm-up day")
        verbose_name_plural = _("warm-up days")
        ordering = ["-date", "ip", "destination"]
        constraints: ClassVar = [
            # Also the index by which the newest of an address and destination is found.
            models.UniqueConstraint(fields=["ip", "destination", "date"], name="relays_warmup_once"),
            models.UniqueConstraint(fields=["ip", "date"], condition=Q(destination__isnull=True), name="relays_warmup_all_once"),
        ]

    def __str__(self) -> str:
        return f"{self.ip.address}, {self.date}"


class Blocklist(Figures):
    """A list of addresses that send spam, kept in the DNS, by which receivers refuse mail (RFC 5782)."""

    key = models.SlugField(_("key"), max_length=30, unique=True)
    name = models.CharField(_("name"), max_length=100)
    zone = models.CharField(
        _("zone"),
        max_length=255,
        unique=True,
        help_text=_("Where it is asked: zen.spamhaus.org. A key that the list gave you is part of it."),
    )
    active = models.BooleanField(_("ask it"), default=True)
    alerts = models.BooleanField(
        _("alert"), default=True, help_text=_("Receivers go by it: a listing opens a trouble. Otherwise it is only shown.")
    )
    covers_ipv6 = models.BooleanField(_("knows IPv6"), default=False)
    meanings = models.TextField(
        _("meanings"),
        blank=True,
        help_text=_("What its answers mean, one a line: 127.0.0.2 SBL, sources of spam. Empty: each is a listing."),
    )
    url = models.CharField(
        _("page for removal"),
        max_length=200,
        blank=True,
        validators=[RegexValidator(r"\Ahttps?://\S+\Z", _("That is no address of a page. Write it such as https://list.example/remove."))],
        help_text=_("Where one asks to be taken off. %(address)s stands for the address, should it be part of it."),
    )

    class Meta:
        verbose_name = _("blocklist")
        verbose_name_plural = _("blocklists")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def removal(self, address: str) -> str:
        return self.url.replace("%(address)s", address)

    def meaning(self, code: str) -> str:
        lines = (line.split(maxsplit=1) for line in self.meanings.splitlines())
        return next((parts[1] for parts in lines if len(parts) == 2 and parts[0] == code), "")


class IPCheck(models.Model):
    """What was found when an address was last looked up: at a blocklist, or, without one, its PTR record."""

    class Verdict(models.TextChoices):
        GOOD = "good", _("in order")
        BAD = "bad", _("not in order")
        UNKNOWN = "unknown", _("unknown")  # nobody could say; neither good nor bad

    ip = models.ForeignKey(DedicatedIP, models.CASCADE, related_name="checks", verbose_name=_("dedicated IP"))
    blocklist = models.ForeignKey(Blocklist, models.CASCADE, null=True, related_name="+", verbose_name=_("blocklist"))
    verdict = models.CharField(_("verdict"), max_length=10, choices=Verdict)
    #: what the DNS answered, space between
    found = models.CharField(_("found"), max_length=255, blank=True)
    #: the list's own words, or why nobody could say
    reason = models.TextField(_("reason"), blank=True)
    checked_at = models.DateTimeField(_("looked up at"))

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["ip", "blocklist"], name="relays_ipcheck_once"),
            models.UniqueConstraint(fields=["ip"], condition=Q(blocklist__isnull=True), name="relays_ipcheck_ptr_once"),
            models.CheckConstraint(condition=Q(verdict__in=["good", "bad", "unknown"]), name="relays_ipcheck_verdict"),
        ]

    def __str__(self) -> str:
        return f"{self.ip.address}, {self.blocklist or 'PTR'}"


class Listing(models.Model):
    """A time during which a blocklist had an address of ours on it."""

    ip = models.ForeignKey(DedicatedIP, models.CASCADE, related_name="listings", verbose_name=_("dedicated IP"))
    blocklist = models.ForeignKey(Blocklist, models.CASCADE, related_name="listings", verbose_name=_("blocklist"))
    since = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"), null=True)
    codes = models.CharField(_("answer"), max_length=255)
    reason = models.TextField(_("reason"), blank=True)

    class Meta:
        verbose_name = _("listing")
        verbose_name_plural = _("listings")
        ordering = ["-since", "-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["ip", "blocklist"], condition=Q(until__isnull=True), name="relays_listing_one_open"),
        ]

    def __str__(self) -> str:
        return f"{self.ip.address}, {self.blocklist}"


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


# ------------------------------------------------------------------------------------------------------------------- services


class Service(Figures):
    """A mail service or hosting company that people have accounts at: what a relay there is set up with, and what it may send.

    What nobody publishes is empty. Shipped in services.toml."""

    class Login(models.TextChoices):
        ADDRESS = "address", _("the whole mail address")
        WORD = "word", _("a fixed word")  # `username`
        MADE = "made", _("a name that is made at the service")

    key = models.CharField(_("key"), max_length=30, primary_key=True, validators=[validate_slug])
    name = models.CharField(_("name"), max_length=100)
    bulk = models.BooleanField(
        _("for bulk mail"), default=False, help_text=_("Made for campaigns. Off: an ordinary mail server, with its limits.")
    )
    host = models.CharField(_("server"), max_length=255, blank=True, help_text=_("Empty: each account has its own."))
    port = models.PositiveIntegerField(_("port"), null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(65535)])
    security = models.CharField(
        _("encryption"),
        max_length=10,
        blank=True,
        choices=[("starttls", "STARTTLS"), ("tls", _("TLS from the start")), ("none", _("none"))],
    )
    other_ports = models.CharField(_("other ports"), max_length=100, blank=True)
    login = models.CharField(_("user name"), max_length=10, choices=Login, default=Login.ADDRESS)
    username = models.CharField(_("fixed word"), max_length=100, blank=True)
    app_password = models.BooleanField(_("wants an app password"), default=False)
    oauth_only = models.BooleanField(_("takes OAuth tokens only"), default=False)
    spf = models.CharField(pgettext_lazy("DNS", "SPF terms"), max_length=500, blank=True, validators=[RegexValidator(SPF_TERMS)])
    # [[number, Quota.Period, Quota.Kind], ...], of recipients.
    limits = models.JSONField(_("limits"), default=list, blank=True)
    messages_per_second = models.PositiveIntegerField(_("mails a second"), null=True, blank=True)
    connections = models.PositiveSmallIntegerField(_("connections"), null=True, blank=True)
    webhooks = models.BooleanField(_("reports bounces by callback"), null=True, blank=True)
    japanese_support = models.BooleanField(_("support in Japanese"), null=True, blank=True)
    yen_invoice = models.BooleanField(_("invoice in yen"), null=True, blank=True)
    regions = models.CharField(_("regions"), max_length=50, blank=True, help_text=_("Such as us eu jp."))
    # A month, in the currency of the plans.
    dedicated_ip_price = models.DecimalField(_("price of a dedicated IP"), max_digits=10, decimal_places=2, null=True, blank=True)

    class Meta:
        verbose_name = _("service")
        verbose_name_plural = _("services")
        ordering = ["-bulk", "name"]

    def __str__(self) -> str:
        return self.name


class Plan(Figures):
    """What a service costs a month, without tax."""

    class Currency(models.TextChoices):
        USD = "USD", "USD"
        EUR = "EUR", "EUR"
        JPY = "JPY", "JPY"

    service = models.ForeignKey(Service, models.CASCADE, related_name="plans", verbose_name=_("service"))
    key = models.CharField(_("key"), max_length=40, unique=True, validators=[validate_slug])
    name = models.CharField(_("name"), max_length=100)
    price = models.DecimalField(_("price a month"), max_digits=12, decimal_places=2)
    currency = models.CharField(_("currency"), max_length=3, choices=Currency, default=Currency.USD)
    included = models.PositiveBigIntegerField(_("mails included"), null=True, blank=True)
    per_thousand = models.DecimalField(
        _("price of 1,000 more"), max_digits=10, decimal_places=3, null=True, blank=True, help_text=_("Empty: no more can be sent.")
    )
    per_day = models.PositiveBigIntegerField(_("most a day"), null=True, blank=True)

    class Meta:
        verbose_name = _("plan")
        verbose_name_plural = _("plans")
        ordering = ["service", "price"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(currency__in=["USD", "EUR", "JPY"]), name="relays_plan_currency"),
        ]

    def __str__(self) -> str:
        return f"{self.service}: {self.name}"


class RelayPlan(models.Model):
    """What is paid for a relay from a date on: one of its service's plans."""

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="plans", verbose_name=pgettext_lazy("mail", "relay"))
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="uses", verbose_name=_("plan"))
    valid_from = models.DateField(_("valid from"))

    class Meta:
        verbose_name = _("plan of a relay")
        verbose_name_plural = _("plans of a relay")
        ordering = ["relay", "-valid_from"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["relay", "valid_from"], name="relays_relayplan_once")]

    def __str__(self) -> str:
        return f"{self.plan} ({self.valid_from})"
