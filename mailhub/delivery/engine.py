"""The drain: claim, prepare, mark, hand over and settle, side by side, for one relay.

The four decisions of relays/base.py are caught here and nowhere else. Sockets live in an event loop; the database is spoken to from one
thread, a group of messages at a time; no transaction is open while a relay is spoken to.

When the database goes away nothing more is claimed or marked, so nothing more leaves; what has left is stored when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import ParamSpec, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection
from django.utils.translation import gettext as _

from mailhub.delivery import prepare, queue, workers
from mailhub.delivery.models import Attempt, Lease, Message
from mailhub.delivery.queue import LeaseLost, Outcome
from mailhub.delivery.shelf import Ready, Shelf
from mailhub.lib import backoff
from mailhub.lib.tasks import Queue
from mailhub.relays.base import (
    Deferred,
    Direct,
    Fault,
    OutcomeUnknown,
    Pipelined,
    Provider,
    Refused,
    RelayDown,
    Reply,
    SendError,
    Session,
)
from mailhub.relays.models import Relay, Stream
from mailhub.relays.parking import Watch

logger = logging.getLogger(__name__)

# A drain works this long and then asks to be called again.
SLICE = timedelta(seconds=15)
# What is being handed over when that time is over gets so much longer; then its outcome is unknown. A provider gives up sooner by itself.
GRACE = timedelta(seconds=60)
# Storing an outcome is tried for this long when the database is away: nobody else knows it. All three together stay below the time-out
# of a task (settings.py).
STORE_FOR = timedelta(seconds=40)
# Seconds between two renewals of the lease.
RENEW_EVERY = 5
# Outcomes are stored when one of these is reached: seconds, and how many there are.
SETTLE_EVERY = 0.1
SETTLE_AT = 200
# What one claim takes: a little at first, as much as the relay takes in a second later on.
CLAIM_LEAST = 20
CLAIM_MOST = 1000
# How many messages a drain has marked and not yet settled, at most: so many may be unknown when it is killed.
WINDOW = 500
# How many threads make mails, since signing leaves Python to others; how many each makes at a time; and how many bytes of them are held
# ready: attachments may have 25 MB.
MAKERS = 2
MADE_TOGETHER = 50
HELD_READY = 16_000_000
# A drain stays when a destination takes more within so many seconds, and looks as often.
SOON = 1.0
LOOK_EVERY = 0.25
# Seconds between two looks whether what is suspected of killing workers is alone.
SUSPECT_LOOK = 0.01
# Compiled contents kept by one drain: a campaign has one, transactional mail one a message.
CONTENTS_KEPT = 100

Status = Message.Status
# By their keys.
Contents = dict[int, prepare.Compiled | Refused]
P = ParamSpec("P")
T = TypeVar("T")


def drain(relay: Relay, work: Queue = "bulk", seconds: float = SLICE.total_seconds()) -> int:
    """Hand over what is due for `relay` until nothing is, or the time is over; returns how many messages were settled.

    Returns 0 at once when the relay rests, others use all its connections, or only other machines can leave through it. Safe to call twice,
    at once, anywhere."""
    queue.woken(relay, work)
    if work not in queue.due(relay) or relay.is_elsewhere():
        return 0
    lease = queue.take_lease(relay, work)
    if lease is None:
        return 0
    try:
        run = Drain(relay, lease, seconds)
        async_to_sync(run.run)()
    finally:
        try:
            queue.end_lease(lease)
        except DatabaseError:
            logger.exception("lease %s could not be ended and will run out", lease.pk)
    if not run.stopping:
        queue.wake_again(relay)
    return run.settled


async def in_database(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in the drain's one database thread."""
    return await sync_to_async(function, thread_sensitive=True)(*args, **kwargs)


def reconnect() -> None:
    if not connection.in_atomic_block:
        connection.close()


