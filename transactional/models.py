"""Mail that sites hand in, one at a time."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from mailhub.delivery import formats, prepare
from mailhub.delivery.formats import Format
from mailhub.delivery.models import Content
from mailhub.lib.headers import one_line
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from transactional import variables


class Project(models.Model):
    """A sibling site that hands mail in, or one that has campaigns sent."""

    class FromPolicy(models.TextChoices):
        KEEP = "keep", _("as the site gives it; refused unless it is one of the senders")
        DEFAULT = "default", _("as the site gives it where that is one of the senders, otherwise the default sender")
        FORCE = "force", _("always the default sender")

    class SuppressionScope(models.TextChoices):
        ALL = "all", _("all mail of MailHub, or campaigns alone, as MAILHUB_COMPLAINTS_STOP says")
        PROJECT = "project", _("mail of this project alone")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    stream = models.CharField(
        _("stream"),
        max_length=15,
        choices=Stream,
        default=Stream.TRANSACTIONAL,
        db_default=Stream.TRANSACTIONAL,
        help_text=_(
            "Mails for one person go before campaigns and need no consent. Of a project for campaigns they are refused: it makes campaigns"
            " over the API. What waits already goes on as it was accepted."
        ),
    )
    senders = models.ManyToManyField(
        Sender, blank=True, related_name="projects", verbose_name=_("senders"), help_text=_("The From addresses that the site may use.")
    )
    from_policy = models.CharField(_("From policy"), max_length=10, choices=FromPolicy, default=FromPolicy.KEEP)
    default_sender = models.ForeignKey(
        Sender,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("default sender"),
        help_text=_("Takes the place of another From as the policy says; replies still go to that one."),
    )
    # Recipients accepted; limits.py counts them for all processes together.
    limit_minute = models.PositiveIntegerField(
        _("mails a minute"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Each recipient counts. Empty: any number."),
    )
    limit_day = models.PositiveIntegerField(
        _("mails a day"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("From midnight to midnight. Empty: any number."),
    )
    suppression_scope = models.CharField(
        _("a complaint stops"),
        max_length=10,
        choices=SuppressionScope,
        default=SuppressionScope.ALL,
        db_default=SuppressionScope.ALL,
        help_text=_("When a recipient calls a mail of this site spam. An address that does not exist gets no mail from anybody."),
    )
    keep_bodies_days = models.PositiveSmallIntegerField(
        _("days that words are kept"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Then what the mails said is forgotten; that they were sent is kept. Empty: as long as for all projects."),
    )
    muted = models.TextField(
        _("mail that is not sent"),
        blank=True,
        default="",
        db_default="",
        max_length=5000,
        help_text=_("One a line: a template's key, a tag, or words of a subject. Such mail is accepted and recorded, and goes nowhere."),
    )
    # Of mails made from our templates: what comes finished keeps its bytes.
    tracks_opens = models.BooleanField(
        _("track opens"), default=False, db_default=False, help_text=_("Of mails made from templates, by a picture of one pixel.")
    )
    tracks_clicks = models.BooleanField(
        _("track clicks"),
        default=False,
        db_default=False,
        help_text=_("Of mails made from templates. Links with placeholders are never tracked: they may be for one person alone."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("project")
        verbose_name_plural = _("projects")
        ordering = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(stream__in=["transactional", "campaign"]), name="transactional_project_stream"),
            models.CheckConstraint(condition=Q(from_policy__in=["keep", "default", "force"]), name="transactional_project_policy"),
            models.CheckConstraint(condition=Q(suppression_scope__in=["all", "project"]), name="transactional_project_suppressions"),
        ]

    def __str__(self) -> str:
        return self.name

    def mutes(self, template: str, tags: Collection[str], subject: str) -> str:
        """The line by which such a mail is not sent; "" when it is."""
        lines = (line.strip() for line in self.muted.splitlines()) if self.muted else ()
        said = subject.casefold()
        return next((line for line in lines if line and (line == template or line in tags or line.casefold() in said)), "")

    def clean(self) -> None:
        problems: dict[str, Any] = {}
        if any(len(line.strip()) == 1 for line in self.muted.splitlines()):
            problems["muted"] = _("A line has two characters at least: a single one stands in most subjects.")
        if self.from_policy != self.FromPolicy.KEEP and not self.default_sender:
            problems["default_sender"] = _("This policy needs a sender that takes the place of others.")
        if self.default_sender and self.default_sender.status != Sender.Status.CONFIRMED:
            problems["default_sender"] = _("This sender is not confirmed yet.")
        if self.keep_bodies_days and self.keep_bodies_days > settings.MAILHUB_KEEP_BODIES_DAYS:
            days = {"days": settings.MAILHUB_KEEP_BODIES_DAYS}
            problems["keep_bodies_days"] = _("Words are kept for %(days)s days at most (MAILHUB_KEEP_BODIES_DAYS).") % days
        if problems:
            raise ValidationError(problems)


class Credential(models.Model):
    """What a site shows to be let in. The secret itself is shown once; its SHA-256 is kept (it has 160 random bits)."""

    class Kind(models.TextChoices):
        API_KEY = "api_key", _("API key")
        SMTP = "smtp", _("SMTP password")

    project = models.ForeignKey(Project, models.CASCADE, related_name="credentials", verbose_name=_("project"))
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    name = models.CharField(_("name"), max_length=100)
    # The secret's first characters: how people tell credentials apart, and the index by which one is found.
    prefix = models.CharField(_("prefix"), max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    # What an API key opens, by names of mailhub.lib.api.Scope. An SMTP password opens sending alone.
    scopes = models.JSONField(_("scopes"), default=list, blank=True)
    # Networks such as 192.0.2.0/24 that it is taken from; none: from anywhere.
    networks = models.JSONField(_("networks"), default=list, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    # Requests to the HTTP API that were left of its rate at that moment (api/access.py).
    requests_left = models.FloatField(default=0, db_default=0, editable=False)
    requests_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("credential")
        verbose_name_plural = _("credentials")
        ordering = ["project", "name"]
        constraints: ClassVar = [models.CheckConstraint(condition=Q(kind__in=["api_key", "smtp"]), name="transactional_credential_kind")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def issue(self) -> str:
        """A new secret, to be shown once. The caller saves the row."""
        secret = f"mh_{secrets.token_hex(4)}_{secrets.token_urlsafe(24)}"
        self.prefix, self.digest = secret[:11], hashlib.sha256(secret.encode()).hexdigest()
        return secret

    @property
    def is_expired(self) -> bool:
        """For people; who is let in is asked of the database's clock."""
        return self.expires_at is not None and self.expires_at <= timezone.now()

    def is_for(self, client: str) -> bool:
        """Whether the secret is taken from this IP address."""
        if not self.networks:
            return True
        try:
            address = ip_address(client.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in ip_network(network) for network in self.networks)


