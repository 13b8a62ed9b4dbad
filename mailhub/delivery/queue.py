"""The queue: the only place that takes messages out and puts them back.

Locks are taken in one order everywhere: lease, messages, quotas, batches. A claim never waits for a message (SKIP LOCKED).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Sum
from django.utils.translation import gettext as _

from mailhub.delivery import events
from mailhub.delivery.models import WAITING, Attempt, Batch, Content, Event, Lease, Message, Suppression
from mailhub.lib import addresses, clock, tasks
from mailhub.relays import limits, routing
from mailhub.relays.base import Reply
from mailhub.relays.models import Relay, Route, Stream
from mailhub.relays.routing import Share
from mailhub.senders.models import Sender

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
# A wake-up that has not begun by then is taken for lost.
WAKE_LOST = timedelta(seconds=60)
# How many messages are claimed together, by the number of workers that died holding them: one that kills workers is soon alone, and
# those that were merely beside it get through.
TOGETHER = (500, 25, 1)
LIFETIME = {Stream.TRANSACTIONAL: timedelta(days=3), Stream.CAMPAIGN: timedelta(days=3)}
# Transactional mail with an unknown outcome goes once more after this.
REPEAT_AFTER = timedelta(seconds=60)

Status = Message.Status
Sent = Attempt.Outcome


class LeaseLost(Exception):
    """The lease ran out: its messages belong to others now."""


# ---------------------------------------------------------------------------------------------------------------- putting in


def enqueue(messages: Sequence[Message]) -> None:
    """Insert new messages, in the caller's transaction, and wake a worker once it has committed."""
    with transaction.atomic():
        Message.objects.bulk_create(messages, batch_size=500)
        for batch in {message.batch_id for message in messages if message.batch_id}:
            count = sum(message.batch_id == batch for message in messages)
            Batch.objects.filter(pk=batch).update(waiting=F("waiting") + count)
            wake_batch(Batch.objects.get(pk=batch))
        for sender in {message.sender_id: message.sender for message in messages if not message.batch_id}.values():
            wake(sender)


def new(stream: str, **fields: object) -> Message:
    """An unsaved message that may go at once."""
    now = clock.now()
    return Message(stream=stream, created_at=now, next_attempt_at=now, expires_at=now + LIFETIME[Stream(stream)], **fields)


def wake(sender: Sender) -> None:
    """Have the relays of the sender's transactional mail drained."""
    if route := sender.route(Stream.TRANSACTIONAL):
        _wake_route(route, "transactional")


def wake_batch(batch: Batch) -> None:
    """Have the relays of the batch drained."""
    if route := batch.route or batch.sender.route(Stream.CAMPAIGN):
        _wake_route(route, "bulk")


def _wake_route(route: Route, queue: tasks.Queue) -> None:
    for member in routing.serving(route, clock.now()):
        wake_relay(member.relay, queue)


def wake_relay(relay: Relay, queue: tasks.Queue) -> None:
    """Ask for a drain after the commit, unless one is on its way already."""
    transaction.on_commit(lambda: _ask(relay, queue))


def _ask(relay: Relay, queue: tasks.Queue) -> None:
    now = clock.now()
    flag = f"{queue}_wake"
    free = Q(**{f"{flag}__isnull": True}) | Q(**{f"{flag}__lt": now - WAKE_LOST})
    if Relay.objects.filter(free, pk=relay.pk).update(**{flag: now}):
        tasks.enqueue("mailhub.delivery.tasks.drain", relay.pk, queue=queue)


def woken(relay: Relay) -> None:
    """A drain begins: what is committed from now on needs a wake-up of its own."""
    Relay.objects.filter(pk=relay.pk).update(transactional_wake=None, bulk_wake=None)


# ---------------------------------------------------------------------------------------------------------------- taking out


