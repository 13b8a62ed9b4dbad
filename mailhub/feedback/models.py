"""What comes back: by mail, the mailboxes it is fetched from and the mails; by HTTP, the callbacks of services."""

from __future__ import annotations

import secrets
from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.delivery.models import Event, Message
from mailhub.feedback.reports import MailKind
from mailhub.lib import clock, states
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
    # Of a mail that cannot be fetched, before it is passed over.
    TRIES = 3
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
    # While somebody looks into it; and that somebody else wanted to meanwhile.
    held_until = models.DateTimeField(null=True, editable=False)
    asked_again = models.BooleanField(default=False, editable=False)
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
    def left(self) -> int:
        """Mails that could not be fetched, for their size or else, and stay at the server."""
        return sum(tries >= self.TRIES for tries in self.stumbles.values())

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

    class Status(models.TextChoices):
        WAITING = "waiting", _("answer awaited")  # was accepted; nothing has come back yet
        KEPT = "kept", _("return path kept")  # its bounce came to the return path that it had
        CALLBACK = "callback", _("told by callback")  # the service told us, and nothing came to the return path in time
        REFUSED = "refused", _("refused")  # by the relay at once: nobody knows what it does with what it takes
        SILENT = "silent", _("nothing came back")  # in time

    MOVES: ClassVar = {
        Status.WAITING: {Status.KEPT, Status.CALLBACK, Status.REFUSED, Status.SILENT},
        # A bounce may take days.
        Status.CALLBACK: {Status.KEPT},
        Status.SILENT: {Status.KEPT},
        Status.KEPT: set(),
        Status.REFUSED: set(),
    }

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="probes", verbose_name=pgettext_lazy("mail", "relay"))
    sender = models.ForeignKey(Sender, models.CASCADE, related_name="+", verbose_name=_("sender"))
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.WAITING)
    to = models.CharField(_("recipient"), max_length=320)
    return_path = models.CharField(_("return path"), max_length=320)
    accepted = models.BooleanField(_("accepted by relay"), default=False)
    reply = models.CharField(_("reply"), max_length=500, blank=True)
    sent_at = models.DateTimeField(_("sent"))
    called_back_at = models.DateTimeField(_("told by callback"), null=True, blank=True)
    came_back_at = models.DateTimeField(_("came back"), null=True, blank=True)

    class Meta:
        verbose_name = _("return path test")
        verbose_name_plural = _("return path tests")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["waiting", "kept", "callback", "refused", "silent"]), name="feedback_probe_status"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.relay}: {self.to}"


# --------------------------------------------------------------------------------------------------------------------- callbacks


def new_token() -> str:
    return secrets.token_urlsafe(24)


class CallbackURL(models.Model):
    """Where a service tells what became of the mails of one relay: an address that nobody guesses, and what proves that it is the
    service."""

    relay = models.OneToOneField(Relay, models.CASCADE, related_name="callback_url", verbose_name=pgettext_lazy("mail", "relay"))
    # Whose callbacks: a row of callers.py. Of a relay that speaks SMTP staff say which service stands behind it.
    service = models.CharField(_("service"), max_length=30)
    token = models.CharField(max_length=40, unique=True, default=new_token, editable=False)
    # By the names in callers.py; `password` is ours.
    secrets = EncryptedJSONField(_("secrets"), default=dict, blank=True, editable=False)
    # Of callbacks that were taken, and of those that were not: signatures.Why, and what it was about.
    last_at = models.DateTimeField(_("last callback"), null=True, blank=True, editable=False)
    refused = models.PositiveIntegerField(_("refused"), default=0, editable=False)
    refused_at = models.DateTimeField(_("last refused"), null=True, blank=True, editable=False)
    refused_why = models.CharField(_("why it was refused"), max_length=20, blank=True, editable=False)
    refused_about = models.CharField(max_length=300, blank=True, editable=False)
    # Set while a wake-up is on its way, so that a thousand callbacks make one task.
    wake = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("callback URL")
        verbose_name_plural = _("callback URLs")

    def __str__(self) -> str:
        return str(self.relay)


