"""The corridor that every mail takes, whichever door it came in by.

queue.py takes messages out and puts them back, events.py writes what happened to them; everyone else reads.
"""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.lib import clock, states, tokens
from mailhub.lib.fields import KeysField
from mailhub.relays.models import OTHER, Destination, Relay, Route, Stream
from mailhub.relays.routing import Share
from mailhub.senders.models import Sender

# A content that is no campaign's (those have an unsubscribe link) and whose words are not forgotten yet.
WITH_BODY = Q(unsubscribe_base="") & (~Q(html="") | ~Q(text="") | Q(raw__isnull=False))


class Content(models.Model):
    """What is said, frozen: templates that a whole batch shares, or one finished mail (`raw`)."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    subject = models.CharField(_("subject"), max_length=1000, blank=True)
    html = models.TextField(_("HTML"), blank=True)
    text = models.TextField(_("text"), blank=True)
    # RFC 5322 bytes, CRLF, 7-bit safe. With it the other parts are empty but for `subject`, which is kept for lists.
    raw = models.BinaryField(_("finished mail"), null=True, blank=True)
    # From and Reply-To as they were when the content was frozen.
    from_name = models.CharField(_("from name"), max_length=200, blank=True)
    from_email = models.CharField(_("from address"), max_length=320)
    reply_to = models.CharField(_("reply-to address"), max_length=320, blank=True)
    # Further header fields, name -> value, the same for every recipient (List-Id, Precedence, Feedback-ID).
    headers = models.JSONField(_("header fields"), default=dict, blank=True)
    # An https address that becomes each recipient's unsubscribe link once their token is appended; "" for mail without one.
    unsubscribe_base = models.CharField(max_length=500, blank=True)
    # For opens and clicks (tracking.py): an https address to which each recipient's tokens are appended ("" is none); whether there is a
    # pixel; and where the links lead that stand rewritten in the mail, by their number from 1 on. Null: they lead there themselves.
    tracking_base = models.CharField(max_length=500, blank=True, default="", db_default="", editable=False)
    tracks_opens = models.BooleanField(_("tracks opens"), default=False, db_default=False, editable=False)
    links = models.JSONField(_("tracked links"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("content")
        verbose_name_plural = _("contents")
        permissions: ClassVar = [("view_body", _("Can read what mails say"))]
        indexes: ClassVar = [
            # retention.forget_bodies(): those whose words are still to be forgotten, the oldest first.
            models.Index(fields=["created_at"], name="delivery_content_bodies", condition=WITH_BODY),
        ]

    def __str__(self) -> str:
        return self.subject

    def message_id(self, public_id: uuid.UUID) -> str:
        """Message.message_id of one of its messages."""
        return f"{public_id.hex}@{self.from_email.rpartition('@')[2]}"

    def unsubscribe_url(self, batch: int | None, recipient: int | None) -> str:
        """Message.unsubscribe_url of one of its messages."""
        return self.unsubscribe_base + tokens.sign("unsubscribe", f"{batch}.{recipient}") if self.unsubscribe_base else ""


class Batch(models.Model):
    """A group of messages sent together."""

    class Status(models.TextChoices):
        RUNNING = "running", _("sending")  # its messages are claimed as relays have room
        PAUSED = "paused", _("paused")  # nothing of it is claimed; what was claimed already still goes
        CANCELED = "canceled", _("canceled")  # what waits is being withdrawn, for good
        DONE = "done", _("finished")  # all recipients are in and none waits

    MOVES: ClassVar = {
        Status.RUNNING: {Status.PAUSED, Status.CANCELED, Status.DONE},
        Status.PAUSED: {Status.RUNNING, Status.CANCELED},
        Status.CANCELED: set(),
        Status.DONE: {Status.RUNNING},  # staff send unknown or failed ones again
    }

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=200)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.RUNNING)
    content = models.ForeignKey(Content, models.PROTECT, related_name="+", verbose_name=_("content"))
    sender = models.ForeignKey(Sender, models.PROTECT, related_name="+", verbose_name=_("sender"))
    route = models.ForeignKey(
        Route,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("route"),
        help_text=_("Empty: the sender's route for campaigns."),
    )
    # How far the filling has come: the key of the last recipient looked at. Moves in the transaction that inserts the messages.
    cursor = models.BigIntegerField(default=0, editable=False)
    filled = models.BooleanField(_("all recipients are in"), default=False)
    # Messages by state; queue.py and events.py move them in the transaction that moves the messages. Their sum is the number of
    # recipients accepted, always; `waiting` are the queued and claimed ones.
    waiting = models.PositiveIntegerField(_("waiting"), default=0)
    deferred = models.PositiveIntegerField(_("deferred"), default=0)
    sent = models.PositiveIntegerField(_("sent"), default=0)
    delivered = models.PositiveIntegerField(_("delivered"), default=0)
    bounced = models.PositiveIntegerField(_("bounced"), default=0)
    complained = models.PositiveIntegerField(_("complained"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    suppressed = models.PositiveIntegerField(_("suppressed"), default=0)
    unknown = models.PositiveIntegerField(_("unknown"), default=0)
    canceled = models.PositiveIntegerField(_("withdrawn"), default=0)
    # Messages that somebody opened, and in which somebody clicked: people, as far as we can tell. No states, so not part of the sum.
    opened = models.PositiveIntegerField(_("opened"), default=0, db_default=0)
    clicked = models.PositiveIntegerField(_("clicked"), default=0, db_default=0)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=["running", "paused", "canceled", "done"]), name="delivery_batch_status"),
        ]
        indexes: ClassVar = [
            # queue.claim() and tasks.tick(): the few batches that are not over, among all there ever were.
            models.Index(fields=["status"], name="delivery_batch_open", condition=~Q(status="done")),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def total(self) -> int:
        """Recipients accepted so far."""
        return sum(getattr(self, name) for name in COUNTERS)

    def pause(self) -> None:
        states.move(self, self.Status.PAUSED, moves=self.MOVES)

    def resume(self) -> None:
        states.move(self, self.Status.RUNNING, moves=self.MOVES)

    def cancel(self) -> None:
        """Nothing more of it is claimed from now on; tasks.withdraw() marks the waiting messages."""
        states.move(self, self.Status.CANCELED, moves=self.MOVES, finished_at=clock.now())


class Lease(models.Model):
    """A drain's hold on some of a relay's connections and on the messages it has claimed, renewed while the drain lives.

    Whoever writes a message's outcome must still hold the lease; when it runs out, queue.reap() takes the messages back."""

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="leases", verbose_name=pgettext_lazy("mail", "relay"))
    # A drain of the transactional queue leaves campaigns alone; one of the bulk queue takes both.
    queue = models.CharField(_("queue"), max_length=20, default="bulk")
    node = models.CharField(_("node"), max_length=200)
    connections = models.PositiveSmallIntegerField(_("connections"))
    started_at = models.DateTimeField(_("started"))
    expires_at = models.DateTimeField(_("runs out"))
    # The durable mark: keys of those of its messages that may have left (queue.mark()). Here and not with each message, so that a mark
    # costs one small write, however many messages it is of.
    marked = KeysField(default=set, editable=False)

    class Meta:
        verbose_name = _("running drain")
        verbose_name_plural = _("running drains")

    def __str__(self) -> str:
        return f"{self.relay} / {self.node}"