class Template(models.Model):
    """A transactional mail's words in one language: what staff write. What sites get is the version that was published last.

    Each language is published by itself, so that a slip in one is mended without the others."""

    key = models.SlugField(_("key"), max_length=100, help_text=_("The name by which sites ask for it, such as order-confirmation."))
    language = models.CharField(_("language"), max_length=10, choices=settings.LANGUAGES)
    format = models.CharField(_("written in"), max_length=10, choices=Format, default=Format.HTML)
    subject = models.CharField(_("subject"), max_length=1000, validators=[one_line])
    source = models.TextField(_("words"))
    text = models.TextField(_("text"), blank=True, help_text=_("Empty: made from the words above."))
    # What the placeholders stand for in the preview, and thereby the declaration of what a site has to give (variables.py).
    sample = models.JSONField(
        _("variables, with samples"),
        default=dict,
        blank=True,
        help_text=_("Every value that a site has to give, with a sample of it, as JSON. A mail that lacks one is refused, by its name."),
    )
    optional = models.CharField(
        _("may be missing"),
        max_length=1000,
        blank=True,
        help_text=_("Names of variables that a site may leave out, with commas between them, such as order.coupon, items.note."),
    )
    published = models.ForeignKey(
        "TemplateVersion", models.SET_NULL, null=True, blank=True, editable=False, related_name="+", verbose_name=_("published version")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    changed_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        ordering = ["key", "language"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["key", "language"], name="transactional_template_once")]

    def __str__(self) -> str:
        return f"{self.key} ({self.language})"

    @property
    def html(self) -> str:
        """Raises formats.NotWellFormed."""
        return formats.html(self.source, self.format)

    def clean(self) -> None:
        problems = self.mistakes()
        try:
            variables.optional(self.optional)
        except ValidationError as error:
            problems["optional"] = error.messages
        if not isinstance(self.sample, dict):
            problems["sample"] = [_('Give an object of names and values, such as {"name": "Taro"}.')]
        if problems:
            raise ValidationError(problems)

    def mistakes(self, known: Collection[str] | None = None) -> dict[str, list[Any]]:
        """What is wrong, by field. With `known`, placeholders that stand for no such variable count, too."""
        problems: dict[str, list[Any]] = {}
        try:
            html = self.html
        except formats.NotWellFormed as error:
            problems["source"], html = [str(error)], ""
        for problem in prepare.check(self.subject, html if self.format == Format.HTML else "", self.text, known):
            words = _("Line %(line)s: %(problem)s") % {"line": problem.line, "problem": problem.message}
            problems.setdefault("source" if problem.field == "html" else problem.field, []).append(words)
        if self.format != Format.HTML and html:
            # Its lines are not those that were written.
            problems.setdefault("source", []).extend(problem.message for problem in prepare.check("", html, "", known))
        return {field: found for field, found in problems.items() if found}

    @property
    def changed(self) -> bool:
        """Whether what was written differs from what is sent."""
        return self.published is None or any(getattr(self, name) != getattr(self.published, name) for name in WORDS)

    @transaction.atomic
    def publish(self, by: User | None, note: str = "") -> TemplateVersion:
        """Make what is written now what is sent from now on. Raises ValidationError for what a mail could not be made of."""
        Template.objects.select_for_update().get(pk=self.pk)
        if problems := {**self.mistakes(self.sample.keys())}:
            raise ValidationError([words for found in problems.values() for words in found])
        variables.check(self)
        last = self.versions.order_by("-number").values_list("number", flat=True).first() or 0
        words = {name: getattr(self, name) for name in WORDS}
        version = self.versions.create(number=last + 1, html=self.html, note=note, published_by=by, **words)
        self.use(version)
        return version

    def use(self, version: TemplateVersion) -> None:
        """Send this version from now on; what is written stays."""
        Template.objects.filter(pk=self.pk).update(published=version)
        self.published = version

    def take_back(self, version: TemplateVersion) -> None:
        """Write on from this version; what is sent stays."""
        for name in WORDS:
            setattr(self, name, getattr(version, name))
        self.save()