class Line:
    """What is marked, in line for the connections. Who has waited least is served first, since their connection is still open."""

    def __init__(self) -> None:
        self.items: deque[Ready] = deque()
        self.waiting: list[asyncio.Future[bool]] = []
        self.closed = False

    def __len__(self) -> int:
        return len(self.items)

    def put(self, items: Collection[Ready]) -> None:
        self.items.extend(items)
        self.call(len(items))

    def call(self, count: int, come: bool = True) -> None:
        """Have up to so many of those who wait look, or go."""
        while count and self.waiting:
            future = self.waiting.pop()
            if not future.done():
                future.set_result(come)
                count -= 1

    def close(self) -> None:
        """Nothing more comes: those who wait may go, and those at work finish what is there."""
        self.closed = True
        self.call(len(self.waiting), come=False)

    def ahead(self) -> Ready | None:
        """The next, for a connection to begin with while the mail before is on its way; None where another connection is free.

        Urgent mail is bound to no connection: whichever is free first takes it."""
        if self.waiting or not self.items or self.items[0].message.stream == Stream.TRANSACTIONAL:
            return None
        return self.items.popleft()

    async def something(self) -> bool:
        """Wait until there is something; False when the caller may go."""
        while not self.items:
            if self.closed:
                return False
            future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            if not await future:
                return False
        return True


class Rate:
    """Messages a second, as of late, from the first of them on."""

    def __init__(self) -> None:
        self.value = 0.0
        self.noted = time.monotonic()
        # How much of it is known: 1 once it has been looked at for long.
        self.weight = 0.0

    def note(self, count: int) -> None:
        """So many since the last note."""
        now = time.monotonic()
        passed = max(now - self.noted, 0.001)
        self.noted = now
        if not count and not self.weight:
            return
        # What was so half a second ago counts half as much.
        new = 1 - 0.5 ** (passed / 0.5)
        self.weight += (1 - self.weight) * new
        self.value += (count / passed - self.value) * new / self.weight


