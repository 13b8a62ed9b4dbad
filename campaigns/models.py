"""Mail to lists."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Coalesce, Lower
from django.utils.translation import get_supported_language_variant, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from mailhub.delivery import batches, prepare
from mailhub.delivery.models import Batch
from mailhub.lib import addresses, clock, states
from mailhub.lib.headers import one_line
from mailhub.relays.models import Route, Stream
from mailhub.senders.models import Sender

# What stands for something else in templates; contacts cannot have attributes of these names.
RESERVED = frozenset({
    "email", "name", "language", "unsubscribe_url", "organisation", "postal_address", "contact_point", "range", "loop", "self",
    "and", "else", "elif", "endfor", "endif", "false", "for", "if", "in", "is", "none", "not", "or", "true", "set",
})  # fmt: skip


def default_language() -> str:
    """The one of LANGUAGES that pages and mails are in where nobody has chosen another."""
    return get_supported_language_variant(settings.LANGUAGE_CODE)


def is_attribute_name(name: str) -> bool:
    """Whether a template can say {{ name }} and mean the contact's own."""
    return name.isidentifier() and name.casefold() not in RESERVED and len(name) <= 100


def _template_mistakes(subject: str, html: str, text: str) -> dict[str, list[Any]]:
    mistakes: dict[str, list[Any]] = {}
    for problem in prepare.check(subject, html, text):
        words = _("Line %(line)s: %(problem)s") % {"line": problem.line, "problem": problem.message}
        mistakes.setdefault(problem.field, []).append(words)
    return mistakes