class Callback(models.Model):
    """What a service posted. Stored before it is read, and each only once."""

    class Status(models.TextChoices):
        NEW = "new", _("to be read")  # stored, and perhaps read in part
        DONE = "done", _("read")  # all of its events are recorded, parked or none of ours
        STUCK = "stuck", _("set aside")  # recording it failed again and again

    MOVES: ClassVar = {Status.NEW: {Status.DONE, Status.STUCK}, Status.STUCK: {Status.NEW}, Status.DONE: set()}

    url = models.ForeignKey(CallbackURL, models.CASCADE, related_name="callbacks", db_index=False, verbose_name=_("callback URL"))
    # SHA-256 of what makes it the same when it comes again.
    digest = models.CharField(max_length=64, editable=False)
    # SHA-256 of the body.
    body_digest = models.CharField(max_length=64, editable=False)
    status = models.CharField(_("status"), max_length=5, choices=Status, default=Status.NEW)
    # Forgotten after settings.MAILHUB_KEEP_BODIES_DAYS.
    body = models.BinaryField(_("body"), null=True, blank=True, editable=False)
    # What reading it needs besides, by the names that WSGI has for them.
    meta = models.JSONField(default=dict, editable=False)
    size = models.PositiveIntegerField(_("size"))
    # Amazon asks whether we want a topic's messages: no events.
    asks = models.BooleanField(default=False, editable=False)
    # Of its events so many have been seen to.
    position = models.PositiveIntegerField(_("events"), default=0)
    recorded = models.PositiveIntegerField(_("recorded events"), default=0)
    parked = models.PositiveIntegerField(_("parked"), default=0)
    # Not about mail of ours, or nothing that we keep.
    passed = models.PositiveIntegerField(_("passed over"), default=0)
    unread = models.PositiveIntegerField(_("not readable"), default=0)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    received_at = models.DateTimeField(pgettext_lazy("mail", "received"))

    class Meta:
        verbose_name = _("callback")
        verbose_name_plural = _("callbacks")
        ordering = ["-id"]
        constraints: ClassVar = [
            # callbacks.take(): what comes twice; and what the database looks for when a relay is deleted.
            models.UniqueConstraint(fields=["url", "digest"], name="feedback_callback_once"),
            models.CheckConstraint(condition=Q(status__in=["new", "done", "stuck"]), name="feedback_callback_status"),
        ]
        indexes: ClassVar = [
            # callbacks.work_off(): those that are still to be read.
            models.Index(fields=["id"], name="feedback_callback_new", condition=Q(status="new")),
            # The admin's list of what needs a person.
            models.Index(fields=["id"], name="feedback_callback_stuck", condition=Q(status="stuck")),
            # callbacks.forget(): those whose bodies are still to be forgotten, the oldest first.
            models.Index(fields=["received_at"], name="feedback_callback_bodies", condition=Q(body__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.url} #{self.pk}"


class ParkedReport(models.Model):
    """An event that a service told, and for which no message was found: it may have come before our own commit. Tried again for a while,
    then kept to be seen."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("tried again")
        KEPT = "kept", _("not matched")  # nothing was found in all that time, or it is about somebody else
        APPLIED = "applied", _("recorded")  # its message came after all
        DISMISSED = "dismissed", _("dismissed")  # staff looked at it and let it be

    class Why(models.TextChoices):
        UNKNOWN = "unknown", _("no such message")
        RECIPIENT = "recipient", _("the message went to somebody else")
        RELAY = "relay", _("the message did not leave by this relay")

    MOVES: ClassVar = {
        Status.WAITING: {Status.KEPT, Status.APPLIED, Status.DISMISSED},
        Status.KEPT: {Status.WAITING, Status.DISMISSED},
        Status.APPLIED: set(),
        Status.DISMISSED: {Status.WAITING},
    }

    url = models.ForeignKey(CallbackURL, models.CASCADE, related_name="parked_reports", verbose_name=_("callback URL"))
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.WAITING)
    why = models.CharField(_("why"), max_length=10, choices=Why)
    # What it claims, as in events.Report, and whom it names.
    type = models.CharField(_("type"), max_length=15, choices=Event.Type)
    recipient = models.CharField(_("recipient"), max_length=320, blank=True)
    number = models.BigIntegerField(_("message"), null=True, blank=True)
    public_id = models.UUIDField(_("public ID"), null=True, blank=True)
    at = models.DateTimeField(_("at"))
    detail = models.CharField(_("detail"), max_length=500, blank=True)
    kind = models.CharField(_("kind"), max_length=7, choices=Event.Kind, blank=True)
    category = models.CharField(_("category"), max_length=15, blank=True)
    source = models.CharField(max_length=200, editable=False)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    next_try_at = models.DateTimeField(_("next try"), null=True, blank=True)
    received_at = models.DateTimeField(pgettext_lazy("mail", "received"))

    class Meta:
        verbose_name = _("parked report")
        verbose_name_plural = _("parked reports")
        ordering = ["-id"]
        constraints: ClassVar = [
            # The same event is parked once, however often it comes.
            models.UniqueConstraint(fields=["url", "source"], name="feedback_parked_once"),
            models.CheckConstraint(condition=Q(status__in=["waiting", "kept", "applied", "dismissed"]), name="feedback_parked_status"),
        ]
        indexes: ClassVar = [
            # callbacks.try_parked(): those that are due.
            models.Index(fields=["next_try_at"], name="feedback_parked_due", condition=Q(status="waiting")),
            # The admin's list of what needs a person, the newest first, and its count.
            models.Index(fields=["status", "id"], name="feedback_parked_kept", condition=Q(status="kept")),
            # callbacks.forget(), the oldest first.
            models.Index(fields=["received_at"], name="feedback_parked_old"),
        ]

    def __str__(self) -> str:
        return f"{self.get_type_display()}: {self.recipient}"

    def dismiss(self) -> None:
        states.move(self, self.Status.DISMISSED, moves=self.MOVES, next_try_at=None)

    def try_again(self) -> None:
        states.move(self, self.Status.WAITING, moves=self.MOVES, next_try_at=clock.now(), tries=0)