class Drain:
    def __init__(self, relay: Relay, lease: Lease, seconds: float) -> None:
        self.relay = relay
        self.lease = lease
        #: the return path of each mail reaches its destination
        self.own_path = relay.is_direct or relay.keeps_return_path
        self.deadline = time.monotonic() + seconds
        #: settled messages
        self.settled = 0
        #: the worker is to stop, or the database is away: nothing more is claimed or handed over
        self.stopping = False
        #: others may have what was held: as above, and nothing is handed back
        self.lost = False
        #: why the relay takes nothing at present
        self.down: RelayDown | None = None
        #: the relay took at least one mail
        self.accepted = False
        #: others were told that there is more than one drain takes at once
        self.called_help = False
        #: nothing more will be claimed; nothing more will be made; nothing more will be handed over
        self.fed = self.made = self.finished = False
        #: claimed and certainly not handed over, by key
        self.held: dict[int, Message] = {}
        #: of these, what no mail is made of yet
        self.claimed: deque[Message] = deque()
        self.compiled: Contents = {}
        self.compiling = asyncio.Lock()
        self.slots = queue.slots(lease)
        #: finished mails that are not marked
        self.shelf = Shelf({key: sum(sources.values()) for key, sources in self.slots.items()})
        #: where claims go on in each batch
        self.reached: queue.Reached = {}
        self.watch = Watch(relay)
        #: marked, and waiting for a connection
        self.line = Line()
        self.outcomes: list[Outcome] = []
        self.rate = Rate()
        #: the relay took at least one connection; so many are being asked for
        self.connected = False
        self.connecting = 0
        self.senders: list[asyncio.Task[None]] = []
        #: with so few in line it is time to mark the next
        self.low = 0
        #: a claim is about to be made
        self.claiming = False
        # Set when there may be something to do for feed(), make(), fill() and record().
        self.hungry, self.idle, self.room, self.full = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        try:
            self.provider: Provider = await in_database(self.relay.provider)
            if isinstance(self.provider, Direct):
                self.provider.allow(self.slots)
        except Exception as error:  # options that no form let through, or secrets that no key opens
            logger.exception("relay %s cannot be used", self.relay.pk)
            self.down = RelayDown(Reply(None, "", f"{type(error).__name__}: {error}"))
            await self.tell_health()
            return
        pulse = asyncio.create_task(self.pulse())
        recorder = asyncio.create_task(self.record())
        self.senders = [asyncio.create_task(self.hand_over()) for _ in range(self.lease.connections)]
        feeder, maker = asyncio.create_task(self.feed()), asyncio.create_task(self.make())
        try:
            await self.fill()
            await feeder
            await maker
        finally:
            await self.end_senders()
            self.finished = True
            self.full.set()
            await recorder
            await self.give_back()
            pulse.cancel()
        await self.tell_health()

    @property
    def over(self) -> bool:
        """Nothing more is to be claimed or marked."""
        if self.stopping or self.lost or self.down or time.monotonic() >= self.deadline:
            return True
        # Nobody is left to hand over.
        return all(sender.done() for sender in self.senders)

    # -- claim and make

    async def feed(self) -> None:
        """Keep half a second's mail claimed at least, until nothing is due or the time is over."""
        try:
            while not self.over:
                size = self.claim_size
                if len(self.shelf) + len(self.claimed) > size // 2:
                    await wait(self.hungry)
                    continue
                room, is_full = self.shelf.room, self.shelf.is_full
                messages = await self.claim(size, room)
                if not messages:
                    if is_full or await in_database(queue.opens_soon, self.lease, room, SOON):
                        # A destination has had all it takes for now, and will soon take more.
                        await asyncio.sleep(LOOK_EVERY)
                        continue
                    break
                if len(messages) == size and not self.called_help:
                    self.called_help = True
                    await in_database(queue.call_help, self.lease)
                self.shelf.claim(messages)
                self.held.update({message.id: message for message in messages})
                suspect = messages[0].lost_leases > 0
                if suspect:
                    await self.only(len(messages))
                self.take_in(messages)
                if suspect:
                    await self.only(0)
        except LeaseLost:
            self.lost = True
        except DatabaseError:
            await self.database_away()
        finally:
            self.fed = True
            self.idle.set()

    async def claim(self, size: int, room: dict[str, int]) -> list[Message]:
        """It keeps the database's thread for a while, so first what can be is marked, for the connections to have something meanwhile."""
        self.claiming = True
        self.room.set()
        await asyncio.sleep(0)
        try:
            return await in_database(queue.claim, self.lease, size, room, self.reached)
        finally:
            self.claiming = False

    def take_in(self, messages: list[Message]) -> None:
        """What is urgent, which a claim has first, passes what waits to be made."""
        urgent = list(takewhile(lambda message: message.stream == Stream.TRANSACTIONAL, messages))
        self.claimed.extendleft(reversed(urgent))
        self.claimed.extend(messages[len(urgent) :])
        self.idle.set()

    async def only(self, count: int) -> None:
        """Wait until so many are held, which workers died with before: should this one die too, it takes no others with it."""
        while len(self.held) > count and not self.over:
            await asyncio.sleep(SUSPECT_LOOK)

    @property
    def claim_size(self) -> int:
        return int(min(max(self.rate.value, CLAIM_LEAST, 2 * self.lease.connections), CLAIM_MOST))

    async def make(self) -> None:
        """The mails of what is claimed, while more is being claimed."""
        try:
            await asyncio.gather(*(self.make_on() for _ in range(MAKERS)))
        finally:
            self.made = True
            self.room.set()

    async def make_on(self) -> None:
        """A few at a time."""
        try:
            while not self.over and (self.claimed or not self.fed):
                if not self.claimed or self.shelf.bytes > HELD_READY:
                    await wait(self.idle)
                else:
                    await self.make_some()
        except DatabaseError:
            await self.database_away()

    async def make_some(self) -> None:
        async with self.compiling:
            group = await self.group()
            compiled = await self.compile({message.content_id for message in group})
        started = datetime.now(UTC)
        for message, made in await asyncio.to_thread(self.make_group, group, compiled):
            if isinstance(made, Refused):
                self.refused(message, made, started)
            elif isinstance(made, Deferred):
                self.deferred(message, made, started)
            else:
                self.shelf.put(made)
        self.room.set()

    async def group(self) -> list[Message]:
        """Take the next few that are claimed, of which not too much has to be loaded at once."""
        group = [self.claimed.popleft() for _ in range(min(MADE_TOGETHER, len(self.claimed)))]
        missing = {message.content_id for message in group} - self.compiled.keys()
        if len(missing) > 1:
            sizes = await in_database(queue.sizes, missing)
            room = HELD_READY // MAKERS
            for place, message in enumerate(group):
                room -= sizes.pop(message.content_id, 0)
                if room < 0 and place:
                    self.claimed.extendleft(reversed(group[place:]))
                    return group[:place]
        return group

    async def compile(self, wanted: set[int]) -> Contents:
        missing = wanted - self.compiled.keys()
        if not missing:
            return self.compiled
        kept = wanted if len(self.compiled) > CONTENTS_KEPT else self.compiled.keys()
        # A finished mail may be large, and most have one recipient.
        self.compiled = {pk: each for pk, each in self.compiled.items() if pk in kept and (pk in wanted or not is_finished(each))}
        for content, signer in await in_database(prepare.load, missing):
            try:
                self.compiled[content.pk] = await asyncio.to_thread(prepare.Compiled, content, signer)
            except Refused as refusal:
                self.compiled[content.pk] = refusal
        return self.compiled

    def make_group(self, messages: list[Message], contents: Contents) -> list[tuple[Message, Ready | Refused | Deferred]]:
        return [(message, self.make_one(message, contents)) for message in messages]

    def make_one(self, message: Message, contents: Contents) -> Ready | Refused | Deferred:
        try:
            compiled = contents[message.content_id]
            if isinstance(compiled, Refused):
                return compiled
            return Ready(message, compiled.envelope(message, own_path=self.own_path, signed=True), compiled.domain)
        except Refused as refusal:
            return refusal
        except Exception as error:  # ours: the others must not suffer, and it may be mended by the next try
            logger.exception("message %s could not be made", message.pk)
            return Deferred(Reply(None, "", _("%(error)s while making the mail") % {"error": type(error).__name__}))

    # -- mark

    async def fill(self) -> None:
        """Mark the next mails, as many as the connections will soon want, and pass them on."""
        while not self.over:
            if not self.shelf:
                if self.made and self.shelf.is_empty:
                    return
                await wait(self.room)
                continue
            limit = self.ready_limit
            room = min(limit - len(self.line), WINDOW - len(self.lease.marked))
            # A group at a time, and not one as each leaves.
            self.low = limit - 1 if self.claiming else limit // 2
            if len(self.line) > self.low or room < 1:
                await wait(self.room)
                continue
            group = [self.next_made() for _ in range(min(room, len(self.shelf)))]
            try:
                marked = await in_database(queue.mark, self.lease, [item.message for item in group])
            except LeaseLost:
                self.lost = True
            except DatabaseError:
                # Marked or not, they are not handed over but handed back.
                await self.database_away()
            else:
                self.pass_on(group, marked)

    @property
    def ready_limit(self) -> int:
        """What the connections take in a fifth of a second: most of what a mark costs it costs for few mails, too."""
        return int(min(max(self.rate.value / 5, 2 * self.lease.connections), WINDOW // 2))

    def next_made(self) -> Ready:
        self.hungry.set()
        self.idle.set()
        return self.shelf.take()

    def pass_on(self, group: list[Ready], marked: list[Message]) -> None:
        ours = {message.id for message in marked}
        self.line.put([item for item in group if item.message.id in ours])
        for item in group:
            if item.message.id not in ours:
                self.shelf.back(item)
                self.shelf.end(item.message)
                del self.held[item.message.id]

    # -- hand over

    async def hand_over(self) -> None:
        """One connection's life: open it when there is something to send, and send until there is nothing."""
        session: Session | None = None
        pipelined: Pipelined | None = None
        # What the session may have begun with already.
        ahead: Ready | None = None
        try:
            while (ahead or await self.line.something()) and not (self.stopping or self.lost or self.down):
                if session is not None and session.spent:
                    await session.close()
                    session = None
                if session is None:
                    session = await self.connect()
                    if session is None:
                        # Perhaps the relay wants fewer connections.
                        if ahead:
                            self.line.items.appendleft(ahead)
                        self.line.call(1)
                        return
                    pipelined = session if isinstance(session, Pipelined) else None
                    # Others may have taken it meanwhile.
                    continue
                item = ahead or self.line.items.popleft()
                ahead = self.line.ahead() if pipelined else None
                if len(self.line) <= self.low:
                    self.room.set()
                if self.is_closed(item):
                    # It goes back with the rest.
                    self.lease.marked.discard(item.message.id)
                    self.shelf.end(item.message)
                else:
                    if pipelined and ahead:
                        pipelined.announce(ahead.envelope)
                    await self.send(session, item)
                if self.shelf.back(item):
                    self.room.set()
        finally:
            if session is not None:
                await session.close()

    async def connect(self) -> Session | None:
        """None when the relay does not want another connection; when it wants none at all it is down."""
        self.connecting += 1
        try:
            session = await self.provider.open()
        except RelayDown as error:
            failure = error
        except Exception as error:  # a provider's bug
            logger.exception("relay %s could not be opened", self.relay.pk)
            failure = RelayDown(Reply(None, "", f"{type(error).__name__}: {error}"))
        else:
            self.connected = True
            return session
        finally:
            self.connecting -= 1
        if not self.connected and not self.connecting:
            self.down = failure
        return None

    async def send(self, session: Session, item: Ready) -> None:
        message, started = item.message, datetime.now(UTC)
        del self.held[message.id]
        domain = item.sender_domain
        try:
            reply = await session.send(item.envelope)
        except Refused as refusal:
            rule = self.watch.heard(item.destination, domain, refusal)
            if rule and rule.keeps_mail and refusal.fault != Fault.RECIPIENT:
                self.deferred(message, Deferred(refusal.reply, timedelta(seconds=rule.lasts)), started)
            else:
                self.refused(message, refusal, started)
        except Deferred as deferral:
            self.watch.heard(item.destination, domain, deferral)
            self.deferred(message, deferral, started)
        except RelayDown as error:
            self.down = error
            self.not_asked(message, error, started)
        except OutcomeUnknown as error:
            self.watch.heard(item.destination, domain, error)
            self.unknown(message, error, started)
        except asyncio.CancelledError:
            self.unknown(message, OutcomeUnknown(Reply(None, "", _("No reply in time."))), started)
            raise
        except Exception as error:  # a provider's bug must not cost the others their outcomes
            logger.exception("relay %s failed on message %s", self.relay.pk, message.pk)
            words = _("%(error)s while handing the mail over") % {"error": type(error).__name__}
            self.unknown(message, OutcomeUnknown(Reply(None, "", words)), started)
        else:
            self.accepted = True
            self.watch.taken(item.destination, domain)
            self.outcome(message, Attempt.Outcome.SENT, reply, started, Status.SENT)

    def is_closed(self, item: Ready) -> bool:
        """What others heard of its destination keeps it from being handed over."""
        closed = self.watch.closed
        return bool(closed) and self.watch.is_closed(item.destination, item.sender_domain)

    async def end_senders(self) -> None:
        """Let them finish what they have in flight."""
        self.line.close()
        _done, late = await asyncio.wait(self.senders, timeout=GRACE.total_seconds())
        for sender in late:
            sender.cancel()
        for ended in await asyncio.gather(*self.senders, return_exceptions=True):
            if isinstance(ended, Exception):
                logger.error("a connection of relay %s ended badly", self.relay.pk, exc_info=ended)

    # -- the decisions

    def outcome(
        self,
        message: Message,
        attempt: Attempt.Outcome,
        reply: Reply,
        started: datetime,
        status: Message.Status,
        next_attempt_at: datetime | None = None,
        counted: bool = True,
    ) -> None:
        self.held.pop(message.id, None)
        self.shelf.end(message)
        self.outcomes.append(Outcome(message, attempt, reply, started, datetime.now(UTC), status, next_attempt_at, counted))
        if len(self.outcomes) >= SETTLE_AT:
            self.full.set()

    def refused(self, message: Message, refusal: Refused, started: datetime) -> None:
        status = Status.BOUNCED if refusal.fault == Fault.RECIPIENT else Status.FAILED
        self.outcome(message, Attempt.Outcome.REFUSED, refusal.reply, started, status)

    def deferred(self, message: Message, deferral: Deferred, started: datetime) -> None:
        wait = deferral.retry_after or backoff.delay(message.attempts, timedelta(seconds=self.relay.first_retry))
        again = datetime.now(UTC) + wait
        if again >= message.expires_at:
            self.outcome(message, Attempt.Outcome.DEFERRED, deferral.reply, started, Status.FAILED)
        else:
            self.outcome(message, Attempt.Outcome.DEFERRED, deferral.reply, started, Status.DEFERRED, again)

    def not_asked(self, message: Message, error: RelayDown, started: datetime) -> None:
        status = Status.DEFERRED if message.attempts > 1 else Status.QUEUED
        self.outcome(message, Attempt.Outcome.RELAY_DOWN, error.reply, started, status, counted=False)

    def unknown(self, message: Message, error: SendError, started: datetime) -> None:
        """Transactional mail goes once more; a campaign's does not: twice is worse there than never."""
        if message.stream == Stream.TRANSACTIONAL and not message.repeated:
            message.repeated = True
            again = datetime.now(UTC) + queue.REPEAT_AFTER
            self.outcome(message, Attempt.Outcome.UNKNOWN, error.reply, started, Status.DEFERRED, again)
        else:
            self.outcome(message, Attempt.Outcome.UNKNOWN, error.reply, started, Status.UNKNOWN)

    # -- settle

    async def record(self) -> None:
        """Store outcomes in groups, until the drain is finished."""
        while not self.finished or self.outcomes:
            if not self.finished and len(self.outcomes) < SETTLE_AT:
                await wait(self.full, SETTLE_EVERY)
            group, self.outcomes[:SETTLE_AT] = self.outcomes[:SETTLE_AT], []
            self.rate.note(len(group))
            if group:
                await self.store(group)
                self.room.set()
            if self.watch.has_news or (self.finished and self.watch.taken_by):
                await self.notice()

    async def notice(self) -> None:
        """Do what follows from what destinations said."""
        before = len(self.watch.closed)
        try:
            await in_database(self.watch.store)
        except Exception:  # who comes next hears the same; what was handed over must be stored, whatever is wrong here
            logger.exception("what destinations said to relay %s could not be stored", self.relay.pk)
            await in_database(reconnect)
        if len(self.watch.closed) > before:
            self.shelf.drop(self.is_closed)
            self.room.set()

    async def store(self, group: list[Outcome]) -> None:
        try:
            await self.insist(queue.settle, self.lease, group)
        except LeaseLost:
            self.lost = True
        except OperationalError:
            logger.critical("outcomes of messages %s could not be stored", [outcome.message.pk for outcome in group])
        except Exception:
            if len(group) == 1:
                logger.critical("the outcome of message %s could not be stored", group[0].message.pk, exc_info=True)
                return
            # One of them is to blame, and must not cost the others theirs.
            for outcome in group:
                await self.store([outcome])
        else:
            self.settled += len(group)

    async def insist(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """in_database(), again and again while the database is away. To do it twice must be no more than to do it once. Raises what
        `function` raises, and OperationalError when the database stays away."""
        give_up = time.monotonic() + STORE_FOR.total_seconds()
        while True:
            try:
                return await in_database(function, *args, **kwargs)
            except (OperationalError, InterfaceError) as error:
                await self.database_away()
                if time.monotonic() > give_up:
                    raise OperationalError("the database stays away") from error
                await asyncio.sleep(1)

    async def database_away(self) -> None:
        if not self.stopping:
            logger.exception("the database does not answer: nothing more is claimed or handed over")
        self.stopping = True
        await in_database(reconnect)

    async def pulse(self) -> None:
        """Keep the lease fresh, and tell the supervisor that the worker lives, whatever the database does."""
        renewed = time.monotonic()
        while True:
            if not workers.beat():
                self.stopping = True
            if time.monotonic() - renewed > RENEW_EVERY:
                renewed = time.monotonic()
                try:
                    await in_database(queue.renew, self.lease)
                except LeaseLost:
                    self.lost = True
                except DatabaseError:
                    await in_database(reconnect)
            await asyncio.sleep(1)

    async def give_back(self) -> None:
        """Hand back what was claimed and has not left."""
        try:
            await self.insist(queue.release, self.lease, list(self.held.values()))
        except LeaseLost:
            self.lost = True
        except DatabaseError:
            logger.exception("what lease %s holds could not be handed back and will be reaped", self.lease.pk)

    async def tell_health(self) -> None:
        try:
            await self.insist(self.health)
        except DatabaseError:
            logger.exception("the health of relay %s could not be stored", self.relay.pk)

    def health(self) -> None:
        self.relay.refresh_from_db(fields=["failures"])
        if self.accepted:
            self.relay.recovered()
            self.relay.failures = 0
        if self.down:
            self.relay.rest(self.down.rest, str(self.down.reply))
            logger.warning("relay %s rests until %s: %s", self.relay.pk, self.relay.resting_until, self.down.reply)


def is_finished(compiled: prepare.Compiled | Refused) -> bool:
    return isinstance(compiled, prepare.Compiled) and compiled.raw is not None


async def wait(event: asyncio.Event, seconds: float = 0.5) -> None:
    """For `event`, or for the time after which it is time to look anyway."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    event.clear()
