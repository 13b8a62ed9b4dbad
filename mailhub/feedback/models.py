"""What comes back by mail: the mailboxes it is fetched from, and the mails."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.delivery.models import Message
from mailhub.feedback.reports import MailKind
from mailhub.lib import states
from mailhub.lib.fields import EncryptedJSONField
from mailhub.relays.models import Relay
from mailhub.senders.models import Sender


class Mailbox(models.Model):
    """A mailbox at some server in which bounces, complaints and requests to unsubscribe arrive, and from which they are fetched."""

    class Protocol(models.TextChoices):
        IMAP = "imap", "IMAP"
        POP3 = "pop3", "POP3"

    class Security(models.TextChoices):
        TLS = "tls", _("TLS")  # from the first byte
        STARTTLS = "starttls", _("STARTTLS")
        NONE = "none", _("none")

    class Login(models.TextChoices):
        PASSWORD = "password", _("password")  # noqa: S105
        OAUTH = "oauth", _("OAuth 2.0")  # XOAUTH2, with an access token that a refresh token buys

    class Status(models.TextChoices):
        ACTIVE = "active", _("active")  # is looked into
        PAUSED = "paused", _("paused")  # staff stopped it

    MOVES: ClassVar = {Status.ACTIVE: {Status.PAUSED}, Status.PAUSED: {Status.ACTIVE}}
    PORTS: ClassVar = {
        (Protocol.IMAP, Security.TLS): 993,
        (Protocol.IMAP, Security.STARTTLS): 143,
        (Protocol.IMAP, Security.NONE): 143,
        (Protocol.POP3, Security.TLS): 995,
        (Protocol.POP3, Security.STARTTLS): 110,
        (Protocol.POP3, Security.NONE): 110,
    }

    name = models.CharField(_("name"), max_length=100, unique=True)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.ACTIVE, editable=False)
    protocol = models.CharField(_("protocol"), max_length=4, choices=Protocol, default=Protocol.IMAP)
    host = models.CharField(_("host"), max_length=253)
    port = models.PositiveIntegerField(
        _("port"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(65535)],
        help_text=_("Empty: the usual one."),
    )
    security = models.CharField(_("encryption"), max_length=8, choices=Security, default=Security.TLS)
    username = models.CharField(_("user name"), max_length=320)
    login = models.CharField(_("log in with"), max_length=8, choices=Login, default=Login.PASSWORD)
    token_url = models.URLField(
        _("token URL"),
        max_length=500,
        blank=True,
        help_text=_("Where OAuth access tokens are bought: https://oauth2.googleapis.com/token at Google."),
    )
    client_id = models.CharField(_("client ID"), max_length=300, blank=True)
    # password; client_secret, refresh_token.
    secrets = EncryptedJSONField(_("secrets"), default=dict, blank=True, editable=False)
    folders = models.TextField(
        _("folders"),
        default="INBOX",
        help_text=_("One a line. Add the folder for junk: some servers put bounces there. POP3 has only the inbox."),
    )
    done_folder = models.CharField(
        _("move read mails to"),
        max_length=200,
        blank=True,
        help_text=_("A folder, made if need be. Empty: mails are deleted at the server once MailHub has stored them."),
    )
    polled_at = models.DateTimeField(_("last looked into"), null=True, blank=True, editable=False)
    # Of the last look; "" when it went well.
    problem = models.CharField(_("problem"), max_length=500, blank=True, editable=False)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0, editable=False)
    next_poll_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Mails that could not be fetched, and how often that was tried: "folder:validity:number" -> count.
    stumbles = models.JSONField(default=dict, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("mailbox")
        verbose_name_plural = _("mailboxes")
        ordering = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=["active", "paused"]), name="feedback_mailbox_status"),
            models.CheckConstraint(condition=Q(protocol__in=["imap", "pop3"]), name="feedback_mailbox_protocol"),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.login == self.Login.OAUTH and not (self.token_url.startswith("https://") and self.client_id):
            raise ValidationError({"token_url": _("OAuth needs an https token URL and a client ID.")})
        if self.done_folder and self.done_folder in self.folder_names:
            raise ValidationError({"done_folder": _("This folder is looked into: a mail moved there would be fetched again.")})

    @property
    def folder_names(self) -> list[str]:
        return [line.strip() for line in self.folders.splitlines() if line.strip()] or ["INBOX"]

    @property
    def port_number(self) -> int:
        return self.port or self.PORTS[self.Protocol(self.protocol), self.Security(self.security)]

    def pause(self) -> None:
        states.move(self, self.Status.PAUSED, moves=self.MOVES)

    def resume(self) -> None:
        states.move(self, self.Status.ACTIVE, moves=self.MOVES, next_poll_at=None, failures=0)


class IncomingMail(models.Model):
    """A mail that came back, or was sent to one of our return paths. Stored before it is read, and each only once."""

    class Source(models.TextChoices):
        MAILBOX = "mailbox", _("mailbox")
        SMTP = "smtp", "SMTP"
        PIPE = "pipe", _("mail server's command")
        UPLOAD = "upload", _("upload")

    class Status(models.TextChoices):
        NEW = "new", _("to be read")  # stored; what it says is not known yet
        APPLIED = "applied", _("recorded")  # what it says is recorded with a message
        NOTED = "noted", _("nothing to do")  # an automatic reply, a receipt, a report that changes nothing
        UNMATCHED = "unmatched", _("not matched")  # it says something about a mail, and nobody knows which
        UNPROVEN = "unproven", _("not proven")  # it names a message of ours, and proves nothing, or is about somebody else
        STUCK = "stuck", _("set aside")  # reading it failed again and again
        DISMISSED = "dismissed", _("dismissed")  # staff looked at it and let it be

    MOVES: ClassVar = {
        Status.NEW: {Status.APPLIED, Status.NOTED, Status.UNMATCHED, Status.UNPROVEN, Status.STUCK},
        Status.APPLIED: set(),
        Status.NOTED: {Status.APPLIED},
        Status.UNMATCHED: {Status.APPLIED, Status.DISMISSED, Status.NEW},
        Status.UNPROVEN: {Status.APPLIED, Status.DISMISSED, Status.NEW},
        Status.STUCK: {Status.APPLIED, Status.DISMISSED, Status.NEW},
        Status.DISMISSED: {Status.NEW},
    }  # fmt: skip

    class Proof(models.TextChoices):
        RETURN_PATH = "return_path", _("return path")  # it came to the one address that only this message had
        HEADER = "header", _("signed header")  # it returns a header of ours that only this message had
        MESSAGE_ID = "message_id", _("Message-ID")  # which others may have seen: suppresses nobody
        STAFF = "staff", _("matched by hand")

    # SHA-256 of the mail: whatever comes twice, or by two ways, is one.
    digest = models.CharField(max_length=64, unique=True, editable=False)
    source = models.CharField(_("came by"), max_length=10, choices=Source)
    mailbox = models.ForeignKey(
        Mailbox, models.SET_NULL, null=True, blank=True, related_name="mails", db_index=False, verbose_name=_("mailbox")
    )
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.NEW)
    # Where it was sent to, if whoever handed it over knew, and by whom.
    rcpt_to = models.CharField(_("envelope recipient"), max_length=320, blank=True)
    mail_from = models.CharField(_("envelope sender"), max_length=320, blank=True)
    # Forgotten after settings.MAILHUB_KEEP_BODIES_DAYS.
    raw = models.BinaryField(_("mail"), null=True, blank=True, editable=False)
    size = models.PositiveIntegerField(_("size"))
    # From here on: what reading it found.
    kind = models.CharField(_("kind"), max_length=20, choices=[(kind.value, kind.value) for kind in MailKind], blank=True)
    subject = models.CharField(_("subject"), max_length=500, blank=True)
    sender = models.CharField(_("from"), max_length=320, blank=True)
    # One a recipient that it names: recipient, kind, category, action, status, code, diagnostic.
    reports = models.JSONField(_("reports"), default=list, blank=True)
    message = models.ForeignKey(
        Message, models.SET_NULL, null=True, blank=True, related_name="+", db_index=False, verbose_name=_("message")
    )
    proof = models.CharField(_("matched by"), max_length=12, choices=Proof, blank=True)
    # What became of it, in words.
    outcome = models.CharField(_("outcome"), max_length=500, blank=True)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    received_at = models.DateTimeField(pgettext_lazy("mail", "received"))
    read_at = models.DateTimeField(pgettext_lazy("mail", "read"), null=True, blank=True)

    class Meta:
        verbose_name = _("incoming mail")
        verbose_name_plural = _("incoming mails")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["new", "applied", "noted", "unmatched", "unproven", "stuck", "dismissed"]),
                name="feedback_incoming_status",
            ),
        ]
        indexes: ClassVar = [
            # incoming.work_off(): those that are still to be read.
            models.Index(fields=["id"], name="feedback_incoming_new", condition=Q(status="new")),
            # The admin's lists of what needs a person, the newest first, and their counts.
            models.Index(
                fields=["status", "id"], name="feedback_incoming_open", condition=Q(status__in=["unmatched", "unproven", "stuck"])
            ),
            # A message's own page; and what the database looks for when a message is deleted.
            models.Index(fields=["message"], name="feedback_incoming_message", condition=Q(message__isnull=False)),
            # incoming.forget(): those whose words are still to be forgotten, the oldest first.
            models.Index(fields=["received_at"], name="feedback_incoming_words", condition=Q(raw__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.subject or self.sender or self.digest[:12]


class Probe(models.Model):
    """A test mail to a bad address: that its bounce comes back to the return path of its own shows that the relay keeps those."""

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="probes", verbose_name=pgettext_lazy("mail", "relay"))
    sender = models.ForeignKey(Sender, models.CASCADE, related_name="+", verbose_name=_("sender"))
    to = models.CharField(_("recipient"), max_length=320)
    return_path = models.CharField(_("return path"), max_length=320)
    accepted = models.BooleanField(_("accepted by relay"), default=False)
    reply = models.CharField(_("reply"), max_length=500, blank=True)
    sent_at = models.DateTimeField(_("sent"))
    came_back_at = models.DateTimeField(_("came back"), null=True, blank=True)

    class Meta:
        verbose_name = _("return path test")
        verbose_name_plural = _("return path tests")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.relay}: {self.to}"