class Contact(models.Model):
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    # lib/addresses.py: key() of the normalised address.
    email = models.CharField(_("address"), max_length=320)
    name = models.CharField(_("name"), max_length=200, blank=True, validators=[one_line])
    language = models.CharField(_("language"), max_length=10, blank=True, choices=settings.LANGUAGES)
    # What templates may say of the person, name -> value: {"city": "京都"}.
    attributes = models.JSONField(_("attributes"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("contact")
        verbose_name_plural = _("contacts")
        ordering = ["-id"]
        constraints: ClassVar = [
            # Also the index that imports look addresses up by, and by its operators (PostgreSQL) LIKE 'hana%'.
            models.UniqueConstraint(fields=["email"], name="campaigns_contact_email", opclasses=["varchar_pattern_ops"]),
        ]
        indexes: ClassVar = [
            # The admin's search by the beginning of a name. On PostgreSQL text_pattern_ops, so that LIKE '佐藤%' finds it.
            models.Index(Lower("name"), name="campaigns_contact_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>" if self.name else self.email

    def clean(self) -> None:
        try:
            self.email = addresses.key(addresses.normalise(self.email))
        except ValidationError as error:
            raise ValidationError({"email": error}) from None
        if not isinstance(self.attributes, dict):
            raise ValidationError({"attributes": _('Give names with values, such as {"city": "Kyoto"}.')})
        if unusable := [name for name in self.attributes if not is_attribute_name(name)]:
            raise ValidationError(
                {
                    "attributes": _(
                        "“%(name)s” cannot be a name: use letters, digits and _, and none of the names that mails have already."
                    )
                    % {"name": unusable[0]}
                }
            )

    @property
    def data(self) -> dict[str, Any]:
        """What templates may say of the person; audience.py says the same in SQL."""
        return {**self.attributes, "email": self.email, "name": self.name, "language": self.language}


class MailingListQuerySet(models.QuerySet["MailingList"]):
    def with_growth(self, since: date) -> MailingListQuerySet:
        """Each with `subscribed`, `joined` and `left`, the latter two since that day. Reads a row of Growth a day, no subscriptions."""

        def total(name: str, **only: object) -> Coalesce:
            return Coalesce(models.Sum(f"growth__{name}", filter=Q(**only)), 0)

        return self.annotate(
            subscribed=total("joined") - total("left"),
            joined=total("joined", growth__day__gte=since),
            left=total("left", growth__day__gte=since),
        )


class MailingList(models.Model):
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(
        _("name"), max_length=100, unique=True, validators=[one_line], help_text=_("Recipients see it when they unsubscribe.")
    )
    description = models.TextField(_("description"), blank=True)
    may_track = models.BooleanField(
        _("opens and clicks may be tracked"),
        default=True,
        db_default=True,
        help_text=_("Without it, no campaign that goes to this list tracks anything, whatever it says itself."),
    )
    contacts = models.ManyToManyField(Contact, through="Subscription", related_name="lists", verbose_name=_("contacts"))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = MailingListQuerySet.as_manager()

    class Meta:
        verbose_name = _("list")
        verbose_name_plural = _("lists")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Consent(models.Model):
    """The record that a person agreed (or withdrew), as the law wants it kept: when, how, from where, to which text. Never changed."""

    class Basis(models.TextChoices):
        # Act on Regulation of Transmission of Specified Electronic Mail, article 3(1): consent, and the three exceptions.
        OPT_IN = "opt_in", _("the person asked for it")
        ADDRESS_GIVEN = "address_given", _("the person gave us the address, as on a business card")
        RELATIONSHIP = "relationship", _("we do business with the person")
        PUBLISHED = "published", _("a business address that its owner published")
        WITHDRAWN = "withdrawn", _("the person withdrew")

    contact = models.ForeignKey(Contact, models.CASCADE, related_name="consents", verbose_name=_("contact"))
    # No constraint in the database, here and where one is missing below: each is a look-up for each of a million rows of an import, and
    # for the same row each time. Django keeps lists that have consents or subscriptions from being deleted.
    list = models.ForeignKey(
        MailingList, models.PROTECT, related_name="consents", db_index=False, db_constraint=False, verbose_name=_("list")
    )
    basis = models.CharField(_("basis"), max_length=15, choices=Basis)
    # How and from where: "sign-up form on shop.example", "import customers.csv, line 12".
    source = models.CharField(_("source"), max_length=300)
    text = models.TextField(_("text agreed to"), blank=True)
    ip_address = models.GenericIPAddressField(_("IP address"), null=True, blank=True)
    recorded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
        verbose_name=_("recorded by"),
    )
    at = models.DateTimeField(_("at"))

    class Meta:
        verbose_name = _("consent")
        verbose_name_plural = _("consents")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(basis__in=["opt_in", "address_given", "relationship", "published", "withdrawn"]),
                name="campaigns_consent_basis",
            ),
        ]
        indexes: ClassVar = [
            # The admin's list of a list's consents, the newest first.
            models.Index(fields=["list", "id"], name="campaigns_consent_list"),
        ]

    def __str__(self) -> str:
        return f"{self.get_basis_display()} ({self.source})"


class Subscription(models.Model):
    class Status(models.TextChoices):
        SUBSCRIBED = "subscribed", _("subscribed")  # gets the list's campaigns, if consent is on record
        UNSUBSCRIBED = "unsubscribed", _("unsubscribed")  # does not

    MOVES: ClassVar = {
        Status.SUBSCRIBED: {Status.UNSUBSCRIBED},
        Status.UNSUBSCRIBED: {Status.SUBSCRIBED},
    }

    contact = models.ForeignKey(Contact, models.CASCADE, related_name="subscriptions", db_index=False, verbose_name=_("contact"))
    list = models.ForeignKey(
        MailingList, models.PROTECT, related_name="subscriptions", db_index=False, db_constraint=False, verbose_name=_("list")
    )
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.SUBSCRIBED)
    # The consent in force. Without one no campaign goes out on this subscription.
    # Consents go with their contact and never alone, and so do subscriptions: nobody has to look for those of a consent.
    consent = models.ForeignKey(
        Consent,
        models.DO_NOTHING,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
        verbose_name=_("consent"),
    )
    changed_at = models.DateTimeField(pgettext_lazy("in this state", "since"))

    class Meta:
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=["subscribed", "unsubscribed"]), name="campaigns_subscription_status"),
            # Also the index by which a contact's page finds its subscriptions.
            models.UniqueConstraint(fields=["contact", "list"], name="campaigns_subscription_once"),
        ]
        indexes: ClassVar = [
            # audience.expand() walks a list's subscribers by contact; so do the admin's lists of them.
            models.Index(fields=["list", "contact"], name="campaigns_subscription_walk", include=["status", "consent"]),
        ]

    def __str__(self) -> str:
        return f"{self.contact} / {self.list}"


class Growth(models.Model):
    """How many joined a list on a day of the site's time zone, and how many left it. In all, as many more have joined than left as are
    subscribed: growth.add() writes it in the transaction that moves the subscriptions, so that nobody has to count those."""

    list = models.ForeignKey(MailingList, models.CASCADE, related_name="growth", db_index=False)
    day = models.DateField()
    joined = models.PositiveIntegerField(default=0)
    left = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            # Also the index by which a list's days are read.
            models.UniqueConstraint(fields=["list", "day"], name="campaigns_growth_once"),
        ]

    def __str__(self) -> str:
        return f"{self.list} {self.day}: +{self.joined} -{self.left}"


