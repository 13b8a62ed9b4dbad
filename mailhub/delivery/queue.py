"""The queue: the only place that takes messages out and puts them back.

Locks are taken in one order everywhere: lease, limits of destinations, messages (by their keys), quotas, suppressions, batches, throughput.
A claim never waits for a message (SKIP LOCKED).
"""

from __future__ import annotations

import json
import logging
import random
import socket
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Sum
from django.db.models.base import ModelState
from django.db.models.functions import Coalesce, Length
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_stubs_ext import StrOrPromise

from mailhub.delivery import events, guard, suppressions, throughput
from mailhub.delivery.models import WAITING, Attempt, Batch, Content, Event, Lease, Message, Slot, Worker
from mailhub.delivery.workers import FRESH
from mailhub.lib import addresses, clock, fields, tasks
from mailhub.lib.lookups import among, in_turn
from mailhub.relays import destinations, limits, routing, shaping
from mailhub.relays.base import Reply
from mailhub.relays.models import OTHER, Relay, Route, Stream
from mailhub.relays.routing import Share
from mailhub.senders.models import Sender

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
# A wake-up that has not begun by then is taken for lost.
WAKE_LOST = timedelta(seconds=60)
# How many messages are claimed together, by the number of workers that died holding them: one that kills workers is soon alone, and
# those that were merely beside it get through. After the last it is quarantined. Three times alone, since a worker may die for another
# reason, too.
TOGETHER = (1000, 25, 1, 1, 1)
# How long a mail is tried: transactional from its acceptance on, a campaign's from its first try, as a quota may keep it for weeks.
LIFETIME = {Stream.TRANSACTIONAL: timedelta(days=3), Stream.CAMPAIGN: timedelta(days=3)}
# Transactional mail with an unknown outcome goes once more after this.
REPEAT_AFTER = timedelta(seconds=60)

Status = Message.Status
Sent = Attempt.Outcome


class LeaseLost(Exception):
    """The lease ran out: its messages belong to others now."""


# ---------------------------------------------------------------------------------------------------------------- putting in


def enqueue(messages: Sequence[Message]) -> None:
    """Insert new messages, in the caller's transaction, and wake a worker once it has committed. Raises IntegrityError when a sender has
    just been deleted."""
    label(messages)
    with transaction.atomic():
        guard.keep({message.sender_id for message in messages})
        Message.objects.bulk_create(messages, batch_size=500)
        counts = Counter(message.batch_id for message in messages if message.batch_id)
        for batch, count in sorted(counts.items()):
            Batch.objects.filter(pk=batch).update(waiting=F("waiting") + count)
            wake_batch(Batch.objects.get(pk=batch))
        if senders := {message.sender_id: message.sender for message in messages if not message.batch_id}:
            wake(*senders.values())


def new(stream: str, *, at: datetime | None = None, **fields: object) -> Message:
    """An unsaved message that may go at once. `at`: the present time, where the caller knows it already."""
    now = at or clock.now()
    return Message(stream=stream, created_at=now, next_attempt_at=now, expires_at=now + LIFETIME[Stream(stream)], **fields)


def label(messages: Sequence[Message]) -> None:
    """Note on new messages which destination each goes to."""
    domains = [addresses.domain(message.address) for message in messages]
    known = destinations.of(domains)
    for message, domain in zip(messages, domains, strict=True):
        message.destination_id = known[domain]


def wake(*senders: Sender) -> None:
    """Have the relays of the senders' transactional mail drained."""
    own = {sender.transactional_route_id for sender in senders}
    wanted = Q(pk__in=[route for route in own if route])
    if None in own:
        wanted |= Q(default_for=Stream.TRANSACTIONAL)
    _wake_routes(Route.objects.filter(wanted), "transactional")


def wake_batch(batch: Batch) -> None:
    """Have the relays of the batch drained."""
    if route := batch.route or batch.sender.route(Stream.CAMPAIGN):
        _wake_routes([route], "bulk")


def _wake_routes(routes: Iterable[Route], queue: tasks.Queue) -> None:
    now = clock.now()
    relays = {member.relay_id: member.relay for route in routes for member in routing.serving(route, now)}
    for relay in relays.values():
        wake_relay(relay, queue)


def wake_relay(relay: Relay, queue: tasks.Queue) -> None:
    """Ask for a drain after the commit, unless one is on its way already."""
    # Robust: what is committed is accepted, and its sender must not be told otherwise. The tick sees to a wake-up that failed.
    transaction.on_commit(lambda: _ask(relay, queue), robust=True)


DRAINS: dict[tasks.Queue, str] = {
    "transactional": "mailhub.delivery.tasks.drain_transactional",
    "bulk": "mailhub.delivery.tasks.drain",
}


def _ask(relay: Relay, queue: tasks.Queue) -> None:
    now = clock.now()
    flag = f"{queue}_wake"
    free = Q(**{f"{flag}__isnull": True}) | Q(**{f"{flag}__lt": now - WAKE_LOST})
    if Relay.objects.filter(free, pk=relay.pk).update(**{flag: now}):
        tasks.enqueue(DRAINS[queue], relay.pk, queue=queue)


def call_help(lease: Lease) -> None:
    """There is more due than one drain takes at once: have a process that is free drain the relay, too."""
    if lease.queue == "bulk" and idle("bulk", clock.now()) > 0:
        wake_relay(lease.relay, "bulk")


def wake_again(relay: Relay) -> None:
    """A drain has ended: what came meanwhile found no free connection, and what the relay cannot take now is for others of its routes."""
    relay.refresh_from_db(fields=["status", "resting_until"])
    able = [relay]
    if not relay.is_available(clock.now()):
        able = list(Relay.objects.filter(routes__members__relay=relay).exclude(pk=relay.pk).defer("secrets").distinct())
    for each in able:
        for wanted in due(each):
            wake_relay(each, wanted)


def woken(relay: Relay, queue: tasks.Queue) -> None:
    """A drain begins: what is committed from now on needs a wake-up of its own."""
    Relay.objects.filter(pk=relay.pk).update(**{f"{queue}_wake": None})


# ---------------------------------------------------------------------------------------------------------------- taking out