class Slot(models.Model):
    """How many connections a lease has to a destination that limits them, from one of our addresses (queue.take_lease())."""

    lease = models.ForeignKey(Lease, models.CASCADE, related_name="slots", verbose_name=_("running drain"))
    destination = models.ForeignKey(Destination, models.CASCADE, related_name="+", db_index=False, verbose_name=_("destination"))
    # Empty where the relay chooses the address.
    source = models.CharField(_("from address"), max_length=45, blank=True)
    connections = models.PositiveSmallIntegerField(_("connections"))

    class Meta:
        verbose_name = _("connection slot")
        verbose_name_plural = _("connection slots")

    def __str__(self) -> str:
        return f"{self.lease}: {self.destination_id}"


class Message(models.Model):
    """One recipient's mail, and the queue's row."""

    class Status(models.TextChoices):
        QUEUED = "queued", _("queued")  # waits for its turn
        DEFERRED = "deferred", _("deferred")  # was refused for now; waits for next_attempt_at
        CLAIMED = "claimed", _("being handed over")  # a drain holds it; whether it may have left is noted with its lease
        SENT = "sent", _("accepted by relay")  # a relay answered 2xx; no more is known
        DELIVERED = "delivered", _("delivered")  # a report says that the recipient's server has it
        BOUNCED = "bounced", _("bounced")  # the recipient's address refused it
        COMPLAINED = "complained", _("complained")  # the recipient called it spam
        FAILED = "failed", _("failed")  # given up, by no fault of the recipient: expired, refused, quarantined
        SUPPRESSED = "suppressed", _("suppressed")  # not tried: the address must not be mailed
        UNKNOWN = "unknown", _("outcome unknown")  # handed over, no reply stored; perhaps accepted
        CANCELED = "canceled", _("withdrawn")  # staff withdrew it before it left

    # A report may only take a message up this ladder: delivered never undoes a bounce, a bounce never a complaint. It may come before
    # we have stored the relay's reply, or while the message waits to be repeated because that reply got lost.
    REPORTED: ClassVar = {Status.DELIVERED, Status.BOUNCED, Status.COMPLAINED}
    MOVES: ClassVar = {
        Status.QUEUED: {Status.CLAIMED, Status.SUPPRESSED, Status.FAILED, Status.CANCELED, *REPORTED},
        Status.DEFERRED: {Status.CLAIMED, Status.SENT, Status.QUEUED, Status.SUPPRESSED, Status.FAILED, Status.CANCELED, *REPORTED},
        Status.CLAIMED: {Status.SENT, Status.FAILED, Status.DEFERRED, Status.QUEUED, Status.UNKNOWN, *REPORTED},
        Status.SENT: {Status.FAILED, *REPORTED},
        Status.DELIVERED: {Status.BOUNCED, Status.COMPLAINED},
        Status.BOUNCED: {Status.COMPLAINED},
        Status.COMPLAINED: set(),
        Status.FAILED: {Status.QUEUED},
        Status.SUPPRESSED: set(),
        Status.UNKNOWN: {Status.SENT, Status.FAILED, Status.DEFERRED, Status.QUEUED, *REPORTED},
        Status.CANCELED: set(),
    }  # fmt: skip

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    stream = models.CharField(_("stream"), max_length=15, choices=Stream)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.QUEUED)
    # No constraint in the database on what a batch's messages share: it would be one more look-up a message. Nobody deletes a batch, which
    # keeps its content by a constraint; a content without one is deleted by retention.forget_contents() alone, long after it was made.
    batch = models.ForeignKey(
        Batch, models.PROTECT, null=True, blank=True, related_name="messages", db_index=False, db_constraint=False, verbose_name=_("batch")
    )
    content = models.ForeignKey(
        Content, models.PROTECT, related_name="messages", db_index=False, db_constraint=False, verbose_name=_("content")
    )
    # Nor on the sender, whom staff may delete: a batch keeps its own by a constraint, and guard.py sees to transactional mail.
    sender = models.ForeignKey(
        Sender, models.PROTECT, related_name="messages", db_index=False, db_constraint=False, verbose_name=_("sender")
    )
    # Whose servers it goes to, known when it is made (relays/destinations.py): claims take from each destination apart, so that one
    # that is left alone costs the others nothing. No constraint in the database here either.
    destination = models.ForeignKey(
        Destination,
        models.PROTECT,
        default=OTHER,
        db_default=OTHER,
        related_name="+",
        db_index=False,
        db_constraint=False,
        verbose_name=_("destination"),
    )
    # Normalised (lib/addresses.py): what goes into RCPT TO.
    address = models.CharField(_("recipient"), max_length=320)
    # The upper package's number for the recipient, which the unsubscribe token carries (campaigns: the contact's key).
    recipient_ref = models.BigIntegerField(null=True, blank=True)
    # Likewise its number for the site that handed the mail in, 0 for none: of what waits, each site gets its fair part.
    source_ref = models.BigIntegerField(default=0, db_default=0, editable=False)
    # What the content's placeholders stand for, as it was when the message was made.
    data = models.JSONField(_("merge data"), default=dict, blank=True)
    next_attempt_at = models.DateTimeField(_("next attempt"))
    # After this nobody would want the mail any more: it fails instead of being tried again.
    expires_at = models.DateTimeField(_("expires"))
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    # Claims that ended with the worker's death: queue.TOGETHER says what follows.
    lost_leases = models.PositiveSmallIntegerField(_("lost with a worker"), default=0)
    # Transactional mail whose outcome was unknown is sent once more; this says that it was.
    repeated = models.BooleanField(_("sent again after an unknown outcome"), default=False)
    # No constraint in the database: checking it would lock the lease's row once a message.
    lease = models.ForeignKey(Lease, models.DO_NOTHING, null=True, blank=True, related_name="messages", db_index=False, db_constraint=False)
    # Nor here: a relay stays while it has leases (guard.py), and messages and attempts get it with the lease's row locked.
    relay = models.ForeignKey(
        Relay,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="messages",
        db_index=False,
        db_constraint=False,
        verbose_name=pgettext_lazy("mail", "relay"),
    )
    # The last reply, or the reason in words where nobody was asked.
    reply = models.CharField(_("last reply"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("created"))
    settled_at = models.DateTimeField(_("settled"), null=True, blank=True)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(
                    status__in=[
                        "queued",
                        "deferred",
                        "claimed",
                        "sent",
                        "delivered",
                        "bounced",
                        "complained",
                        "failed",
                        "suppressed",
                        "unknown",
                        "canceled",
                    ]
                ),
                name="delivery_message_status",
            ),  # fmt: skip
            models.CheckConstraint(condition=Q(stream__in=["transactional", "campaign"]), name="delivery_message_stream"),
            # What a lease holds is claimed, and only that.
            models.CheckConstraint(
                condition=Q(lease__isnull=False, status="claimed") | (Q(lease__isnull=True) & ~Q(status="claimed")),
                name="delivery_message_lease",
            ),
            models.CheckConstraint(condition=Q(stream="transactional") | Q(batch__isnull=False), name="delivery_message_campaign_batch"),
            # Nobody gets a batch twice; also the index by which campaigns find a recipient's message.
            models.UniqueConstraint(fields=["batch", "address"], name="delivery_message_once", condition=Q(batch__isnull=False)),
        ]
        indexes: ClassVar = [
            # queue.claim() and queue.due(): waiting transactional mail of a sender and site to a destination, the longest due first.
            models.Index(
                fields=["sender", "source_ref", "destination", "next_attempt_at", "id"],
                name="delivery_message_lane",
                condition=Q(status__in=["queued", "deferred"], stream="transactional"),
            ),
            # queue.claim(), queue.due(), queue.withdraw(): waiting mail of a batch to a destination, the longest due first.
            models.Index(
                fields=["batch", "destination", "next_attempt_at", "id"],
                name="delivery_message_waiting",
                condition=Q(status__in=["queued", "deferred"], stream="campaign"),
            ),
            # queue.reap(): what a lease holds.
            models.Index(fields=["lease"], name="delivery_message_leased", condition=Q(lease__isnull=False)),
            # The pages and retention of finished mails: the messages of one transactional content.
            models.Index(fields=["content"], name="delivery_message_content", condition=Q(stream="transactional")),
            # The admin's search by recipient, however it is spelt. On PostgreSQL text_pattern_ops, so that LIKE 'taro%' finds it too.
            models.Index(Lower("address"), name="delivery_message_address"),
            # The admin's lists of what went wrong, or is late, the newest first: few rows of many, so mail that arrives costs nothing.
            models.Index(
                fields=["status", "id"],
                name="delivery_message_trouble",
                condition=Q(status__in=["deferred", "bounced", "complained", "failed", "suppressed", "unknown", "canceled"]),
            ),
            # The same of one batch, to which its page leads.
            models.Index(
                fields=["batch", "status", "id"],
                name="delivery_message_batch_trouble",
                condition=Q(
                    batch__isnull=False, status__in=["deferred", "bounced", "complained", "failed", "suppressed", "unknown", "canceled"]
                ),
            ),
        ]

    #: how it came to the relay of the drain that holds it
    share: Share | None = None

    def __str__(self) -> str:
        return f"{self.address} ({self.get_status_display()})"

    @property
    def message_id(self) -> str:
        """RFC 5322 Message-ID without angle brackets: fixed when the message is made, the same on every try."""
        return self.content.message_id(self.public_id)

    @property
    def unsubscribe_url(self) -> str:
        return self.content.unsubscribe_url(self.batch_id, self.recipient_ref)