def take_lease(relay: Relay, queue: tasks.Queue) -> Lease | None:
    """A lease on the relay's free connections, or None when all are in use.

    Urgent mail takes half of them at most. Bulk mail takes all but one, so that urgent mail never finds a long drain in its way."""
    with transaction.atomic():
        maximum = Relay.objects.select_for_update(no_key=True).get(pk=relay.pk).max_connections
        now = clock.now()
        used = Lease.objects.filter(relay=relay, expires_at__gt=now).aggregate(n=Sum("connections"))["n"] or 0
        free = maximum - used
        granted = min(free, -(-maximum // 2)) if queue == "transactional" else free - (maximum > 1)
        if granted < 1:
            return None
        return Lease.objects.create(relay=relay, node=socket.gethostname(), connections=granted, started_at=now, expires_at=now + LEASE)


def renew(lease: Lease) -> datetime:
    """Hold the lease for another LEASE; returns the database's time. Locks its row until the transaction ends. Raises LeaseLost."""
    now = clock.now()
    if not Lease.objects.filter(pk=lease.pk, expires_at__gt=now).update(expires_at=now + LEASE):
        raise LeaseLost
    return now


@transaction.atomic
def claim(lease: Lease, limit: int) -> list[Message]:
    """Take up to `limit` due messages that the lease's relay serves now: transactional ones first, then fairly from each batch.

    Those that must not be mailed, or that nobody wants any more, are settled on the way. Raises LeaseLost."""
    now = renew(lease)
    relay = Relay.objects.get(pk=lease.relay_id)
    if not relay.is_available(now):
        return []
    found = _due(relay, limit, now)
    if not found:
        return []
    found = [message for message in found if message.lost_leases == found[0].lost_leases][: TOGETHER[found[0].lost_leases]]
    fit = _weed_out(found, now)
    granted = limits.take(relay, len(fit), now)
    if granted < len(fit):
        relay.rest_until(limits.opens_at(relay, now) or now, _("A quota is used up."))
        fit = fit[:granted]
    tally = events.Tally()
    for message in fit:
        tally.move(message, Status.CLAIMED)
        message.status, message.lease_id, message.relay_id = Status.CLAIMED, lease.pk, relay.pk
        message.attempts += 1
    Message.objects.filter(pk__in=[message.pk for message in fit]).update(
        status=Status.CLAIMED, lease=lease, relay=relay, attempts=F("attempts") + 1
    )
    tally.write()
    return fit


def due(relay: Relay) -> tasks.Queue | None:
    """The queue in which a drain of `relay` is wanted, or None while there is nothing for it to do."""
    now = clock.now()
    if not relay.is_available(now):
        return None
    shares = routing.shares(relay, now)
    if any(lane.exists() for lane in _lanes(shares, now)):
        return "transactional"
    if any(_share(_of_batch(batch, now), share).exists() for batch, share in _batches(shares)):
        return "bulk"
    return None


def _due(relay: Relay, limit: int, now: datetime) -> list[Message]:
    shares = routing.shares(relay, now)
    found: list[Message] = []
    for lane in _lanes(shares, now):
        found += lane.select_for_update(skip_locked=True)[: limit - len(found)]
        if len(found) == limit:
            return found
    batches = _batches(shares)
    for place, (batch, share) in enumerate(batches):
        # What one batch leaves of its part, those after it divide.
        part = -(-(limit - len(found)) // (len(batches) - place))
        found += _share(_of_batch(batch, now), share).select_for_update(skip_locked=True)[:part]
    return found


def _lanes(shares: Iterable[Share], now: datetime) -> list[QuerySet[Message]]:
    """Due transactional mail, a query a sender.

    Index delivery_message_lane: an equality on sender, then rows in the order wanted; no sort, and what waits for other senders (whose
    relay may be down) is never passed. Asking which senders have any is one probe of the same index each."""
    lanes = []
    for share in shares:
        mine = Q(transactional_route=share.route)
        if Route.objects.filter(pk=share.route, default_for=Stream.TRANSACTIONAL).exists():
            mine |= Q(transactional_route__isnull=True)
        senders = Sender.objects.filter(mine, Exists(_of_sender(OuterRef("pk"), now)), status=Sender.Status.CONFIRMED)
        lanes += [_share(_of_sender(sender, now), share) for sender in senders]
    return lanes


def _of_sender(sender: object, now: datetime) -> QuerySet[Message]:
    waiting = Message.objects.filter(sender=sender, stream=Stream.TRANSACTIONAL, status__in=WAITING, next_attempt_at__lte=now)
    return waiting.order_by("next_attempt_at", "id")


def _batches(shares: Iterable[Share]) -> list[tuple[Batch, Share]]:
    """Running batches whose route the shares are of, the one served longest ago first.

    Index delivery_batch_open: as many rows as there are open batches."""
    found = []
    for share in shares:
        by_sender = Q(sender__campaign_route=share.route)
        if Route.objects.filter(pk=share.route, default_for=Stream.CAMPAIGN).exists():
            by_sender |= Q(sender__campaign_route__isnull=True)
        running = Batch.objects.filter(
            Q(route=share.route) | Q(by_sender, route__isnull=True),
            status=Batch.Status.RUNNING,
            sender__status=Sender.Status.CONFIRMED,
        )
        found += [(batch, share) for batch in running.filter(Q(waiting__gt=0) | Q(deferred__gt=0)).order_by("id")]
    return found


def _of_batch(batch: Batch, now: datetime) -> QuerySet[Message]:
    """Due mail of one batch. Index delivery_message_waiting: an equality on batch, then rows in the order wanted."""
    waiting = Message.objects.filter(batch=batch, stream=Stream.CAMPAIGN, status__in=WAITING, next_attempt_at__lte=now)
    return waiting.order_by("next_attempt_at", "id")


def _share(messages: QuerySet[Message], share: Share) -> QuerySet[Message]:
    if share.high - share.low == share.total:
        return messages
    part = messages.annotate(slot=F("id") % share.total)
    return part.filter(slot__gte=share.low, slot__lt=share.high)


def _weed_out(messages: list[Message], now: datetime) -> list[Message]:
    """Settle what is suppressed or expired; return the rest."""
    barred: dict[str, set[str]] = {}
    for stream in {message.stream for message in messages}:
        keys = [addresses.key(message.address) for message in messages if message.stream == stream]
        barred[stream] = set(Suppression.covering(stream).filter(address__in=keys).values_list("address", flat=True))
    # Who unsubscribes while a worker holds the message, or after it failed. A probe of the index on Event.message each.
    campaign = [message.pk for message in messages if message.stream == Stream.CAMPAIGN]
    gone = set(Event.objects.filter(message__in=campaign, type=Event.Type.UNSUBSCRIBED).values_list("message", flat=True))
    fit = []
    suppressed = []
    unsubscribed = []
    expired = []
    for message in messages:
        if addresses.key(message.address) in barred[message.stream]:
            suppressed.append(message)
        elif message.pk in gone:
            unsubscribed.append(message)
        elif message.expires_at <= now:
            expired.append(message)
        else:
            fit.append(message)
    _end(suppressed, Status.SUPPRESSED, Event.Type.REJECTED, _("The address is on the suppression list."), now)
    _end(unsubscribed, Status.SUPPRESSED, Event.Type.REJECTED, _("The recipient unsubscribed."), now)
    _end(expired, Status.FAILED, Event.Type.FAILED, _("Not accepted in time; the last reply stands with the attempts."), now)
    return fit


def _end(messages: Sequence[Message], status: str, event: str, why: str, now: datetime) -> None:
    """Settle messages that the caller has locked, without an attempt."""
    if not messages:
        return
    tally = events.Tally()
    for message in messages:
        tally.move(message, status)
    Message.objects.filter(pk__in=[message.pk for message in messages]).update(status=status, lease=None, reply=why[:500], settled_at=now)
    events.write(Event(message=message, type=event, at=now, detail=why[:500]) for message in messages)
    tally.write()
    finish(batch for batch in tally.changes)


@transaction.atomic
def mark(lease: Lease, messages: Sequence[Message]) -> None:
    """The durable mark: from its commit on, these may have left. Raises LeaseLost, and then nothing of them may be handed over."""
    renew(lease)
    held = Message.objects.filter(pk__in=[message.pk for message in messages], lease=lease, status=Status.CLAIMED)
    if held.update(status=Status.SENDING) != len(messages):
        raise LeaseLost
    for message in messages:
        message.status = Status.SENDING


# ---------------------------------------------------------------------------------------------------------------- putting back


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message that was handed over, or could not be prepared."""

    message: Message
    attempt: Attempt.Outcome
    reply: Reply
    started_at: datetime
    finished_at: datetime
    #: the state it ends in, or the waiting state it returns to
    status: Message.Status
    #: when it is due again, for the waiting states
    next_attempt_at: datetime | None = None

    @property
    def event(self) -> Event.Type | None:
        return EVENT_OF.get(self.status)


EVENT_OF = {
    Status.SENT: Event.Type.SENT,
    Status.BOUNCED: Event.Type.BOUNCED,
    Status.FAILED: Event.Type.FAILED,
    Status.DEFERRED: Event.Type.DEFERRED,
    Status.UNKNOWN: Event.Type.UNKNOWN,
}


@transaction.atomic
def settle(lease: Lease, outcomes: Sequence[Outcome]) -> None:
    """Store outcomes with their attempts, events, suppressions and counters, all or nothing.

    An outcome is true even if it comes after the lease's end, as long as nobody has reaped it; of a reaped one only a message left
    as unknown still learns from it. Raises LeaseLost when the lease was reaped."""
    if not Lease.objects.filter(pk=lease.pk).select_for_update().exists():
        _settle_late(outcomes)
        raise LeaseLost
    now = clock.now()
    tally = events.Tally()
    for outcome in outcomes:
        tally.move(outcome.message, outcome.status)
    _update(lease, outcomes, now)
    Attempt.objects.bulk_create(
        Attempt(
            message=outcome.message,
            number=outcome.message.attempts,
            relay_id=lease.relay_id,
            outcome=outcome.attempt,
            code=outcome.reply.code,
            enhanced=outcome.reply.enhanced[:12],
            reply=outcome.reply.text[:500],
            started_at=outcome.started_at,
            finished_at=outcome.finished_at,
        )
        for outcome in outcomes
    )
    events.write(
        Event(message=outcome.message, type=outcome.event, at=outcome.finished_at, detail=str(outcome.reply)[:500])
        for outcome in outcomes
        if outcome.event
    )
    tally.write()
    finish(tally.changes)


def _update(lease: Lease, outcomes: Sequence[Outcome], now: datetime) -> None:
    moment = connection.ops.adapt_datetimefield_value
    rows = [
        (
            outcome.status.value,
            moment(outcome.next_attempt_at or outcome.message.next_attempt_at),
            str(outcome.reply)[:500],
            None if outcome.status in WAITING else moment(now),
            outcome.message.attempts,
            outcome.message.repeated,
            outcome.message.pk,
            lease.pk,
        )
        for outcome in outcomes
    ]
    # By primary key; on PostgreSQL executemany is one round trip (psycopg's pipeline).
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE delivery_message SET status = %s, next_attempt_at = %s, reply = %s, settled_at = %s, attempts = %s, repeated = %s,"
            " lost_leases = 0, lease_id = NULL WHERE id = %s AND lease_id = %s",
            rows,
        )


def _settle_late(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.status in (Status.SENT, Status.BOUNCED):
            left = Message.objects.select_for_update().filter(pk=outcome.message.pk, status=Status.UNKNOWN).first()
            if left:
                _end([left], outcome.status, outcome.event or "", str(outcome.reply), outcome.finished_at)


@transaction.atomic
def release(lease: Lease, messages: Sequence[Message]) -> None:
    """Hand back messages of which nothing has left, uncounted. Raises LeaseLost."""
    if not messages:
        return
    now = renew(lease)
    limits.give_back(lease.relay, len(messages), now)
    tally = events.Tally()
    for message in messages:
        status = Status.DEFERRED if message.attempts > 1 else Status.QUEUED
        tally.move(message, status)
        message.status, message.lease_id, message.attempts = status, None, message.attempts - 1
    for status in WAITING:
        ids = [message.pk for message in messages if message.status == status]
        Message.objects.filter(pk__in=ids, lease=lease).update(status=status, lease=None, attempts=F("attempts") - 1)
    tally.write()


def end_lease(lease: Lease) -> None:
    """Give the connections back. What the lease still holds (nothing, unless something went wrong) is reaped."""
    Lease.objects.filter(pk=lease.pk).update(expires_at=clock.now())
    reap()


def reap() -> int:
    """Take back what dead workers held; returns how many messages that were. Index delivery_message_leased."""
    count = 0
    for lease in Lease.objects.filter(expires_at__lte=clock.now()):
        with transaction.atomic():
            if Lease.objects.select_for_update(skip_locked=True).filter(pk=lease.pk, expires_at__lte=clock.now()).exists():
                count += _reap(lease)
                lease.delete()
    return count


def _reap(lease: Lease) -> int:
    now = clock.now()
    held = list(lease.messages.select_for_update())
    claimed = [message for message in held if message.status == Status.CLAIMED]
    handed = [message for message in held if message.status == Status.SENDING]
    poison = [message for message in claimed if message.lost_leases + 1 >= len(TOGETHER)]
    again = [message for message in claimed if message.lost_leases + 1 < len(TOGETHER)]
    repeat = [message for message in handed if message.stream == Stream.TRANSACTIONAL and not message.repeated]
    unknown = [message for message in handed if message not in repeat]
    _end(poison, Status.FAILED, Event.Type.FAILED, _("Quarantined: a worker died three times while preparing this mail."), now)
    _end(unknown, Status.UNKNOWN, Event.Type.UNKNOWN, _("The worker died before the relay's reply was stored."), now)
    tally = events.Tally()
    for message in chain(again, repeat):
        tally.move(message, Status.DEFERRED if message in repeat else Status.QUEUED)
    Message.objects.filter(pk__in=[message.pk for message in again]).update(
        status=Status.QUEUED, lease=None, lost_leases=F("lost_leases") + 1
    )
    Message.objects.filter(pk__in=[message.pk for message in repeat]).update(
        status=Status.DEFERRED, lease=None, repeated=True, next_attempt_at=now + REPEAT_AFTER
    )
    events.write(
        Event(message=message, type=Event.Type.UNKNOWN, at=now, detail=_("The worker died before the relay's reply was stored."))
        for message in repeat
    )
    tally.write()
    if held:
        logger.warning("reaped lease %s of relay %s: %s again, %s unknown", lease.pk, lease.relay_id, len(again), len(handed))
    return len(held)


# ---------------------------------------------------------------------------------------------------------------- staff and others


@transaction.atomic
def suppress(messages: QuerySet[Message], why: str) -> int:
    """Keep waiting messages back for good; returns how many. What a drain has claimed already still goes."""
    held = list(messages.filter(status__in=WAITING).select_for_update())
    _end(held, Status.SUPPRESSED, Event.Type.REJECTED, why, clock.now())
    return len(held)


def resendable(messages: QuerySet[Message]) -> QuerySet[Message]:
    """Those that resend() would queue once more: failed or unknown, of a batch that goes on, and their words not forgotten."""
    ended = Batch.objects.filter(status=Batch.Status.CANCELED)
    forgotten = Content.objects.filter(pk=OuterRef("content"), html="", text="", raw__isnull=True)
    return messages.filter(~Exists(forgotten), status__in=[Status.FAILED, Status.UNKNOWN]).exclude(batch__in=ended)


@transaction.atomic
def resend(messages: QuerySet[Message]) -> int:
    """Queue the resendable() of the messages once more, with the same Message-ID; returns how many."""
    now = clock.now()
    held = list(resendable(messages).select_for_update(of=("self",)))
    tally = events.Tally()
    for message in held:
        tally.move(message, Status.QUEUED)
    Message.objects.filter(pk__in=[message.pk for message in held]).update(
        status=Status.QUEUED, lost_leases=0, next_attempt_at=now, expires_at=now + LIFETIME[Stream.TRANSACTIONAL], settled_at=None
    )
    events.write(Event(message=message, type=Event.Type.QUEUED, at=now, detail=_("Sent again by staff.")) for message in held)
    tally.write()
    for batch in Batch.objects.filter(pk__in=tally.changes).select_related("sender", "route"):
        Batch.objects.filter(pk=batch.pk, status=Batch.Status.DONE).update(status=Batch.Status.RUNNING, finished_at=None)
        wake_batch(batch)
    for sender in {message.sender for message in held if not message.batch_id}:
        wake(sender)
    return len(held)


@transaction.atomic
def cancel(messages: QuerySet[Message]) -> int:
    """Withdraw waiting messages; returns how many. What a drain has claimed already still goes."""
    held = list(messages.filter(status__in=WAITING).select_for_update(of=("self",)))
    _cancel(held)
    return len(held)


def _cancel(held: Sequence[Message]) -> None:
    tally = events.Tally()
    for message in held:
        tally.move(message, Status.CANCELED)
    Message.objects.filter(pk__in=[message.pk for message in held]).update(status=Status.CANCELED, settled_at=clock.now())
    tally.write()
    finish(tally.changes)


def withdraw(batch: Batch, group: int = 5000) -> int:
    """Mark what waits of a canceled batch, a group a transaction; returns how many. Index delivery_message_waiting."""
    count = 0
    while True:
        with transaction.atomic():
            waiting = Message.objects.filter(batch=batch, stream=Stream.CAMPAIGN, status__in=WAITING)
            held = list(waiting.order_by("next_attempt_at", "id").select_for_update()[:group])
            _cancel(held)
        if not held:
            return count
        count += len(held)


def finish(batches: Iterable[int]) -> None:
    """End those that have all their recipients and none waiting."""
    Batch.objects.filter(pk__in=list(batches), status=Batch.Status.RUNNING, filled=True, waiting=0, deferred=0).update(
        status=Batch.Status.DONE, finished_at=clock.now()
    )