# What a version keeps of a template as it was written.
WORDS = ("format", "subject", "source", "text", "sample", "optional")


class TemplateVersion(models.Model):
    """A template as it was published once. It never changes."""

    template = models.ForeignKey(Template, models.CASCADE, related_name="versions", verbose_name=_("template"))
    number = models.PositiveIntegerField(_("number"))
    format = models.CharField(_("written in"), max_length=10, choices=Format)
    subject = models.CharField(_("subject"), max_length=1000)
    source = models.TextField(_("words"))
    # Of the source, as it is sent: made once.
    html = models.TextField(_("HTML"))
    text = models.TextField(_("text"), blank=True)
    sample = models.JSONField(_("variables, with samples"), default=dict)
    optional = models.CharField(_("may be missing"), max_length=1000, blank=True)
    note = models.CharField(_("note"), max_length=200, blank=True)
    published_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", db_index=False, verbose_name=_("published by")
    )
    published_at = models.DateTimeField(_("published"), auto_now_add=True)

    class Meta:
        verbose_name = _("version of a template")
        verbose_name_plural = _("versions of templates")
        ordering = ["-number"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["template", "number"], name="transactional_version_once")]

    def __str__(self) -> str:
        return f"{self.template} {self.number}"


class Submission(models.Model):
    """One acceptance: the content it made and the site it came from."""

    class Via(models.TextChoices):
        BACKEND = "backend", _("Django backend")
        API = "api", _("HTTP API")
        SMTP = "smtp", _("SMTP submission")
        ADMIN = "admin", _("a test by staff")

    # Empty: MailHub's own mail.
    project = models.ForeignKey(
        Project, models.PROTECT, null=True, blank=True, related_name="submissions", db_index=False, verbose_name=_("project")
    )
    content = models.OneToOneField(Content, models.PROTECT, related_name="submission", verbose_name=_("content"))
    via = models.CharField(_("came by"), max_length=10, choices=Via)
    # Key of the template it was made from, and which of its versions; empty for a finished mail.
    template = models.CharField(_("template"), max_length=100, blank=True, default="", db_default="")
    version = models.PositiveIntegerField(_("version"), null=True, blank=True)
    # Who handed it in and from where, as it was then: credentials are deleted when they are revoked.
    origin = models.CharField(_("handed in by"), max_length=300, blank=True)
    # The same key again gives the same answer and no second mail.
    idempotency_key = models.CharField(_("idempotency key"), max_length=100, blank=True)
    # SHA-256 of what was asked: the same key with another request is an error.
    digest = models.CharField(max_length=64, blank=True)
    # What the site says of the mail, for itself: labels, each between line feeds, and names with values.
    tags = models.CharField(_("tags"), max_length=1100, blank=True, default="", db_default="")
    metadata = models.JSONField(_("metadata"), default=dict, blank=True, db_default=models.Value({}, models.JSONField()))
    accepted_at = models.DateTimeField(pgettext_lazy("by MailHub", "accepted"))

    class Meta:
        verbose_name = _("submission")
        verbose_name_plural = _("submissions")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(via__in=["backend", "api", "smtp", "admin"]), name="transactional_submission_via"),
            # Also the index that sending.send() looks the key up by.
            models.UniqueConstraint(
                fields=["project", "idempotency_key"], name="transactional_submission_once", condition=~Q(idempotency_key="")
            ),
            models.UniqueConstraint(
                fields=["idempotency_key"],
                name="transactional_submission_own_once",
                condition=Q(project__isnull=True) & ~Q(idempotency_key=""),
            ),
        ]
        indexes: ClassVar = [
            # The message log: a project's mails, and a template's, the newest first.
            models.Index(fields=["project", "id"], name="transactional_submission_of"),
            models.Index(fields=["template", "id"], name="transactional_submission_by", condition=~Q(template="")),
        ]

    @property
    def received(self) -> str:
        """From whom and how, for the message's timeline."""
        words = gettext("By %(way)s, from %(project)s.") % {
            "way": self.get_via_display(), "project": self.project or gettext("MailHub itself"),
        }  # fmt: skip
        if self.template:
            named = gettext("Template %(key)s.") % {"key": self.template}
            if self.version:
                named = gettext("Template %(key)s, version %(number)s.") % {"key": self.template, "number": self.version}
            words = f"{words} {named}"
        return f"{words} {self.origin}".strip()

    def __str__(self) -> str:
        return f"{self.get_via_display()} {date_format(timezone.localtime(self.accepted_at), 'SHORT_DATETIME_FORMAT')}"

    @property
    def labels(self) -> list[str]:
        return self.tags.strip("\n").split("\n") if self.tags else []