WAITING = (Message.Status.QUEUED, Message.Status.DEFERRED)
# States that still lead on by themselves.
OPEN = (*WAITING, Message.Status.CLAIMED)

# The counter of Batch in which a message of each state is counted.
COUNTER_OF: dict[str, str] = {
    Message.Status.QUEUED: "waiting",
    Message.Status.CLAIMED: "waiting",
    **{status: status.value for status in Message.Status if status not in ("queued", "claimed")},
}
COUNTERS = tuple(dict.fromkeys(COUNTER_OF.values()))


class Attempt(models.Model):
    """One try to hand a message over."""

    class Outcome(models.TextChoices):
        SENT = "sent", _("accepted")
        REFUSED = "refused", _("refused")
        DEFERRED = "deferred", _("deferred")
        RELAY_DOWN = "relay_down", _("relay down")
        UNKNOWN = "unknown", _("no reply")

    # No constraint in the database: it would look each message up once more. Messages go by retention.py alone, which locks them first.
    message = models.ForeignKey(Message, models.CASCADE, related_name="attempts_made", db_constraint=False, verbose_name=_("message"))
    number = models.PositiveSmallIntegerField(_("number"))
    relay = models.ForeignKey(
        Relay,
        models.SET_NULL,
        null=True,
        db_index=False,
        db_constraint=False,
        related_name="+",
        verbose_name=pgettext_lazy("mail", "relay"),
    )
    # How the relay was chosen: the key of the route, a routing.Choice, and the relay's part of such mail. A plain key: what was chosen
    # stays true when the route goes.
    route_key = models.PositiveBigIntegerField(_("route"), null=True)
    choice = models.PositiveSmallIntegerField(_("why this relay"), null=True)
    percent = models.PositiveSmallIntegerField(_("part of such mail"), null=True)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome)
    code = models.PositiveSmallIntegerField(_("reply code"), null=True, blank=True)
    enhanced = models.CharField(_("enhanced status code"), max_length=12, blank=True)
    reply = models.CharField(_("reply"), max_length=500, blank=True)
    # Of the addresses that are our own; a service's are its secret.
    source_ip = models.GenericIPAddressField(_("source address"), null=True, blank=True)
    started_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("ended"))

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(outcome__in=["sent", "refused", "deferred", "relay_down", "unknown"]), name="delivery_attempt_outcome"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.get_outcome_display()}"