class Template(models.Model):
    """Where a campaign's words begin."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    language = models.CharField(
        _("language"),
        max_length=10,
        choices=settings.LANGUAGES,
        default=default_language,
        help_text=_("Of the lines that the law asks for."),
    )
    subject = models.CharField(_("subject"), max_length=1000, validators=[one_line])
    html = models.TextField(_("HTML"))
    text = models.TextField(_("text"), blank=True, help_text=_("Empty: made from the HTML."))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if mistakes := _template_mistakes(self.subject, self.html, self.text):
            raise ValidationError(mistakes)


class Campaign(models.Model):
    class Status(models.TextChoices):
        DRAFT = "draft", _("draft")  # may be changed; nothing has left
        SCHEDULED = "scheduled", _("scheduled")  # is launched at scheduled_at
        LAUNCHED = "launched", _("launched")  # its batch says the rest

    MOVES: ClassVar = {
        Status.DRAFT: {Status.SCHEDULED, Status.LAUNCHED},
        Status.SCHEDULED: {Status.DRAFT, Status.LAUNCHED},
        Status.LAUNCHED: set(),
    }

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=200, help_text=_("For you; recipients do not see it."))
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.DRAFT, editable=False)
    sender = models.ForeignKey(Sender, models.PROTECT, related_name="campaigns", verbose_name=_("sender"))
    lists = models.ManyToManyField(MailingList, related_name="campaigns", verbose_name=_("lists"))
    language = models.CharField(
        _("language"),
        max_length=10,
        choices=settings.LANGUAGES,
        default=default_language,
        help_text=_("Of the lines that the law asks for."),
    )
    subject = models.CharField(_("subject"), max_length=1000, validators=[one_line])
    html = models.TextField(_("HTML"))
    text = models.TextField(_("text"), blank=True, help_text=_("Empty: made from the HTML."))
    route = models.ForeignKey(
        Route,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("route"),
        help_text=_("Empty: the sender's route for campaigns."),
    )
    tracks_opens = models.BooleanField(
        _("track opens"),
        default=True,
        db_default=True,
        help_text=_("A picture of one pixel tells when a mail is opened, as far as the reader's mail program lets it."),
    )
    tracks_clicks = models.BooleanField(
        _("track clicks"),
        default=True,
        db_default=True,
        help_text=_('Links in the HTML lead by way of MailHub, but for those with data-track="off".'),
    )
    scheduled_at = models.DateTimeField(_("scheduled for"), null=True, blank=True, editable=False)
    # Why a scheduled campaign could not be launched when its time came.
    problem = models.TextField(_("problem"), blank=True, editable=False)
    batch = models.OneToOneField(
        Batch, models.PROTECT, null=True, blank=True, related_name="campaign", editable=False, verbose_name=_("batch")
    )
    launched_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", editable=False, verbose_name=_("launched by")
    )
    # Whose key wrote it over the API, by the upper package's number; 0: staff. The same idempotency key again makes no second campaign, and
    # with another request (its SHA-256) is an error.
    source_ref = models.BigIntegerField(default=0, db_default=0, editable=False)
    idempotency_key = models.CharField(_("idempotency key"), max_length=100, blank=True, default="", db_default="", editable=False)
    digest = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)
    # When its batch last grew, or was last asked to. tasks.tick() takes a long silence for a lost wake-up.
    filling_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("campaign")
        verbose_name_plural = _("campaigns")
        ordering = ["-id"]
        permissions: ClassVar = [("send_campaign", _("Can send campaigns"))]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=["draft", "scheduled", "launched"]), name="campaigns_campaign_status"),
            # A launched campaign has a batch, and only a launched one.
            models.CheckConstraint(
                condition=Q(status="launched", batch__isnull=False) | (~Q(status="launched") & Q(batch__isnull=True)),
                name="campaigns_campaign_batch",
            ),
            models.CheckConstraint(
                condition=~Q(status="scheduled") | Q(scheduled_at__isnull=False), name="campaigns_campaign_scheduled_at"
            ),
            models.UniqueConstraint(
                fields=["source_ref", "idempotency_key"], name="campaigns_campaign_once", condition=~Q(idempotency_key="")
            ),
        ]
        indexes: ClassVar = [
            # tasks.launch_due(): the few campaigns whose time may have come.
            models.Index(fields=["scheduled_at"], name="campaigns_campaign_due", condition=Q(status="scheduled")),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if mistakes := _template_mistakes(self.subject, self.html, self.text):
            raise ValidationError(mistakes)

    @property
    def state(self) -> str:
        """What staff call its state: its own until it is launched, its batch's from then on."""
        return self.batch.status if self.batch else self.status

    def get_state_display(self) -> str:
        return self.batch.get_status_display() if self.batch else self.get_status_display()

    @property
    def route_in_force(self) -> Route | None:
        return self.route or self.sender.route(Stream.CAMPAIGN)

    def schedule(self, at: datetime, by: User | None = None) -> None:
        """Have it launched at `at`, in the name of `by`. launch.schedule() checks it first."""
        states.move(self, self.Status.SCHEDULED, moves=self.MOVES, scheduled_at=at, launched_by=by, problem="")

    def unschedule(self, problem: str = "") -> None:
        """Back to a draft; `problem` says why when it was not its author's wish."""
        states.move(self, self.Status.DRAFT, moves=self.MOVES, scheduled_at=None, launched_by=None, problem=problem)

    def launched(self, batch: Batch, by: User | None) -> None:
        """launch.launch() has checked it and made its batch."""
        states.move(self, self.Status.LAUNCHED, moves=self.MOVES, batch=batch, launched_by=by, problem="", filling_at=clock.now())

    def pause(self) -> None:
        self._sending().pause()

    def resume(self) -> None:
        batches.resume(self._sending())

    def cancel(self) -> None:
        """Nothing more of it leaves; what has left cannot be called back."""
        batches.cancel(self._sending())

    def _sending(self) -> Batch:
        if self.batch is None:
            raise states.WrongState(f"campaign {self.pk} has not been launched")
        return self.batch

    @transaction.atomic
    def copy(self) -> Campaign:
        """A new draft that says the same to the same lists."""
        copy = Campaign.objects.create(
            name=(_("Copy of %(name)s") % {"name": self.name})[:200],
            sender=self.sender,
            language=self.language,
            subject=self.subject,
            html=self.html,
            text=self.text,
            route=self.route,
            tracks_opens=self.tracks_opens,
            tracks_clicks=self.tracks_clicks,
        )
        copy.lists.set(self.lists.all())
        return copy


