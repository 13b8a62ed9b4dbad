"""Mail that sites hand in, one at a time."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.delivery import prepare
from mailhub.delivery.models import Content
from mailhub.lib.headers import one_line
from mailhub.senders.models import Sender


class Project(models.Model):
    """A sibling site that hands mail in."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    senders = models.ManyToManyField(
        Sender, blank=True, related_name="projects", verbose_name=_("senders"), help_text=_("The From addresses that the site may use.")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("project")
        verbose_name_plural = _("projects")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


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
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
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


class Template(models.Model):
    """A transactional mail's words in one language."""

    key = models.SlugField(_("key"), max_length=100, help_text=_("The name by which sites ask for it, such as order-confirmation."))
    language = models.CharField(_("language"), max_length=10, choices=settings.LANGUAGES)
    subject = models.CharField(_("subject"), max_length=1000, validators=[one_line])
    html = models.TextField(_("HTML"))
    text = models.TextField(_("text"), blank=True, help_text=_("Empty: made from the HTML."))
    # What the placeholders stand for in the preview.
    sample = models.JSONField(
        _("sample data"),
        default=dict,
        blank=True,
        help_text=_("Values for the placeholders in the preview, as JSON. Sites send their own."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        ordering = ["key", "language"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["key", "language"], name="transactional_template_once")]

    def __str__(self) -> str:
        return f"{self.key} ({self.language})"

    def clean(self) -> None:
        problems: dict[str, list[Any]] = {}
        for problem in prepare.check(self.subject, self.html, self.text):
            words = _("Line %(line)s: %(problem)s") % {"line": problem.line, "problem": problem.message}
            problems.setdefault(problem.field, []).append(words)
        if not isinstance(self.sample, dict):
            problems["sample"] = [_('Give an object of names and values, such as {"name": "Taro"}.')]
        if problems:
            raise ValidationError(problems)


class Submission(models.Model):
    """One acceptance: the content it made and the site it came from."""

    class Via(models.TextChoices):
        BACKEND = "backend", _("Django backend")
        API = "api", _("HTTP API")
        SMTP = "smtp", _("SMTP submission")

    # Empty: MailHub's own mail.
    project = models.ForeignKey(
        Project, models.PROTECT, null=True, blank=True, related_name="submissions", db_index=False, verbose_name=_("project")
    )
    content = models.OneToOneField(Content, models.PROTECT, related_name="submission", verbose_name=_("content"))
    via = models.CharField(_("came by"), max_length=10, choices=Via)
    # Who handed it in and from where, as it was then: credentials are deleted when they are revoked.
    origin = models.CharField(_("handed in by"), max_length=300, blank=True)
    # The same key again gives the same answer and no second mail.
    idempotency_key = models.CharField(_("idempotency key"), max_length=100, blank=True)
    # SHA-256 of what was asked: the same key with another request is an error.
    digest = models.CharField(max_length=64, blank=True)
    accepted_at = models.DateTimeField(pgettext_lazy("by MailHub", "accepted"))

    class Meta:
        verbose_name = _("submission")
        verbose_name_plural = _("submissions")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(via__in=["backend", "api", "smtp"]), name="transactional_submission_via"),
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

    def __str__(self) -> str:
        return f"{self.get_via_display()} {date_format(timezone.localtime(self.accepted_at), 'SHORT_DATETIME_FORMAT')}"