class Throughput(models.Model):
    """Attempts of an hour by what came of them: counted by queue.settle() and events.record_all() in the transaction that stores them, read
    by throughput.py.

    Plain keys, no constraints: the counts stay when a relay goes."""

    #: its first moment, in UTC
    hour = models.DateTimeField(_("hour"))
    relay_key = models.BigIntegerField(_("relay"))
    destination_key = models.CharField(_("destination"), max_length=20)
    # Of the addresses that are our own; empty where the relay chooses.
    source = models.CharField(_("source address"), max_length=45, blank=True)
    stream = models.CharField(_("stream"), max_length=15, choices=Stream)
    accepted = models.PositiveIntegerField(_("accepted"), default=0)
    deferred = models.PositiveIntegerField(_("deferred"), default=0)
    # Refused for good because of the address, and for any other reason.
    bounced = models.PositiveIntegerField(_("bounced"), default=0)
    refused = models.PositiveIntegerField(_("refused"), default=0)
    # Handed over without a reply, or not handed over since the relay was down.
    unanswered = models.PositiveIntegerField(_("no reply"), default=0)
    # Of those that were not accepted: because we did not prove whose the mail is (SPF, DKIM, DMARC; reply codes X.7.20 to 26 and the like).
    unproven = models.PositiveIntegerField(_("not proven to be ours"), default=0, db_default=0)
    # Of the accepted, as reports told later: came back since the address is dead; called spam. By the hour in which they were accepted.
    returned = models.PositiveIntegerField(_("came back later"), default=0, db_default=0)
    complained = models.PositiveIntegerField(_("called spam"), default=0, db_default=0)
    # Of the accepted: seconds from when we took the mail until the relay did, all together; and how many took no longer than that.
    seconds = models.PositiveBigIntegerField(default=0)
    within_1 = models.PositiveIntegerField(default=0)
    within_5 = models.PositiveIntegerField(default=0)
    within_30 = models.PositiveIntegerField(default=0)
    within_300 = models.PositiveIntegerField(default=0)
    within_3600 = models.PositiveIntegerField(default=0)
    within_86400 = models.PositiveIntegerField(default=0)
    later = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name = _("throughput of an hour")
        verbose_name_plural = _("throughput by the hour")
        constraints: ClassVar = [
            # What queue.settle() adds to, and the index by which throughput.py reads a span of time.
            models.UniqueConstraint(fields=["hour", "relay_key", "destination_key", "source", "stream"], name="delivery_throughput_once"),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00, {self.relay_key}, {self.destination_key}"


class Carried(models.Model):
    """Attempts of an hour for one sender by one relay, by what came of them; carried.py writes and reads it, a few minutes late.

    Plain keys, no constraints: the counts stay when a relay or a sender goes."""

    #: its first moment, in UTC
    hour = models.DateTimeField(_("hour"))
    sender_key = models.BigIntegerField(_("sender"))
    relay_key = models.BigIntegerField(pgettext_lazy("mail", "relay"))
    stream = models.CharField(_("stream"), max_length=15, choices=Stream)
    accepted = models.PositiveIntegerField(_("accepted"), default=0)
    deferred = models.PositiveIntegerField(_("deferred"), default=0)
    # Refused for good because of the address, and for any other reason.
    bounced = models.PositiveIntegerField(_("bounced"), default=0)
    refused = models.PositiveIntegerField(_("refused"), default=0)
    unanswered = models.PositiveIntegerField(_("no reply"), default=0)

    class Meta:
        verbose_name = _("mail carried in an hour")
        verbose_name_plural = _("mail carried by the hour")
        constraints: ClassVar = [
            # carried.of() and carried.months(): a range of it.
            models.UniqueConstraint(fields=["hour", "sender_key", "relay_key", "stream"], name="delivery_carried_once"),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00, {self.sender_key}, {self.relay_key}"


class CarriedUpTo(models.Model):
    """How far carried.py has read the attempts; one row."""

    #: the key of the last attempt that is counted
    read = models.BigIntegerField(default=0)
    #: the greatest key there was when it last looked, and when: what has a smaller one is there for all to see by the next time
    seen = models.BigIntegerField(default=0)
    seen_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("attempts counted")
        verbose_name_plural = _("attempts counted")

    def __str__(self) -> str:
        return str(self.read)


class Move(models.Model):
    """A sender's mail goes from one relay to another, at once or by a share that grows every day. moves.py is the only one to write it.

    The sender gets a route of its own for it: its former one with the share of one relay divided between the two."""

    class Status(models.TextChoices):
        RUNNING = "running", pgettext_lazy("move", "under way")  # the share grows once a day
        HELD = "held", pgettext_lazy("move", "held")  # staff stopped the growing: the share stays
        DONE = "done", pgettext_lazy("move", "done")  # the new relay carries all of it
        BACK = "back", pgettext_lazy("move", "turned back")  # the sender has its former route again

    MOVES: ClassVar = {
        Status.RUNNING: {Status.HELD, Status.DONE, Status.BACK},
        Status.HELD: {Status.RUNNING, Status.DONE, Status.BACK},
        Status.DONE: {Status.BACK},
        Status.BACK: set(),
    }

    sender = models.ForeignKey(Sender, models.CASCADE, related_name="moves", verbose_name=_("sender"))
    # Empty: both.
    stream = models.CharField(_("kind of mail"), max_length=15, choices=Stream, blank=True)
    old_relay = models.ForeignKey(Relay, models.CASCADE, related_name="+", verbose_name=_("from relay"))
    new_relay = models.ForeignKey(Relay, models.CASCADE, related_name="+", verbose_name=_("to relay"))
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.RUNNING)
    #: percent that the new relay carries of what the old one carried
    share = models.PositiveSmallIntegerField(_("share"), default=0)
    #: percent more a day
    step = models.PositiveSmallIntegerField(_("more each day"), default=10, validators=[MinValueValidator(1), MaxValueValidator(100)])
    next_at = models.DateTimeField(_("next step"), null=True, blank=True)
    source = models.ForeignKey(Route, models.SET_NULL, null=True, related_name="+", verbose_name=_("former route"))
    route = models.ForeignKey(Route, models.SET_NULL, null=True, related_name="+", verbose_name=_("route"))
    #: stream -> key of the route that the sender itself named before, or null
    named = models.JSONField(default=dict)
    #: key of a relay that shares with the two -> its share, where theirs together is 100
    beside = models.JSONField(default=dict)
    #: relay's key -> what it had carried in the hour of the start before that
    before = models.JSONField(default=dict)
    started_at = models.DateTimeField(_("started"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    class Meta:
        verbose_name = _("move to another relay")
        verbose_name_plural = _("moves to another relay")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=["running", "held", "done", "back"]), name="delivery_move_status"),
            models.CheckConstraint(condition=Q(stream__in=["", *Stream.values]), name="delivery_move_stream"),
            models.CheckConstraint(condition=Q(share__lte=100), name="delivery_move_share"),
            models.CheckConstraint(condition=Q(step__gte=1, step__lte=100), name="delivery_move_step"),
        ]

    def __str__(self) -> str:
        return f"{self.sender.email}: {self.old_relay} → {self.new_relay}"

    @property
    def streams(self) -> list[str]:
        return [self.stream] if self.stream else list(Stream.values)

    @property
    def is_open(self) -> bool:
        """The share may still change by itself or by staff."""
        return self.status in (self.Status.RUNNING, self.Status.HELD)

    def hold(self) -> None:
        states.move(self, self.Status.HELD, moves=self.MOVES)

    def go_on(self) -> None:
        states.move(self, self.Status.RUNNING, moves=self.MOVES)