class LeftOut(models.Model):
    """A contact of a campaign's lists who got no mail of it, and why."""

    class Reason(models.TextChoices):
        UNSUBSCRIBED = "unsubscribed", _("unsubscribed")
        NO_CONSENT = "no_consent", _("no consent on record")
        SUPPRESSED = "suppressed", _("address is suppressed")

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="left_out", db_index=False, verbose_name=_("campaign"))
    contact = models.ForeignKey(Contact, models.CASCADE, related_name="+", verbose_name=_("contact"))
    reason = models.CharField(_("reason"), max_length=12, choices=Reason)

    class Meta:
        verbose_name = _("left-out contact")
        verbose_name_plural = _("left-out contacts")
        ordering = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(reason__in=["unsubscribed", "no_consent", "suppressed"]), name="campaigns_leftout_reason"),
            # Also the index by which the campaign's page lists them.
            models.UniqueConstraint(fields=["campaign", "contact"], name="campaigns_leftout_once"),
        ]

    def __str__(self) -> str:
        return f"{self.contact}: {self.get_reason_display()}"


class Import(models.Model):
    """A file of contacts that was read in, and what became of its rows. Never changed."""

    name = models.CharField(_("file"), max_length=200)
    list = models.ForeignKey(MailingList, models.PROTECT, related_name="imports", verbose_name=_("list"))
    basis = models.CharField(_("basis"), max_length=15, choices=Consent.Basis)
    source = models.CharField(_("source"), max_length=200)
    encoding = models.CharField(_("encoding"), max_length=20)
    rows = models.PositiveIntegerField(_("rows"))
    created = models.PositiveIntegerField(_("new contacts"))
    updated = models.PositiveIntegerField(_("known contacts"))
    subscribed = models.PositiveIntegerField(_("newly subscribed"))
    unsubscribed = models.PositiveIntegerField(_("had unsubscribed, and stay so"))
    rejected = models.PositiveIntegerField(_("rejected rows"))
    # The first of the rejected: [[line, column, value, reason], ...].
    rejections = models.JSONField(editable=False)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("by"))
    at = models.DateTimeField(_("at"))

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name