def take_lease(relay: Relay, queue: tasks.Queue) -> Lease | None:
    """A lease on the relay's free connections, or None when all are in use; and on what is free of those that each destination allows."""
    with transaction.atomic():
        maximum = Relay.objects.only("max_connections").select_for_update(no_key=True).get(pk=relay.pk).max_connections
        now = clock.now()
        used = Lease.objects.filter(relay=relay, expires_at__gt=now).aggregate(n=Sum("connections"))["n"] or 0
        granted = _grant(queue, maximum, maximum - used)
        if queue == "bulk" and idle(queue, now) > 1:
            # One process fills one processor: another may work beside this one.
            granted = -(-granted // 2)
        if granted < 1:
            return None
        terms = shaping.terms(relay, now)
        free_slots = _free_slots(relay, terms, now)
        lease = Lease.objects.create(
            relay=relay, queue=queue, node=socket.gethostname(), connections=granted, started_at=now, expires_at=now + LEASE
        )
        Slot.objects.bulk_create(
            Slot(lease=lease, destination_id=key, source=source, connections=_grant(queue, terms[key].connections or 0, free))
            for key, sources in free_slots.items()
            for source, free in sources.items()
        )
        return lease


def _grant(queue: tasks.Queue, maximum: int, free: int) -> int:
    """How many of the free connections a drain gets. Urgent mail takes half of all at most. Bulk mail takes all but one, so that urgent
    mail never finds a long drain in its way."""
    return max(min(free, -(-maximum // 2)) if queue == "transactional" else free - (maximum > 1), 0)


def idle(queue: tasks.Queue, now: datetime) -> int:
    """How many processes serve the queue on all machines and are at no drain. All machines are taken to have as many as this one."""
    living = Worker.objects.filter(queue=queue, beat_at__gt=now - FRESH).count()
    return living * settings.MAILHUB_WORKERS - Lease.objects.filter(queue=queue, expires_at__gt=now).count()


def _free_slots(relay: Relay, terms: Mapping[str, shaping.Terms], now: datetime) -> dict[str, dict[str, int]]:
    """How many more connections each destination that limits them allows, from each of our addresses that this machine holds."""
    limited = {key: each.connections for key, each in terms.items() if each.connections}
    if not limited:
        return {}
    sources = [ip.address for ip in relay.pool.here()] if relay.is_direct and relay.pool else [""]
    slots = Slot.objects.filter(lease__relay=relay, lease__expires_at__gt=now).order_by()
    used = {(key, source): n for key, source, n in slots.values_list("destination", "source").annotate(Sum("connections"))}
    return {key: {source: max(most - used.get((key, source), 0), 0) for source in sources} for key, most in limited.items()}


def slots(lease: Lease) -> dict[str, dict[str, int]]:
    """How many connections the lease has to each destination that limits them, from each of our addresses."""
    found: dict[str, dict[str, int]] = {}
    for key, source, count in lease.slots.values_list("destination", "source", "connections"):
        found.setdefault(key, {})[source] = count
    return found


def renew(lease: Lease) -> datetime:
    """Hold the lease for another LEASE, and store what is marked; returns the database's time. Locks its row until the transaction ends.
    Raises LeaseLost."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(RENEW, [f"{LEASE.total_seconds()} s", fields.joined(lease.marked), lease.pk])
            renewed = cursor.fetchone()
        if not renewed:
            raise LeaseLost
        moment: datetime = renewed[0]
        return moment
    now = clock.now()
    if not Lease.objects.filter(pk=lease.pk, expires_at__gt=now).update(expires_at=now + LEASE, marked=lease.marked):
        raise LeaseLost
    return now


RENEW = """
UPDATE delivery_lease SET expires_at = clock_timestamp() + %s::interval, marked = %s
WHERE id = %s AND expires_at > clock_timestamp() RETURNING clock_timestamp()
"""


def claim(lease: Lease, limit: int, room: Mapping[str, int] | None = None, reached: Reached | None = None) -> list[Message]:
    """Take up to `limit` due messages that the lease's relay serves now: transactional ones first, fairly from each site (or sender, where
    it is no site's), then fairly from each batch, unless the lease is one for transactional mail; to the destinations in `room` no more
    than it says. When it takes nothing, there is nothing that may go at present.

    `reached`: a dictionary that the caller keeps from claim to claim. In the lanes of batches each goes on where the one before left off,
    and begins anew when nothing follows there. Otherwise all that a batch has sent would be in its way until it is vacuumed away.

    Those that must not be mailed, or that nobody wants any more, are settled on the way. Raises LeaseLost."""
    reached = {} if reached is None else reached
    more = True
    while more:
        fit, more = _claim(lease, limit, room or {}, reached)
        if fit:
            return fit
        if reached:
            # What others handed back meanwhile is due since long ago.
            reached.clear()
            more = True
    return []


@transaction.atomic
def _claim(lease: Lease, limit: int, room: Mapping[str, int], reached: Reached) -> tuple[list[Message], bool]:
    """What was taken; whether to look again when that is nothing. In claims of 1000, 25 us of PostgreSQL's time a message, most of it for
    five indexes."""
    now = renew(lease)
    # Its secrets are for who opens connections.
    relay = Relay.objects.defer("secrets").get(pk=lease.relay_id)
    if not relay.is_available(now):
        return [], False
    openings = shaping.Openings(relay, now, hold=True)
    for destination, count in room.items():
        openings.limit((destination, ""), count)
    shares = routing.shares(relay, now, openings)
    lanes = _due(lease, shares, openings, limit, now, reached)
    if not lanes:
        return [], False
    found = [message for _lane, messages in lanes for message in messages]
    if len(lanes) > 1:
        found.sort(key=lambda message: (message.stream != Stream.TRANSACTIONAL, message.next_attempt_at, message.id))
    found = [message for message in found if message.lost_leases == found[0].lost_leases][: TOGETHER[found[0].lost_leases]]
    if moved := _moved(relay, found):
        found = [message for message in found if message.pk not in moved]
    unfit = unfit_of(found, now)
    fit = [message for message in found if message.pk not in unfit] if unfit else found
    granted = limits.take(relay, len(fit), now)
    if granted < len(fit):
        relay.rest_until(limits.opens_at(relay, now) or now, _("A quota is used up."))
    within, fit = granted == len(fit), fit[:granted]
    if openings.has_books:
        left = {message.id for message in fit}
        taken = Counter[shaping.Pair]()
        for lane, messages in lanes:
            taken[lane.destination, lane.sender_domain] += sum(message.id in left for message in messages)
        openings.write(taken)
    tally = events.Tally()
    for end in _ENDS if unfit else ():
        _end([message for message in found if unfit.get(message.pk) is end], end.status, end.event, str(end.why), now, tally)
    _hold(lease, fit, now, tally)
    tally.write()
    if len(fit) + len(unfit) == sum(len(messages) for _lane, messages in lanes):
        # Nobody is left where they were.
        reached.update((lane.key, lane.last) for lane, messages in lanes if messages and messages[0].stream == Stream.CAMPAIGN)
    return fit, within


def _hold(lease: Lease, messages: Sequence[Message], now: datetime, tally: events.Tally) -> None:
    fresh = [message for message in messages if message.stream == Stream.CAMPAIGN and not message.attempts]
    for message in fresh:
        message.expires_at = now + LIFETIME[Stream.CAMPAIGN]
    claimed = {"status": Status.CLAIMED, "lease": lease, "relay": lease.relay_id, "attempts": F("attempts") + 1}
    if fresh:
        Message.objects.filter(among("pk", keys(fresh))).update(**claimed, expires_at=fresh[0].expires_at)
    if len(fresh) < len(messages):
        Message.objects.filter(among("pk", {*keys(messages)} - {*keys(fresh)})).update(**claimed)
    # Past Django's descriptors, which look for a lease and a relay that the message may have at hand: it was just read, and has none.
    held = {"status": Status.CLAIMED, "lease_id": lease.pk, "relay_id": lease.relay_id}
    tally.move(messages, Status.CLAIMED)
    for message in messages:
        message.__dict__.update(held, attempts=message.attempts + 1)


def keys(messages: Iterable[Message]) -> list[int]:
    # `pk` asks the model for the name of its key each time.
    return [message.id for message in messages]


def due(relay: Relay) -> list[tasks.Queue]:
    """The queues in which a drain of `relay` is wanted: none while there is nothing for it to do."""
    now = clock.now()
    if not relay.is_available(now):
        return []
    openings = shaping.Openings(relay, now)
    for destination, free in _free_slots(relay, openings.terms, now).items():
        openings.limit((destination, ""), sum(free.values()))
    shares = routing.shares(relay, now, openings)
    queues: dict[tasks.Queue, Stream] = {"transactional": Stream.TRANSACTIONAL, "bulk": Stream.CAMPAIGN}
    return [queue for queue, stream in queues.items() if _lanes(stream, shares, openings, now)]


def opens_soon(lease: Lease, room: Mapping[str, int], within: float) -> bool:
    """Whether a rate lets go of something that is due within so many seconds. `room`: as for claim()."""
    relay = Relay.objects.defer("secrets").get(pk=lease.relay_id)
    now = clock.now()
    openings = shaping.Openings(relay, now)
    soon = {key for key, moment in openings.opens.items() if moment <= now + timedelta(seconds=within) and room.get(key, 1)}
    if not soon or not relay.is_available(now):
        return False
    for key in openings.terms:
        openings.room[key, ""] = 1 if key in soon else 0
    shares = routing.shares(relay, now, openings)
    streams = [Stream.TRANSACTIONAL] if lease.queue == "transactional" else [Stream.TRANSACTIONAL, Stream.CAMPAIGN]
    return any(_lanes(stream, shares, openings, now) for stream in streams)


def _due(
    lease: Lease, shares: Sequence[Share], openings: shaping.Openings, limit: int, now: datetime, reached: Reached
) -> list[tuple[_Lane, list[Message]]]:
    """Up to `limit` locked messages, by the lanes that they are from."""
    found: list[tuple[_Lane, list[Message]]] = []
    for stream in (Stream.TRANSACTIONAL, Stream.CAMPAIGN):
        left = limit - sum(len(messages) for _lane, messages in found)
        if left and (stream == Stream.TRANSACTIONAL or lease.queue != "transactional"):
            found += _fairly(stream, _lanes(stream, shares, openings, now, reached), openings, left, now)
    return found


# -- lanes: what waits of one sender and site (transactional mail) or of one batch for one destination. One that is parked is not looked at,
# however long.

BEGINNING = (datetime(1970, 1, 1, tzinfo=UTC), 0)
# _Lane.last by _Lane.key, of batches.
Reached = dict[tuple[int, str, int, int, int], tuple[datetime, int]]


@dataclass(eq=False, slots=True)
class _Lane:
    #: key of the sender, or of the batch
    source: int
    #: Message.source_ref; 0 for a batch
    ref: int
    sender_domain: str
    destination: str
    share: Share
    #: when the last that was taken was due, and its key: those that follow are next
    last: tuple[datetime, int] = BEGINNING

    @property
    def key(self) -> tuple[int, str, int, int, int]:
        return self.source, self.destination, self.share.low, self.share.high, self.share.total

    @property
    def of(self) -> tuple[int, int]:
        """Whose it is: a site's, whatever it sends from, or a sender's or batch's that belongs to none."""
        return (self.ref, 0) if self.ref else (0, self.source)


def _lanes(
    stream: Stream, shares: Sequence[Share], openings: shaping.Openings, now: datetime, reached: Reached | None = None
) -> list[list[_Lane]]:
    """The lanes from which something may be taken, by whose they are; of those that are `reached`, what follows."""
    lanes = []
    refs = _waiting_refs() if stream == Stream.TRANSACTIONAL else {}
    for (route, default_for), parts in groupby(shares, key=lambda share: (share.route, share.default_for)):
        open_to = [(share, key) for share in parts for key in sorted(share.destinations)]
        is_default = default_for == stream
        sources = _senders(refs, route, is_default) if stream == Stream.TRANSACTIONAL else _batches(route, is_default)
        for source, domain, address, pool in sources:
            covered = [(share, key) for share, key in open_to if share.kind.covers(stream, address, pool)]
            open_now = [(share, key) for share, key in covered if openings.of(key, domain) != 0]
            lanes += [_Lane(source, ref, domain, key, share) for ref in refs.get(source, [0]) for share, key in open_now]
    if reached and stream == Stream.CAMPAIGN:
        # Not of transactional mail: what is committed late may have been due before.
        for lane in lanes:
            lane.last = reached.get(lane.key, BEGINNING)
    stocked = sorted(_stocked(stream, lanes, now), key=lambda lane: lane.of)
    return [list(group) for _of, group in groupby(stocked, key=lambda lane: lane.of)]


def _waiting_refs() -> dict[int, list[int]]:
    """The senders of transactional mail that waits, due or not, each with the sites that it waits for.

    Index delivery_message_lane: on PostgreSQL one probe a sender and site, however much waits of each."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(WAITING_REFS)
            pairs = cursor.fetchall()
    else:
        waiting = Message.objects.filter(stream=Stream.TRANSACTIONAL, status__in=WAITING)
        pairs = list(waiting.order_by("sender", "source_ref").values_list("sender", "source_ref").distinct())
    refs: dict[int, list[int]] = {}
    for sender, ref in pairs:
        refs.setdefault(sender, []).append(ref)
    return refs


_REF = ("sender_id", "source_ref")
WAITING_REFS = in_turn("delivery_message", _REF, _REF, "stream = 'transactional' AND status IN ('queued', 'deferred')")


def _senders(among: Collection[int], route: int, is_default: bool) -> QuerySet[Sender, tuple[int, str, str, int | None]]:
    """Those of the senders that the route serves."""
    mine = Q(transactional_route=route)
    if is_default:
        mine |= Q(transactional_route__isnull=True)
    senders = Sender.objects.filter(mine, pk__in=among, status=Sender.Status.CONFIRMED)
    return senders.order_by().values_list("pk", "domain__name", "email", "pool")


def _batches(route: int, is_default: bool) -> QuerySet[Batch, tuple[int, str, str, int | None]]:
    """Those that are running. Index delivery_batch_open: as many rows as there are open batches."""
    by_sender = Q(sender__campaign_route=route)
    if is_default:
        by_sender |= Q(sender__campaign_route__isnull=True)
    running = Batch.objects.filter(
        Q(route=route) | Q(by_sender, route__isnull=True),
        Q(waiting__gt=0) | Q(deferred__gt=0),
        status=Batch.Status.RUNNING,
        sender__status=Sender.Status.CONFIRMED,
    )
    return running.order_by().values_list("pk", "sender__domain__name", "sender__email", "sender__pool")


def _fairly(
    stream: Stream, sources: list[list[_Lane]], openings: shaping.Openings, limit: int, now: datetime
) -> Iterator[tuple[_Lane, list[Message]]]:
    """Up to `limit` locked messages: from each source its part, from each of its lanes a part of that, and what one leaves the others
    take."""
    # Where there are more of them than messages wanted, it is others that go without the next time.
    left = [random.sample(lanes, len(lanes)) for lanes in random.sample(sources, len(sources))]
    while limit and (asked := _parts(left, openings, limit)):
        got = dict.fromkeys(asked, 0)
        for lane, messages in _take(stream, asked, now):
            got[lane] = len(messages)
            limit -= len(messages)
            lane.last = (messages[-1].next_attempt_at, messages[-1].id)
            yield lane, messages
        for lane, wanted in asked.items():
            openings.take(lane.destination, lane.sender_domain, got[lane] - wanted)
        left = [more for lanes in left if (more := [lane for lane in lanes if lane not in asked or got[lane] == asked[lane]])]


def _parts(left: Sequence[Sequence[_Lane]], openings: shaping.Openings, limit: int) -> dict[_Lane, int]:
    """How much to ask each lane for; that is set apart in `openings`."""
    asked: dict[_Lane, int] = {}
    for place, lanes in enumerate(left):
        part = -(-limit // (len(left) - place))
        for number, lane in enumerate(lanes):
            wanted = -(-part // (len(lanes) - number))
            room = openings.of(lane.destination, lane.sender_domain)
            wanted = wanted if room is None else min(wanted, room)
            if wanted:
                asked[lane] = wanted
                openings.take(lane.destination, lane.sender_domain, wanted)
                part -= wanted
                limit -= wanted
    return asked


def _take(stream: Stream, asked: Mapping[_Lane, int], now: datetime) -> list[tuple[_Lane, list[Message]]]:
    """Lock the next messages of each lane that has any, those that others have locked passed over.

    Index delivery_message_lane or delivery_message_waiting: an equality on source, site and destination, then rows in the order wanted; no
    sort, and what waits in other lanes is never passed. On PostgreSQL one statement for all of them: 5 us a lane that turns out to be
    empty."""
    found: dict[_Lane, list[Message]] = {}
    if connection.vendor != "postgresql":
        found = {lane: list(_of_lane(stream, lane, now)[:wanted]) for lane, wanted in asked.items()}
    else:
        lanes = [*asked]
        with connection.cursor() as cursor:
            cursor.execute(TAKE[stream], [*_arrays(lanes), [*asked.values()], now])
            for place, *row in cursor.fetchall():
                found.setdefault(lanes[place - 1], []).append(_made(row, cursor.db.alias))
    for lane, messages in found.items():
        # What its attempt will say of how it came to its relay.
        for message in messages:
            message.share = lane.share
    return [(lane, messages) for lane, messages in found.items() if messages]


# What a drain needs of a message. The rest is read should anybody ask.
TAKEN = (
    "id", "public_id", "stream", "status", "batch_id", "content_id", "sender_id", "source_ref", "destination_id", "address",
    "recipient_ref", "attempts", "lost_leases", "repeated", "data", "created_at", "next_attempt_at", "expires_at",
)  # fmt: skip
_COLUMNS = ", ".join(f"date_part('epoch', message.{name})" if name.endswith("_at") else f"message.{name}" for name in TAKEN)


def _made(row: Sequence[Any], database: str) -> Message:
    """The message of these columns, like those that Django makes of a row, in 3 us instead of 30: no signals, and moments come as seconds
    since 1970, exact to the microsecond until 2242, because Django reads them in Python."""
    message = Message.__new__(Message)
    *values, data, created, due, expires = row
    moments = (_moment(created), _moment(due), _moment(expires))
    message.__dict__.update(zip(TAKEN, (*values, _decoded(data)[0], *moments), strict=True))
    message._state = ModelState()
    message._state.adding, message._state.db = False, database
    return message


# json.loads() looks for white space around it, which takes longer.
_decoded = json.JSONDecoder().raw_decode


@lru_cache(maxsize=1000)
def _moment(seconds: float) -> datetime:
    """Messages that were made together have the same ones."""
    return datetime.fromtimestamp(seconds, UTC)


def _stocked(stream: Stream, lanes: Sequence[_Lane], now: datetime) -> list[_Lane]:
    """Those in which something is due. Indexes as above, a probe a lane."""
    if connection.vendor != "postgresql":
        return [lane for lane in lanes if _of_lane(stream, lane, now).exists()]
    if not lanes:
        return []
    with connection.cursor() as cursor:
        cursor.execute(STOCKED[stream], [*_arrays(lanes), [1] * len(lanes), now])
        return [lanes[place - 1] for (place,) in sorted(cursor.fetchall())]


def _of_lane(stream: Stream, lane: _Lane, now: datetime) -> QuerySet[Message]:
    of = {"sender": lane.source, "source_ref": lane.ref} if stream == Stream.TRANSACTIONAL else {"batch": lane.source}
    waiting = Message.objects.filter(stream=stream, destination=lane.destination, status__in=WAITING, next_attempt_at__lte=now, **of)
    at, pk = lane.last
    waiting = waiting.filter(Q(next_attempt_at__gt=at) | Q(next_attempt_at=at, pk__gt=pk)).order_by("next_attempt_at", "pk")
    if lane.share.high - lane.share.low == lane.share.total:
        return waiting
    part = waiting.annotate(slot=F("id") % lane.share.total)
    return part.filter(slot__gte=lane.share.low, slot__lt=lane.share.high)


def _arrays(lanes: Sequence[_Lane]) -> list[list[object]]:
    columns = zip(
        *((lane.source, lane.ref, lane.destination, lane.share.low, lane.share.high, lane.share.total, *lane.last) for lane in lanes),
        strict=True,
    )
    return [list(column) for column in columns]


_LANES = """
unnest(%s::bigint[], %s::bigint[], %s::varchar[], %s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::bigint[], %s::bigint[])
    WITH ORDINALITY AS lane (source, ref, destination, low, high, total, last_at, last_id, wanted, place)
"""
_DUE = """
FROM delivery_message AS message
WHERE {source} AND message.destination_id = lane.destination
    AND message.stream = '{stream}' AND message.status IN ('queued', 'deferred')
    AND message.next_attempt_at <= %s AND (message.next_attempt_at, message.id) > (lane.last_at, lane.last_id)
    AND message.id %% lane.total >= lane.low AND message.id %% lane.total < lane.high
"""
_OF = {
    Stream.TRANSACTIONAL: _DUE.format(source="message.sender_id = lane.source AND message.source_ref = lane.ref", stream="transactional"),
    Stream.CAMPAIGN: _DUE.format(source="message.batch_id = lane.source", stream="campaign"),
}
# Also where any row would do: PostgreSQL might look for one in the whole table, if by its statistics there were many.
_IN_ORDER = "ORDER BY message.next_attempt_at, message.id"
TAKE = {
    stream: f"""
SELECT lane.place, taken.* FROM {_LANES} CROSS JOIN LATERAL (
    SELECT {_COLUMNS} {due} {_IN_ORDER} LIMIT lane.wanted FOR NO KEY UPDATE SKIP LOCKED
) AS taken
"""  # noqa: S608  of the words above
    for stream, due in _OF.items()
}
STOCKED = {
    stream: f"SELECT lane.place FROM {_LANES} CROSS JOIN LATERAL (SELECT 1 {due} {_IN_ORDER} LIMIT 1) AS first"  # noqa: S608
    for stream, due in _OF.items()
}


def _moved(relay: Relay, messages: Sequence[Message]) -> set[int]:
    """Those whose domain was found to belong to a destination since they were made: they go to its lanes. By their keys."""
    if not relay.is_direct:
        return set()
    others = [message for message in messages if message.destination_id == OTHER]
    known = destinations.of({addresses.domain(message.address) for message in others})
    moved: dict[str, list[int]] = {}
    for message in others:
        if (key := known[addresses.domain(message.address)]) != OTHER:
            moved.setdefault(key, []).append(message.pk)
    for key, pks in moved.items():
        Message.objects.filter(pk__in=pks).update(destination=key)
    return {pk for pks in moved.values() for pk in pks}


@dataclass(frozen=True, slots=True)
class _Unfit:
    """Why a message that is due is not to be sent."""

    status: Message.Status
    event: Event.Type
    why: StrOrPromise


_SUPPRESSED = _Unfit(Status.SUPPRESSED, Event.Type.REJECTED, gettext_lazy("The address is on the suppression list."))
_UNSUBSCRIBED = _Unfit(Status.SUPPRESSED, Event.Type.REJECTED, gettext_lazy("The recipient unsubscribed."))
_EXPIRED = _Unfit(Status.FAILED, Event.Type.FAILED, gettext_lazy("Not accepted in time; the last reply stands with the attempts."))
_ENDS = (_SUPPRESSED, _UNSUBSCRIBED, _EXPIRED)


def unfit_of(messages: Sequence[Message], now: datetime) -> dict[int, _Unfit]:
    """Those that are suppressed or expired, by their keys.

    Indexes delivery_suppression_once and of Event.message: a probe of each a message."""
    erased = suppressions.any_erased()
    barred = {}
    for stream in {message.stream for message in messages}:
        asked = [(addresses.key(message.address), message.source_ref) for message in messages if message.stream == stream]
        barred[stream] = suppressions.blocked(stream, asked, erased=erased)
    # Who unsubscribes while a worker holds the message, or after it failed.
    campaign = [message.id for message in messages if message.stream == Stream.CAMPAIGN]
    unsubscribed = Event.objects.filter(among("message_id", campaign), type=Event.Type.UNSUBSCRIBED)
    gone = set(unsubscribed.order_by().values_list("message", flat=True))
    found = {}
    for message in messages:
        held = barred[message.stream]
        if held and (addresses.key(message.address), message.source_ref) in held:
            found[message.id] = _SUPPRESSED
        elif message.id in gone:
            found[message.id] = _UNSUBSCRIBED
        elif message.expires_at <= now and (message.stream == Stream.TRANSACTIONAL or message.attempts):
            found[message.pk] = _EXPIRED
    return found


def _end(messages: Sequence[Message], status: str, event: str, why: str, now: datetime, tally: events.Tally) -> None:
    """Settle messages that the caller has locked, without an attempt; the caller writes the tally, last of all."""
    if not messages:
        return
    tally.move(messages, status)
    Message.objects.filter(pk__in=[message.pk for message in messages]).update(status=status, lease=None, reply=why[:500], settled_at=now)
    events.write(Event(message=message, type=event, at=now, detail=why[:500]) for message in messages)


def mark(lease: Lease, messages: Sequence[Message]) -> list[Message]:
    """The durable mark: from its commit on, these may have left. Returns those that are marked: all of them, but for one of which a report
    says meanwhile that it arrived on an earlier try. Raises LeaseLost; the others are not to be handed over.

    One row is written, the lease's, with the keys of all that is marked and has no outcome yet."""
    tried = [message for message in messages if message.attempts > 1]
    gone = {*keys(tried)} - set(_held(lease, tried).values_list("pk", flat=True)) if tried else set()
    marked = [message for message in messages if message.id not in gone]
    lease.marked |= {*keys(marked)}
    renew(lease)
    return marked


def _held(lease: Lease, messages: Iterable[Message]) -> QuerySet[Message]:
    """Those of the messages that the lease still holds, by their primary keys.

    Coalesce() hides from PostgreSQL that the index on leases could serve as well. It takes that for nearly empty, while it still has the
    dead entries of all that the lease has held so far."""
    held = Message.objects.filter(among("pk", keys(messages))).alias(holder=Coalesce("lease_id", 0))
    return held.filter(holder=lease.pk).order_by()


def sizes(contents: Collection[int]) -> dict[int, int]:
    """Bytes of those that are finished mails, which is read without reading them."""
    finished = Content.objects.filter(pk__in=contents, raw__isnull=False)
    return dict(finished.annotate(size=Length("raw")).values_list("pk", "size"))


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
    #: False: the attempt was none, since nobody asked for the message
    counted: bool = True

    @property
    def attempts(self) -> int:
        """The message's attempts so far."""
        return self.message.attempts if self.counted else self.message.attempts - 1

    @property
    def event(self) -> Event.Type | None:
        return EVENT_OF.get(self.status)

    @property
    def said(self) -> str:
        """The reply as a database can hold it: it may have come from anybody."""
        return _storable(str(self.reply), 500)

    @property
    def category(self) -> str:
        """Why it was not accepted, in the words of lib/replies; "" where it was, or nobody knows."""
        return events.category(self.said, self.message.address) if self.event in _EXPLAINED else ""


def _storable(text: str, length: int) -> str:
    if not text.isascii() or "\0" in text:
        text = text.replace("\0", "").encode(errors="replace").decode()
    return text[:length]


EVENT_OF = {
    Status.SENT: Event.Type.SENT,
    Status.BOUNCED: Event.Type.BOUNCED,
    Status.FAILED: Event.Type.FAILED,
    Status.DEFERRED: Event.Type.DEFERRED,
    Status.UNKNOWN: Event.Type.UNKNOWN,
}
# What a reply says the reason of.
_EXPLAINED = frozenset({Event.Type.BOUNCED, Event.Type.FAILED, Event.Type.DEFERRED})


def settle(lease: Lease, outcomes: Sequence[Outcome]) -> None:
    """Store outcomes with their attempts, events, suppressions and counters, all or nothing. To store one twice does no more than once.

    An outcome is true even if it comes after the lease's end, as long as nobody has reaped it; of a reaped one, messages left as unknown,
    or waiting for their one repetition, still learn from it. Raises LeaseLost when the lease was reaped."""
    if not outcomes:
        return
    # In the order that locks are taken in.
    outcomes = sorted(outcomes, key=lambda outcome: outcome.message.id)
    with transaction.atomic():
        now = _locked(lease)
        if now:
            _store(lease, outcomes, now)
        else:
            _store_late(lease, outcomes)
    lease.marked -= {outcome.message.id for outcome in outcomes}
    if not now:
        raise LeaseLost


def _locked(lease: Lease) -> datetime | None:
    """Keep others from reaping the lease until the transaction ends; returns the database's time, None when it was reaped."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp() FROM delivery_lease WHERE id = %s FOR NO KEY UPDATE", [lease.pk])
            found: tuple[datetime] | None = cursor.fetchone()
        return found[0] if found else None
    return clock.now() if Lease.objects.filter(pk=lease.pk).exists() else None


def _store(lease: Lease, outcomes: Sequence[Outcome], now: datetime) -> None:
    store = _store_set if connection.vendor == "postgresql" else _store_each
    stored = store(lease, outcomes, now)
    tally = events.Tally()
    for status in {outcome.status for outcome in outcomes}:
        moved = [outcome.message for outcome in outcomes if outcome.status == status]
        tally.move(moved if len(stored) == len(outcomes) else [message for message in moved if message.id in stored], status)
    if len(stored) < len(outcomes):
        # Stored before, and only the answer to the commit got lost; or a report was quicker, and its state stands.
        left = [outcome for outcome in outcomes if outcome.message.pk not in stored]
        known = _attempts_of(left)
        told = [outcome for outcome in left if (outcome.message.pk, outcome.started_at) not in known]
        _write(lease.relay_id, told)
        outcomes = [outcome for outcome in outcomes if outcome.message.pk in stored] + told
    tally.write()
    _count(lease.relay_id, outcomes)


def _write(relay: int | None, outcomes: Sequence[Outcome]) -> None:
    """The attempts and events of the outcomes."""
    Attempt.objects.bulk_create(
        Attempt(
            message=outcome.message,
            number=outcome.message.attempts,
            relay_id=relay,
            **_chosen(outcome.message),
            outcome=outcome.attempt,
            code=outcome.reply.code,
            enhanced=_storable(outcome.reply.enhanced, 12),
            reply=_storable(outcome.reply.text, 500),
            source_ip=outcome.reply.source_ip or None,
            started_at=outcome.started_at,
            finished_at=outcome.finished_at,
        )
        for outcome in outcomes
    )
    events.write(
        Event(message=outcome.message, type=outcome.event, at=outcome.finished_at, detail=outcome.said, category=outcome.category)
        for outcome in outcomes
        if outcome.event
    )


def _chosen(message: Message) -> dict[str, int]:
    """By which route it came to its relay, and why."""
    share = message.share
    return {"route_key": share.route, "choice": share.choice, "percent": share.percent} if share else {}


def _count(relay: int, outcomes: Sequence[Outcome]) -> None:
    """Add the stored attempts to the counts of their hour: the last that the transaction does, as all drains of a relay do it.

    Index delivery_throughput_once, and no other is touched: two rows a group or so, 1 us a message."""
    counts: dict[throughput.Place, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        message, finished = outcome.message, outcome.finished_at
        place = message.destination_id or OTHER, outcome.reply.source_ip, message.stream
        count = counts[finished.replace(minute=0, second=0, microsecond=0), relay, *place]
        if outcome.attempt != Sent.SENT:
            count[throughput.COLUMN_OF[outcome.attempt] if outcome.status != Status.BOUNCED else "bounced"] += 1
            count["unproven"] += bool(throughput.UNPROVEN.fullmatch(outcome.reply.enhanced))
            continue
        seconds = max((finished - message.created_at).total_seconds(), 0)
        count["accepted"] += 1
        count["seconds"] += int(seconds)
        count[throughput.bucket(seconds)] += 1
    throughput.add(counts)


def _attempts_of(outcomes: Sequence[Outcome]) -> set[tuple[int, datetime]]:
    """Message and start of the attempts that are stored already."""
    known = Attempt.objects.filter(message__in=[outcome.message.pk for outcome in outcomes])
    return set(known.order_by().values_list("message", "started_at"))


# One statement for a group: by primary key. Of PostgreSQL's time 41 us a message, most of it for four indexes of the message and two each
# of attempt and event; of ours 13 us, in groups of 250.
# What was told about a message, if anything was, has the name of the state that it came to.
STORE = """
WITH outcome AS MATERIALIZED (
    SELECT * FROM unnest(
        %s::bigint[], %s::text[], %s::timestamptz[], %s::text[], %s::smallint[], %s::boolean[], %s::smallint[], %s::text[],
        %s::smallint[], %s::text[], %s::text[], %s::inet[], %s::timestamptz[], %s::timestamptz[], %s::text[],
        %s::bigint[], %s::smallint[], %s::smallint[]
    ) AS outcome (
        id, status, next_attempt_at, said, attempts, repeated, number, attempt,
        code, enhanced, reply, source_ip, started_at, finished_at, category, route, choice, percent
    )
),
stored AS (
    UPDATE delivery_message AS message SET
        status = outcome.status,
        next_attempt_at = COALESCE(outcome.next_attempt_at, message.next_attempt_at),
        settled_at = CASE WHEN outcome.status = ANY(%s) THEN NULL ELSE %s END,
        reply = outcome.said,
        attempts = outcome.attempts,
        repeated = outcome.repeated,
        lost_leases = 0,
        lease_id = NULL
    FROM outcome
    WHERE message.id = outcome.id AND COALESCE(message.lease_id, 0) = %s
    RETURNING outcome.*
),
tried AS (
    INSERT INTO delivery_attempt
        (message_id, number, relay_id, route_key, choice, percent, outcome, code, enhanced, reply, source_ip, started_at, finished_at)
    SELECT id, number, %s, route, choice, percent, attempt, code, enhanced, reply, source_ip, started_at, finished_at FROM stored
),
told AS (
    INSERT INTO delivery_event (message_id, type, at, recorded_at, detail, category)
    SELECT id, status, finished_at, %s, said, category FROM stored WHERE status = ANY(%s)
    RETURNING message_id, id, type
)
SELECT id, NULL FROM stored UNION ALL SELECT message_id, id FROM told WHERE type = ANY(%s)
"""


def _store_set(lease: Lease, outcomes: Sequence[Outcome], now: datetime) -> set[int]:
    """Messages, attempts and events of those outcomes whose messages are still the lease's; returns their keys. For PostgreSQL."""
    messages, replies = [outcome.message for outcome in outcomes], [outcome.reply for outcome in outcomes]
    shares = [message.share for message in messages]
    columns = [
        _array(keys(messages)),
        _words([outcome.status for outcome in outcomes]),
        _array([outcome.next_attempt_at for outcome in outcomes]),
        _words([outcome.said for outcome in outcomes]),
        _array([outcome.attempts for outcome in outcomes]),
        _array([message.repeated for message in messages]),
        _array([message.attempts for message in messages]),
        _words([outcome.attempt for outcome in outcomes]),
        _array([reply.code for reply in replies]),
        _words([_storable(reply.enhanced, 12) for reply in replies]),
        _words([_storable(reply.text, 500) for reply in replies]),
        _array([reply.source_ip or None for reply in replies]),
        _array([outcome.started_at for outcome in outcomes]),
        _array([outcome.finished_at for outcome in outcomes]),
        _words([outcome.category for outcome in outcomes]),
        _array([share and share.route for share in shares]),
        _array([share and share.choice.value for share in shares]),
        _array([share and share.percent for share in shares]),
    ]
    told_of, suppressing = [str(status) for status in EVENT_OF], [str(type) for type in events.SUPPRESSES]
    waiting = [str(status) for status in WAITING]
    with connection.cursor() as cursor:
        cursor.execute(STORE, [*columns, waiting, now, lease.pk, lease.relay_id, now, told_of, suppressing])
        found = cursor.fetchall()
    if told := {message: event for message, event in found if event}:
        bad = [outcome for outcome in outcomes if outcome.message.pk in told]
        events.suppress(
            Event(pk=told[outcome.message.pk], message=outcome.message, type=outcome.event or "", detail=outcome.said) for outcome in bad
        )
    return {message for message, _event in found}


def _array(values: Iterable[object]) -> str:
    """As PostgreSQL writes an array of numbers, moments and the like. Psycopg takes five times as long."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def _words(values: Sequence[str]) -> str:
    """The same of texts, in which no database holds a NUL."""
    if not values:
        return "{}"
    # What is escaped are the marks that an escape needs: in all of them together.
    return '{"' + "\0".join(values).replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","') + '"}'


def _store_each(lease: Lease, outcomes: Sequence[Outcome], now: datetime) -> set[int]:
    """The same for SQLite."""
    held = set(_held(lease, [outcome.message for outcome in outcomes]).values_list("pk", flat=True))
    outcomes = [outcome for outcome in outcomes if outcome.message.pk in held]
    moment = connection.ops.adapt_datetimefield_value
    rows = [
        (
            outcome.status.value,
            moment(outcome.next_attempt_at or outcome.message.next_attempt_at),
            None if outcome.status in WAITING else moment(now),
            outcome.said,
            outcome.attempts,
            outcome.message.repeated,
            outcome.message.pk,
        )
        for outcome in outcomes
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE delivery_message SET status = %s, next_attempt_at = %s, settled_at = %s, reply = %s, attempts = %s, repeated = %s,"
            " lost_leases = 0, lease_id = NULL WHERE id = %s",
            rows,
        )
    _write(lease.relay_id, outcomes)
    return held


def _store_late(lease: Lease, outcomes: Sequence[Outcome]) -> None:
    """What still can be said of messages whose lease was reaped. Those that somebody has claimed since are none of our business."""
    by_key = {outcome.message.pk: outcome for outcome in outcomes}
    left = Message.objects.filter(Q(status=Status.UNKNOWN) | Q(status=Status.DEFERRED, repeated=True), pk__in=by_key)
    known = _attempts_of(outcomes)
    now = clock.now()
    tally = events.Tally()
    told = []
    for message in left.order_by("pk").select_for_update():
        outcome = by_key[message.pk]
        if message.attempts != outcome.message.attempts or (message.pk, outcome.started_at) in known:
            continue
        told.append(outcome)
        if outcome.status == Status.UNKNOWN:
            continue
        tally.move([message], outcome.status)
        Message.objects.filter(pk=message.pk).update(
            status=outcome.status,
            next_attempt_at=outcome.next_attempt_at or message.next_attempt_at,
            reply=outcome.said,
            settled_at=None if outcome.status in WAITING else now,
            attempts=outcome.attempts,
            repeated=outcome.message.repeated,
        )
    if told:
        # It is not kept by the lease any more.
        kept = Relay.objects.select_for_update(no_key=True).filter(pk=lease.relay_id).values_list("pk", flat=True).first()
        _write(kept, told)
        tally.write()
        _reopen(tally.changes)
        _count(lease.relay_id, told)


@transaction.atomic
def release(lease: Lease, messages: Sequence[Message]) -> None:
    """Hand back messages of which nothing has left, uncounted. Raises LeaseLost when the lease was reaped."""
    if not messages:
        return
    if not _locked(lease):
        raise LeaseLost
    held = list(_held(lease, messages).only("pk", "status", "batch", "attempts").order_by("pk").select_for_update(no_key=True))
    limits.give_back(lease.relay, len(held), clock.now(), since=lease.started_at)
    tally = events.Tally()
    for status in WAITING:
        back = [message for message in held if (message.attempts > 1) == (status == Status.DEFERRED)]
        tally.move(back, status)
        Message.objects.filter(pk__in=[message.pk for message in back]).update(status=status, lease=None, attempts=F("attempts") - 1)
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
            # As it is now: what is marked may have changed.
            if held := Lease.objects.select_for_update(skip_locked=True).filter(pk=lease.pk, expires_at__lte=clock.now()).first():
                count += _reap(held)
                held.delete()
    return count


def _reap(lease: Lease) -> int:
    now = clock.now()
    tally = events.Tally()
    again: list[Message] = []
    poison: list[Message] = []
    repeat: list[Message] = []
    unknown: list[Message] = []
    for message in lease.messages.order_by("pk").select_for_update(no_key=True):
        if message.pk not in lease.marked:
            (again if message.lost_leases + 1 < len(TOGETHER) else poison).append(message)
        else:
            (repeat if message.stream == Stream.TRANSACTIONAL and not message.repeated else unknown).append(message)
    died = _("The worker died before the relay's reply was stored.")
    quarantined = _("Quarantined: %(count)s workers died while preparing this mail.") % {"count": len(TOGETHER)}
    _end(poison, Status.FAILED, Event.Type.FAILED, quarantined, now, tally)
    _end(unknown, Status.UNKNOWN, Event.Type.UNKNOWN, died, now, tally)
    tally.move(again, Status.QUEUED)
    Message.objects.filter(pk__in=[message.pk for message in again]).update(
        status=Status.QUEUED, lease=None, lost_leases=F("lost_leases") + 1
    )
    tally.move(repeat, Status.DEFERRED)
    Message.objects.filter(pk__in=[message.pk for message in repeat]).update(
        status=Status.DEFERRED, lease=None, repeated=True, next_attempt_at=now + REPEAT_AFTER
    )
    events.write(Event(message=message, type=Event.Type.UNKNOWN, at=now, detail=died) for message in repeat)
    tally.write()
    held = len(again) + len(poison) + len(repeat) + len(unknown)
    if held:
        counts = (len(again), len(repeat), len(unknown), len(poison))
        logger.warning("reaped lease %s of relay %s: %s again, %s repeated, %s unknown, %s quarantined", lease.pk, lease.relay_id, *counts)
    return held


# ---------------------------------------------------------------------------------------------------------------- staff and others


@transaction.atomic
def suppress(messages: QuerySet[Message], why: str) -> int:
    """Keep waiting messages back for good; returns how many. What a drain has claimed already still goes."""
    held = _waiting(messages)
    tally = events.Tally()
    _end(held, Status.SUPPRESSED, Event.Type.REJECTED, why, clock.now(), tally)
    tally.write()
    return len(held)


def _waiting(messages: QuerySet[Message]) -> list[Message]:
    """Those of the messages that wait, locked in an order that all who lock more than one keep to."""
    return list(messages.filter(status__in=WAITING).order_by("pk").select_for_update(of=("self",), no_key=True))


def resendable(messages: QuerySet[Message]) -> QuerySet[Message]:
    """Those that resend() would queue once more: failed or unknown, of a batch that goes on, and their words not forgotten."""
    ended = Batch.objects.filter(status=Batch.Status.CANCELED)
    forgotten = Content.objects.filter(pk=OuterRef("content"), html="", text="", raw__isnull=True)
    return messages.filter(~Exists(forgotten), status__in=[Status.FAILED, Status.UNKNOWN]).exclude(batch__in=ended)


@transaction.atomic
def resend(messages: QuerySet[Message]) -> int:
    """Queue the resendable() of the messages once more, with the same Message-ID; returns how many."""
    now = clock.now()
    held = list(resendable(messages).order_by("pk").select_for_update(of=("self",), no_key=True))
    tally = events.Tally()
    tally.move(held, Status.QUEUED)
    Message.objects.filter(pk__in=[message.pk for message in held]).update(
        status=Status.QUEUED, lost_leases=0, next_attempt_at=now, expires_at=now + LIFETIME[Stream.TRANSACTIONAL], settled_at=None
    )
    events.write(Event(message=message, type=Event.Type.QUEUED, at=now, detail=_("Sent again by staff.")) for message in held)
    tally.write()
    _reopen(tally.changes)
    for sender in {message.sender for message in held if not message.batch_id}:
        wake(sender)
    return len(held)


@transaction.atomic
def copy(message: Message, address: str) -> Message | None:
    """A new mail, with a Message-ID of its own, that says to `address` what the message said; None when its words have been forgotten.

    Only of transactional mail: a campaign's words hold one recipient's way out of it. retention.forget_bodies() holds the content, too."""
    forgotten = Q(html="", text="", raw__isnull=True)
    content = Content.objects.select_for_update(no_key=True).filter(pk=message.content_id).exclude(forgotten).first()
    if content is None or message.stream != Stream.TRANSACTIONAL:
        return None
    same = {"sender": message.sender, "data": message.data, "source_ref": message.source_ref}
    made = new(Stream.TRANSACTIONAL, content=content, address=address, **same)
    enqueue([made])
    detail = _("A copy of the mail to %(address)s, sent by staff.") % {"address": message.address}
    events.write([Event(message=made, type=Event.Type.QUEUED, at=made.created_at, detail=detail[:500])])
    return made


def _reopen(batches: Iterable[int]) -> None:
    """Messages of these wait again."""
    for batch in Batch.objects.filter(pk__in=list(batches)).select_related("sender", "route").order_by("pk"):
        Batch.objects.filter(pk=batch.pk, status=Batch.Status.DONE).filter(Q(waiting__gt=0) | Q(deferred__gt=0)).update(
            status=Batch.Status.RUNNING, finished_at=None
        )
        wake_batch(batch)


@transaction.atomic
def cancel(messages: QuerySet[Message]) -> int:
    """Withdraw waiting messages; returns how many. What a drain has claimed already still goes."""
    held = _waiting(messages)
    _cancel(held)
    return len(held)


def _cancel(held: Sequence[Message]) -> None:
    tally = events.Tally()
    tally.move(held, Status.CANCELED)
    Message.objects.filter(pk__in=[message.pk for message in held]).update(status=Status.CANCELED, settled_at=clock.now())
    tally.write()


def withdraw(batch: Batch, group: int = 5000) -> int:
    """Mark what waits of a canceled batch, a group a transaction; returns how many."""
    count = 0
    while some := withdraw_some(batch, group):
        count += some
    return count


@transaction.atomic
def withdraw_some(batch: Batch, group: int = 5000) -> int:
    """Mark up to `group` of what waits of a canceled batch; what others hold comes back. Index delivery_message_waiting."""
    waiting = Message.objects.filter(batch=batch, stream=Stream.CAMPAIGN, status__in=WAITING)
    waiting = waiting.order_by("destination_id", "next_attempt_at", "id")
    held = list(waiting.only("pk", "status", "batch").select_for_update(skip_locked=True, no_key=True)[:group])
    _cancel(held)
    return len(held)


def canceled() -> QuerySet[Batch]:
    """Batches of which something has yet to be withdrawn: a task was lost, or a worker held it at the time. Index delivery_batch_open."""
    return Batch.objects.filter(Q(waiting__gt=0) | Q(deferred__gt=0), status=Batch.Status.CANCELED)


def finish(batches: Iterable[int]) -> None:
    """End those that have all their recipients and none waiting."""
    events.finish(batches)