class Event(models.Model):
    """What we recorded, in django-anymail's words (anymail.signals.EventType); the outbox that webhooks read."""

    class Type(models.TextChoices):
        QUEUED = "queued", _("queued")
        SENT = "sent", _("accepted by relay")
        REJECTED = "rejected", _("rejected before sending")
        FAILED = "failed", _("failed")
        BOUNCED = "bounced", _("bounced")
        DEFERRED = "deferred", _("deferred")
        DELIVERED = "delivered", _("delivered")
        AUTORESPONDED = "autoresponded", _("auto-reply")
        OPENED = "opened", _("opened")
        CLICKED = "clicked", _("clicked")
        COMPLAINED = "complained", _("complained")
        UNSUBSCRIBED = "unsubscribed", _("unsubscribed")
        UNKNOWN = "unknown", _("outcome unknown")

    class Kind(models.TextChoices):
        HARD = "hard", _("hard")
        SOFT = "soft", _("soft")
        MACHINE = "machine", _("by a machine")

    # Its index serves the message's timeline. No constraint in the database, as for attempts: who writes one holds the message.
    message = models.ForeignKey(Message, models.CASCADE, related_name="events", db_constraint=False, verbose_name=_("message"))
    type = models.CharField(_("type"), max_length=15, choices=Type)
    # When it happened, by whoever saw it; when we wrote it.
    at = models.DateTimeField(_("at"))
    recorded_at = models.DateTimeField(_("recorded"), auto_now_add=True)
    detail = models.CharField(_("detail"), max_length=500, blank=True)
    # Of a bounce: whether the address is dead. Of an open or a click: whether a machine did it.
    kind = models.CharField(_("kind"), max_length=7, choices=Kind, blank=True, default="", db_default="")
    # Why it came back, in the words of lib/replies/verdicts.py; "" where only our own attempt tells. Of an open or a click: a hits.Sign.
    category = models.CharField(_("category"), max_length=15, blank=True, default="", db_default="")
    # Digest of what makes a report the same when it comes again (events.once()); empty for what we did ourselves.
    once = models.UUIDField(null=True, editable=False)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-id"]
        constraints: ClassVar = [
            # events.record_all(): a report that came before. Partial, so that what we do ourselves costs nothing.
            models.UniqueConstraint(fields=["once"], name="delivery_event_once", condition=Q(once__isnull=False)),
            models.CheckConstraint(condition=Q(kind__in=["", "hard", "soft", "machine"]), name="delivery_event_kind"),
            models.CheckConstraint(
                condition=Q(
                    type__in=[
                        "queued",
                        "sent",
                        "rejected",
                        "failed",
                        "bounced",
                        "deferred",
                        "delivered",
                        "autoresponded",
                        "opened",
                        "clicked",
                        "complained",
                        "unsubscribed",
                        "unknown",
                    ]
                ),
                name="delivery_event_type",
            ),  # fmt: skip
        ]
        indexes: ClassVar = [
            # Upper packages, for those who unsubscribed elsewhere than on their pages: by mail, or with a service.
            models.Index(fields=["recorded_at"], name="delivery_event_unsubscribed", condition=Q(type="unsubscribed", once__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.get_type_display()


class Hit(models.Model):
    """A pixel that was fetched or a link that was followed, stored within the request and worked off by hits.py. No index but the key: what
    stands here is gone within a minute or two."""

    # Plain keys: whoever comes long after the message was forgotten is sent on all the same.
    content_key = models.BigIntegerField()
    #: 0 where nobody is told from others
    message_key = models.BigIntegerField()
    #: the link's; 0 is the pixel
    number = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    #: what the request says of itself: a hits.Sign, or "" for nothing
    sign = models.CharField(max_length=15, blank=True)

    class Meta:
        verbose_name = _("open or click to be recorded")
        verbose_name_plural = _("opens and clicks to be recorded")

    def __str__(self) -> str:
        return f"{self.message_key}: {self.number}"


class LinkCount(models.Model):
    """How often a link of a content was followed, or (number 0) the content opened: shown without a look at events. hits.py writes it."""

    content = models.ForeignKey(Content, models.CASCADE, related_name="link_counts", db_index=False, verbose_name=_("content"))
    number = models.PositiveSmallIntegerField(_("number"))
    # Messages in which a person did, as far as we can tell; how often people did; how often of that through a service that hides them; and
    # how often machines did.
    messages = models.PositiveIntegerField(_("people"), default=0)
    times = models.PositiveIntegerField(_("times"), default=0)
    proxied = models.PositiveIntegerField(_("through an image proxy"), default=0)
    machines = models.PositiveIntegerField(_("by machines"), default=0)

    class Meta:
        verbose_name = _("count of a link")
        verbose_name_plural = _("counts of links")
        constraints: ClassVar = [models.UniqueConstraint(fields=["content", "number"], name="delivery_linkcount_once")]

    def __str__(self) -> str:
        return f"{self.content_id}: {self.number}"


class Suppression(models.Model):
    """An address that must not be mailed."""

    class Reason(models.TextChoices):
        BOUNCE = "bounce", _("the address does not exist")
        SOFT = "soft", _("its mailbox took nothing, again and again")
        COMPLAINT = "complaint", _("the recipient called a mail spam")
        UNSUBSCRIBE = "unsubscribe", _("the recipient unsubscribed from everything")
        MANUAL = "manual", _("entered by staff")

    class Scope(models.TextChoices):
        ALL = "all", _("all mail")
        CAMPAIGN = "campaign", _("campaigns only")

    # lib/addresses.py: key() of the address; of one that was erased its keyed hash (suppressions.erased_key()).
    address = models.CharField(_("address"), max_length=320)
    # Message.source_ref of the site whose mail alone it holds for; 0: for all mail.
    project = models.BigIntegerField(_("project"), default=0, db_default=0, editable=False)
    scope = models.CharField(_("holds for"), max_length=10, choices=Scope, default=Scope.ALL)
    reason = models.CharField(_("reason"), max_length=12, choices=Reason, default=Reason.MANUAL)
    detail = models.CharField(_("detail"), max_length=500, blank=True)
    event = models.ForeignKey(
        Event, models.SET_NULL, null=True, blank=True, editable=False, db_index=False, related_name="+", verbose_name=_("event")
    )
    created_at = models.DateTimeField(pgettext_lazy("suppressed", "since"), auto_now_add=True)
    # Empty: for good.
    expires_at = models.DateTimeField(pgettext_lazy("suppressed", "until"), null=True, blank=True)
    erased = models.BooleanField(_("erased"), default=False, db_default=False, editable=False)

    class Meta:
        verbose_name = _("suppression")
        verbose_name_plural = _("suppressions")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(scope__in=["all", "campaign"]), name="delivery_suppression_scope"),
            models.CheckConstraint(
                condition=Q(reason__in=["bounce", "soft", "complaint", "unsubscribe", "manual"]), name="delivery_suppression_reason"
            ),
            # Also the index that queue.claim() and audience.expand() look an address up by, and by its operators (PostgreSQL) LIKE 'hana%'.
            models.UniqueConstraint(
                fields=["address", "project"], name="delivery_suppression_once", opclasses=["varchar_pattern_ops", "int8_ops"]
            ),
        ]
        indexes: ClassVar = [
            # retention.forget_messages(): nobody may point to an event that is deleted, and the database looks for each.
            models.Index(fields=["event"], name="delivery_suppression_event", condition=Q(event__isnull=False)),
            # queue.claim(): whether there are any. Hashes are made of addresses only then.
            models.Index(fields=["erased"], name="delivery_suppression_erased", condition=Q(erased=True)),
        ]

    def __str__(self) -> str:
        return str(_("an erased address")) if self.erased else self.address

    @classmethod
    def in_force(cls) -> models.QuerySet[Suppression]:
        return cls.objects.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=clock.now()))

    @classmethod
    def covering(cls, stream: str) -> models.QuerySet[Suppression]:
        """The suppressions that keep mail of `stream` back, those of single projects among them: campaigns are no project's."""
        return cls.in_force().filter(project=0) if stream == Stream.CAMPAIGN else cls.in_force().filter(scope=cls.Scope.ALL)


class Worker(models.Model):
    """A cluster of django-q2 processes on one machine, as its supervisor (`manage.py worker`) started it."""

    node = models.CharField(_("node"), max_length=200)
    queue = models.CharField(_("queue"), max_length=20)
    started_at = models.DateTimeField(_("started"))
    # When a task last ran in it: a cluster that stands still falls behind, and its supervisor starts it anew.
    beat_at = models.DateTimeField(_("last sign of life"))
    # Its supervisor was asked to stop: drains claim nothing more.
    stopping = models.BooleanField(_("stopping"), default=False)
    restarts = models.PositiveIntegerField(_("restarts"), default=0)

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        ordering = ["node", "queue"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["node", "queue"], name="delivery_worker_once")]

    def __str__(self) -> str:
        return f"{self.node} / {self.queue}"
