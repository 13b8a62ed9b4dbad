"""The drain: claim, prepare, hand over and settle, side by side, for one relay.

The four decisions of relays/base.py are caught here and nowhere else. Sockets live in an event loop; the database is spoken to from one
thread, a group of messages at a time; no transaction is open while a relay is spoken to.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from django.utils import timezone

from mailhub.delivery import prepare, queue, workers
from mailhub.delivery.models import Attempt, Content, Lease, Message
from mailhub.delivery.queue import LeaseLost, Outcome
from mailhub.lib import backoff
from mailhub.relays.base import (
    Deferred,
    Envelope,
    Fault,
    OutcomeUnknown,
    Provider,
    Refused,
    RelayDown,
    Reply,
    SendError,
    Session,
)
from mailhub.relays.models import Relay, Stream

logger = logging.getLogger(__name__)

# A drain works this long and then asks to be called again, well within the task's time-out.
SLICE = timedelta(seconds=15)
# Outcomes are stored when one of these is reached.
SETTLE_EVERY = 0.1
SETTLE_AT = 200
# Storing an outcome is tried for this long when the database is away: nobody else knows it.
STORE_FOR = timedelta(seconds=60)
# The most that one claim takes; small at first, doubled while the relay keeps up.
CLAIM_MOST = 500
# Compiled contents kept by one drain: a campaign has one, transactional mail one a message.
CONTENTS_KEPT = 100

Status = Message.Status
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ready:
    """A message with its mail, marked or about to be."""

    message: Message
    envelope: Envelope


def drain(relay: Relay, seconds: float = SLICE.total_seconds()) -> int:
    """Hand over what is due for `relay` until nothing is, or the time is over; returns how many messages were settled.

    Returns 0 at once when the relay rests or others use all its connections. Safe to call twice, at once, anywhere."""
    queue.woken(relay)
    wanted = queue.due(relay)
    if wanted is None:
        return 0
    lease = queue.take_lease(relay, wanted)
    if lease is None:
        return 0
    run = Drain(relay, lease, seconds)
    try:
        async_to_sync(run.run)()
    finally:
        queue.end_lease(lease)
    # What came while this drain was ending found no free connection and has nobody else to turn to.
    if not run.stopping and (wanted := queue.due(relay)):
        queue.wake_relay(relay, wanted)
    return run.settled


async def in_database(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in the drain's one database thread."""
    return await sync_to_async(function, thread_sensitive=True)(*args, **kwargs)