class Intake(models.Model):
    """How many mails a project has handed in within a window of time (limits.py)."""

    class Meter(models.TextChoices):
        MINUTE = "minute", _("mails a minute")
        DAY = "day", _("mails a day")

    project = models.ForeignKey(Project, models.CASCADE, related_name="+", db_index=False, verbose_name=_("project"))
    meter = models.CharField(max_length=10, choices=Meter)
    starts_at = models.DateTimeField()
    taken = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(meter__in=["minute", "day"]), name="transactional_intake_meter"),
            models.UniqueConstraint(fields=["project", "meter", "starts_at"], name="transactional_intake_once"),
        ]

    def __str__(self) -> str:
        return f"{self.project} {self.meter} {self.starts_at}: {self.taken}"


class Resend(models.Model):
    """A message that a site had sent again, under a key of its own: the same key again is answered with the same copy (resending.py)."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="+", db_index=False, verbose_name=_("project"))
    idempotency_key = models.CharField(_("idempotency key"), max_length=100)
    # SHA-256 of what was asked.
    digest = models.CharField(max_length=64)
    # Key of the copy; null only within the transaction that makes it. Messages are forgotten in bulk, so it is no foreign key.
    message = models.BigIntegerField(null=True)
    made_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["project", "idempotency_key"], name="transactional_resend_once")]

    def __str__(self) -> str:
        return self.idempotency_key