class Drain:
    def __init__(self, relay: Relay, lease: Lease, seconds: float) -> None:
        self.relay = relay
        self.lease = lease
        self.provider: Provider = relay.provider()
        self.deadline = time.monotonic() + seconds
        #: settled messages
        self.settled = 0
        #: the worker is to stop, or the lease is lost: nothing more is claimed or handed over
        self.stopping = False
        #: the relay took at least one mail
        self.accepted = False
        self.compiled: dict[int, prepare.Compiled | Refused] = {}
        self.prepared: deque[Ready] = deque()
        self.ready: asyncio.Queue[Ready | None] = asyncio.Queue()
        self.outcomes: list[Outcome] = []
        self.hand_back: list[Message] = []
        self.down: RelayDown | None = None
        self.open_sessions = 0
        # How many messages are marked and waiting for a connection, at most: what is unknown after a kill is bounded by it.
        self.window = 2 * lease.connections
        self.room = asyncio.Event()

    async def run(self) -> None:
        recorder = asyncio.create_task(self.record())
        senders = [asyncio.create_task(self.hand_over()) for _ in range(self.lease.connections)]
        try:
            await self.feed(senders)
        finally:
            for _ in senders:
                self.ready.put_nowait(None)
            await asyncio.gather(*senders)
            self.finished = True
            await recorder
        await self.give_back()

    # -- claim and prepare

    @property
    def over(self) -> bool:
        return self.stopping or self.down is not None or time.monotonic() >= self.deadline

    async def feed(self, senders: Sequence[asyncio.Task[None]]) -> None:
        """Keep the window full until nothing is due or the time is over."""
        size = max(self.window, 20)
        while not self.over:
            asked = time.monotonic()
            try:
                messages = await in_database(queue.claim, self.lease, size)
            except LeaseLost:
                self.stopping = True
                break
            if not messages:
                break
            await self.prepare(messages)
            while self.prepared and not self.over and not all(sender.done() for sender in senders):
                await self.fill_window()
            # A claim should last about half a second: long enough to be cheap, short enough to let urgent mail in.
            size = min(size * 2, CLAIM_MOST) if time.monotonic() - asked < 0.5 else max(size // 2, self.window)
            if all(sender.done() for sender in senders):
                break

    async def prepare(self, messages: list[Message]) -> None:
        await self.compile({message.content_id for message in messages})
        for message in messages:
            started = timezone.now()
            try:
                compiled = self.compiled[message.content_id]
                if isinstance(compiled, Refused):
                    raise compiled
                envelope = compiled.envelope(message)
            except Refused as refusal:
                self.refused(message, refusal, started)
            except Exception as error:
                logger.exception("message %s could not be prepared", message.pk)
                self.deferred(message, Deferred(Reply(None, "", f"{type(error).__name__} while preparing the mail")), started)
            else:
                self.prepared.append(Ready(message, envelope))
            await asyncio.sleep(0)

    async def compile(self, wanted: set[int]) -> None:
        if len(self.compiled) > CONTENTS_KEPT:
            self.compiled.clear()
        missing = wanted - self.compiled.keys()
        if missing:
            for content in await in_database(lambda: list(Content.objects.filter(pk__in=missing))):
                try:
                    self.compiled[content.pk] = await asyncio.to_thread(prepare.Compiled, content)
                except Refused as refusal:
                    self.compiled[content.pk] = refusal

    async def fill_window(self) -> None:
        """Mark the next messages, as many as the window has room for, and pass them to the connections."""
        while self.ready.qsize() > self.window // 2 and not self.over:
            self.room.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.room.wait(), 1)
        if self.over:
            return
        group = [self.prepared.popleft() for _ in range(min(self.window - self.ready.qsize(), len(self.prepared)))]
        try:
            await in_database(queue.mark, self.lease, [item.message for item in group])
        except LeaseLost:
            self.stopping = True
            return
        for item in group:
            self.ready.put_nowait(item)

    # -- hand over

    async def hand_over(self) -> None:
        """One connection's life: open it when there is something to send, and send until there is nothing."""
        session: Session | None = None
        try:
            while item := await self.ready.get():
                self.room.set()
                if self.stopping or self.down:
                    self.hand_back.append(item.message)
                    continue
                if session is not None and session.spent:
                    await session.close()
                    self.open_sessions -= 1
                    session = None
                if session is None:
                    session = await self.connect()
                    if session is None:
                        if not self.down:
                            # Others still have a connection: the relay wants fewer of them.
                            self.ready.put_nowait(item)
                            return
                        self.hand_back.append(item.message)
                        continue
                await self.send(session, item)
        finally:
            if session is not None:
                self.open_sessions -= 1
                await session.close()

    async def connect(self) -> Session | None:
        try:
            session = await self.provider.open()
        except RelayDown as error:
            if not self.open_sessions:
                self.down = error
            return None
        self.open_sessions += 1
        return session

    async def send(self, session: Session, item: Ready) -> None:
        message, started = item.message, timezone.now()
        try:
            reply = await session.send(item.envelope)
        except Refused as refusal:
            self.refused(message, refusal, started)
        except Deferred as deferral:
            self.deferred(message, deferral, started)
        except RelayDown as error:
            self.down = error
            self.handed_back(message, error, started)
        except OutcomeUnknown as error:
            self.unknown(message, error, started)
        except Exception as error:  # a provider's bug must not cost the others their outcomes
            logger.exception("relay %s failed on message %s", self.relay.pk, message.pk)
            self.unknown(message, OutcomeUnknown(Reply(None, "", f"{type(error).__name__} in the provider")), started)
        else:
            self.accepted = True
            self.outcome(message, Attempt.Outcome.SENT, reply, started, Status.SENT)

    # -- the decisions

    def outcome(
        self,
        message: Message,
        attempt: Attempt.Outcome,
        reply: Reply,
        started: datetime,
        status: Message.Status,
        next_attempt_at: datetime | None = None,
    ) -> None:
        self.outcomes.append(Outcome(message, attempt, reply, started, timezone.now(), status, next_attempt_at))

    def refused(self, message: Message, refusal: Refused, started: datetime) -> None:
        status = Status.BOUNCED if refusal.fault == Fault.RECIPIENT else Status.FAILED
        self.outcome(message, Attempt.Outcome.REFUSED, refusal.reply, started, status)

    def deferred(self, message: Message, deferral: Deferred, started: datetime) -> None:
        wait = deferral.retry_after or backoff.delay(message.attempts, timedelta(seconds=self.relay.first_retry))
        again = timezone.now() + wait
        if again >= message.expires_at:
            self.outcome(message, Attempt.Outcome.DEFERRED, deferral.reply, started, Status.FAILED)
        else:
            self.outcome(message, Attempt.Outcome.DEFERRED, deferral.reply, started, Status.DEFERRED, again)

    def handed_back(self, message: Message, error: RelayDown, started: datetime) -> None:
        message.attempts -= 1
        status = Status.DEFERRED if message.attempts else Status.QUEUED
        self.outcome(message, Attempt.Outcome.RELAY_DOWN, error.reply, started, status, timezone.now())

    def unknown(self, message: Message, error: SendError, started: datetime) -> None:
        """Transactional mail goes once more; a campaign's does not: twice is worse there than never."""
        if message.stream == Stream.TRANSACTIONAL and not message.repeated:
            message.repeated = True
            again = timezone.now() + queue.REPEAT_AFTER
            self.outcome(message, Attempt.Outcome.UNKNOWN, error.reply, started, Status.DEFERRED, again)
        else:
            self.outcome(message, Attempt.Outcome.UNKNOWN, error.reply, started, Status.UNKNOWN)

    # -- settle

    finished = False

    async def record(self) -> None:
        """Store outcomes in groups, and keep the lease and the worker's heartbeat fresh, until the drain is finished."""
        beat = time.monotonic()
        while not self.finished or self.outcomes:
            if not self.finished:
                await asyncio.sleep(SETTLE_EVERY)
            if self.outcomes:
                group, self.outcomes[:SETTLE_AT] = self.outcomes[:SETTLE_AT], []
                await self.store(group)
            if time.monotonic() - beat > 1:
                beat = time.monotonic()
                await self.stay_alive()

    async def store(self, group: list[Outcome]) -> None:
        give_up = time.monotonic() + STORE_FOR.total_seconds()
        while True:
            try:
                await in_database(queue.settle, self.lease, group)
            except LeaseLost:
                self.stopping = True
                return
            except DatabaseError:
                if time.monotonic() > give_up:
                    ids = [outcome.message.pk for outcome in group]
                    logger.critical("outcomes of messages %s could not be stored", ids)
                    raise
                logger.exception("the database does not answer; outcomes are kept and stored again")
                self.stopping = True
                await asyncio.sleep(1)
                await in_database(reconnect)
            else:
                self.settled += len(group)
                return

    async def stay_alive(self) -> None:
        try:
            await in_database(queue.renew, self.lease)
            if not await in_database(workers.beat):
                self.stopping = True
        except LeaseLost:
            self.stopping = True
        except DatabaseError:
            await in_database(reconnect)

    async def give_back(self) -> None:
        """Hand back what was claimed and not sent, and tell the relay's health."""
        while not self.ready.empty():
            if item := self.ready.get_nowait():
                self.prepared.append(item)
        messages = self.hand_back + [item.message for item in self.prepared]
        with suppress(LeaseLost):
            await in_database(queue.release, self.lease, messages)
        if self.down:
            await in_database(self.relay.rest, self.down.rest, str(self.down.reply))
            logger.warning("relay %s rests: %s", self.relay.pk, self.down.reply)
        elif self.accepted:
            await in_database(self.relay.recovered)


def reconnect() -> None:
    if not connection.in_atomic_block:
        connection.close()
    close_old_connections()
