"""Events on their way to endpoints.

What an endpoint is to take next is decided with its lease held: it is written down as a Delivery, together with the cursor, in one
transaction; then posted, with no transaction and no lock; then settled. So each event stands in one delivery, and who dies in between
leaves one that the next process posts again, under the same id: at least once. An endpoint is posted one delivery after another, and the
next only when this one was taken: what happens to a message is told in the order in which it was recorded.

All endpoints that are due are served at once, in one thread: one that does not answer costs the others nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from mailhub.lib import backoff, clock, dialer, http, signing
from mailhub.webhooks import outbox
from mailhub.webhooks.models import Delivery, Endpoint, last_event
from mailhub.webhooks.outbox import Filter, Found

logger = logging.getLogger(__name__)

# Seconds: for a whole post with its answer; for which a lease is taken, and renewed with each step; for which a task posts before it asks
# to be called again; between two looks for endpoints that became due meanwhile.
TIMEOUT = 10.0
LEASE = timedelta(seconds=60)
SLICE = 15.0
LOOK = 1.0
# For transactions that may still bring events, and how often they are looked at (seconds). Then the next tick tries again.
WRITERS = 5.0
GLANCE = 0.02
# The first wait after a failure; it doubles up to four hours (lib/backoff.py).
FIRST = timedelta(seconds=30)
# An endpoint that has taken nothing for so long is disabled.
GIVE_UP = timedelta(days=3)
# Of an answer: bytes that are read, characters that are kept.
ANSWER = 8_192
KEPT = 2_000
# By these the other side finds fault with what we posted. It is posted in halves then, down to the one event that is meant; when that
# was refused so often and another is taken, it is passed over. Of an endpoint so many are looked at.
HALVES = 50
PARTICULAR = (400, 413, 415, 422)
SUSPECT = 3
GONE = 410

T = TypeVar("T")


class LeaseLost(Exception):
    """Another process posts to this endpoint now, or staff stopped it."""


@dataclass(frozen=True, slots=True)
class Answer:
    #: None: there was no answer
    status: int | None
    body: str
    #: why it was not taken, for people; "" when it was
    problem: str
    seconds: float
    #: how long the other side asks us to wait (seconds)
    wait: int = 0

    @property
    def taken(self) -> bool:
        return not self.problem


def post_due(going: Callable[[], bool] | None = None) -> bool:
    """Post to all endpoints that are due, for one slice of time, or as long as `going`. Whether there is more."""
    if settings.MAILHUB_DO_NOT_SEND:
        return False
    end = time.monotonic() + SLICE
    return async_to_sync(_Round(going or (lambda: time.monotonic() < end)).run)()


def is_due() -> bool:
    return not settings.MAILHUB_DO_NOT_SEND and _due().exists()


def _due() -> QuerySet[Endpoint]:
    """Endpoints that have something to take and may be posted to now. They are few: no index."""
    now = clock.now()
    waiting = Delivery.objects.filter(endpoint=OuterRef("pk"), status=Delivery.Status.PENDING, kind=Delivery.Kind.EVENTS)
    last = last_event()
    return Endpoint.objects.filter(
        Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now),
        Q(leased_until__isnull=True) | Q(leased_until__lte=now),
        Q(cursor__lt=last) | Exists(waiting),
        status=Endpoint.Status.ACTIVE,
    )


# ------------------------------------------------------------------------------------------------------------------------- rounds


async def _database(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """In the one thread that has the connection."""
    return await sync_to_async(call, thread_sensitive=True)(*args, **kwargs)


class _Round:
    def __init__(self, going: Callable[[], bool]) -> None:
        self.going = going
        #: up to here nothing will be added any more
        self.upto = 0
        #: somebody writes events for so long that the next tick may see to it
        self.held_up = False

    async def run(self) -> bool:
        serving: set[asyncio.Task[None]] = set()
        while True:
            if self.going() and not self.held_up:
                serving |= {asyncio.create_task(self._serve(endpoint)) for endpoint in await _database(lease_due)}
            if not serving:
                break
            done, serving = await asyncio.wait(serving, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if error := task.exception():
                    logger.error("posting webhooks failed", exc_info=error)
        return not self.going() and not self.held_up and await _database(is_due)

    async def _serve(self, endpoint: Endpoint) -> None:
        try:
            await _database(endpoint.refresh_from_db, fields=["secret", "old_secret", "old_secret_until"])
            while self.going() and (chosen := await self._next(endpoint)):
                delivery, found = chosen
                answer = await post(endpoint, delivery, found.events)
                if not await _database(settle, endpoint, delivery, found, answer):
                    break
        except LeaseLost:
            pass
        except Exception as error:  # noqa: BLE001  one that cannot be posted to, as when no key opens its secret, holds up no other
            logger.exception("posting to webhook %s failed", endpoint.pk)
            await _database(rest, endpoint, str(error))
        finally:
            await _database(release, endpoint)

    async def _next(self, endpoint: Endpoint) -> tuple[Delivery, Found] | None:
        """The delivery that is to be posted now, and what it says."""
        waiting = await _database(pending, endpoint)
        delivery = next((each for each in waiting if not _is_suspect(each)), None)
        if delivery is None:
            # Nothing waits but what is refused by itself, if anything. Perhaps it is the endpoint after all: does it take another?
            if another := await self._gather(endpoint):
                return another
            if not waiting:
                return None
            delivery = waiting[0]
        found = await _database(again, delivery)
        if found.events:
            return delivery, found
        await _database(forgotten, delivery)
        return await self._next(endpoint)

    async def _gather(self, endpoint: Endpoint) -> tuple[Delivery, Found] | None:
        """A new delivery of what has happened since the last one."""
        wanted = Filter(endpoint.types, endpoint.project_ref)
        while self.going():
            if endpoint.cursor >= self.upto:
                upto = await _settled_mark()
                self.held_up, self.upto = upto is None, upto or self.upto
                if endpoint.cursor >= self.upto:
                    return None
            found = await _database(outbox.read, endpoint.cursor, self.upto, wanted)
            if made := await _database(keep, endpoint, found):
                return made, found
        return None


async def _settled_mark() -> int | None:
    """The last key up to which nothing will be added any more; None when somebody takes too long (outbox.py tells why)."""
    upto, writers = await _database(outbox.mark)
    end = time.monotonic() + WRITERS
    while writers:
        if time.monotonic() > end:
            logger.warning("webhooks wait for a transaction that has been writing events for more than %d s", WRITERS)
            return None
        await asyncio.sleep(GLANCE)
        writers &= await _database(outbox.writers)
    return upto


def _is_suspect(delivery: Delivery) -> bool:
    return delivery.count == 1 and delivery.tries >= SUSPECT and delivery.response_status in PARTICULAR


# -------------------------------------------------------------------------------------------------------------- what is written


def lease_due() -> list[Endpoint]:
    """Take those that are due and that nobody else was quicker to take."""
    taken: list[Endpoint] = []
    for pk in _due().values_list("pk", flat=True):
        lease, now = uuid.uuid4(), clock.now()
        free = Q(leased_until__isnull=True) | Q(leased_until__lte=now)
        if Endpoint.objects.filter(free, pk=pk, status=Endpoint.Status.ACTIVE).update(lease=lease, leased_until=now + LEASE):
            # Read only now: whoever had it before may have moved its cursor.
            taken += Endpoint.objects.filter(pk=pk, lease=lease).defer("secret", "old_secret")
    return taken


def rest(endpoint: Endpoint, problem: str) -> None:
    """Nothing was posted, by a fault of our own: later."""
    tries = endpoint.tries + 1
    next_attempt_at = clock.now() + backoff.delay(tries, FIRST)
    Endpoint.objects.filter(pk=endpoint.pk, lease=endpoint.lease).update(
        tries=tries, next_attempt_at=next_attempt_at, problem=problem[:500]
    )


def release(endpoint: Endpoint) -> None:
    Endpoint.objects.filter(pk=endpoint.pk, lease=endpoint.lease).update(lease=None, leased_until=None)


def _hold(endpoint: Endpoint, **fields: Any) -> None:
    """Write fields and renew the lease. Raises LeaseLost."""
    rows = Endpoint.objects.filter(pk=endpoint.pk, lease=endpoint.lease)
    if not rows.update(leased_until=clock.now() + LEASE, **fields):
        raise LeaseLost
    for name, value in fields.items():
        setattr(endpoint, name, value)


def pending(endpoint: Endpoint) -> list[Delivery]:
    """The first that were made and not taken yet: one, unless some were halved.

    Raises LeaseLost, also where staff stopped the endpoint meanwhile."""
    _hold(endpoint)
    if not Endpoint.objects.filter(pk=endpoint.pk, status=Endpoint.Status.ACTIVE).exists():
        raise LeaseLost
    rows = Delivery.objects.filter(endpoint=endpoint, status=Delivery.Status.PENDING, kind=Delivery.Kind.EVENTS)
    return list(rows.order_by("first_event")[:HALVES])


@transaction.atomic
def keep(endpoint: Endpoint, found: Found) -> Delivery | None:
    """Move the cursor, and make a delivery of what was found, if anything. Raises LeaseLost."""
    _hold(endpoint, cursor=found.upto)
    if not found.events:
        return None
    return Delivery.objects.create(
        endpoint=endpoint,
        first_event=found.keys[0],
        last_event=found.keys[-1],
        count=len(found.events),
        types=endpoint.types,
        project_ref=endpoint.project_ref,
    )


def again(delivery: Delivery) -> Found:
    """The events of a delivery, as far as they are not forgotten: what is in the table now between its ends, by its filter."""
    if delivery.kind == Delivery.Kind.TEST:
        return outbox.sample(delivery.created_at)
    found = outbox.read(delivery.first_event - 1, delivery.last_event, Filter(delivery.types, delivery.project_ref))
    return replace(found, events=found.events[: delivery.count], keys=found.keys[: delivery.count])


def forgotten(delivery: Delivery) -> None:
    problem = _("Its events were forgotten before it was taken.")
    Delivery.objects.filter(pk=delivery.pk).update(status=Delivery.Status.REFUSED, problem=problem)


@transaction.atomic
def settle(endpoint: Endpoint, delivery: Delivery, found: Found, answer: Answer) -> bool:
    """Write down what came of a post; whether to go on with the endpoint at once. Raises LeaseLost."""
    now = clock.now()
    if answer.taken:
        _hold(endpoint, tries=0, failing_since=None, next_attempt_at=None, problem="", succeeded_at=now)
        _note(delivery, answer, status=Delivery.Status.DELIVERED)
        earlier = Delivery.objects.filter(endpoint=endpoint, status=Delivery.Status.PENDING, kind=Delivery.Kind.EVENTS)
        earlier.filter(first_event__lt=delivery.first_event).update(status=Delivery.Status.REFUSED)
        return True
    if answer.status in PARTICULAR and len(found.keys) > 1:
        _hold(endpoint)
        _halve(delivery, found, answer)
        return True
    since = endpoint.failing_since or now
    wait = max(backoff.delay(endpoint.tries + 1, FIRST), timedelta(seconds=min(answer.wait, backoff.LONGEST.total_seconds())))
    _hold(endpoint, tries=endpoint.tries + 1, failing_since=since, next_attempt_at=now + wait, problem=answer.problem)
    _note(delivery, answer)
    if answer.status == GONE or now - since >= GIVE_UP:
        # Staff may have stopped it meanwhile: then it stays so.
        Endpoint.objects.filter(pk=endpoint.pk, status=Endpoint.Status.ACTIVE).update(status=Endpoint.Status.DISABLED)
        logger.error("webhook %s is disabled: %s", endpoint.pk, answer.problem)
    return False


def _note(delivery: Delivery, answer: Answer, **fields: Any) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(
        tries=F("tries") + 1,
        tried_at=clock.now(),
        seconds=answer.seconds,
        response_status=answer.status,
        response_body=answer.body,
        problem=answer.problem,
        **fields,
    )


def _halve(delivery: Delivery, found: Found, answer: Answer) -> None:
    """Two deliveries of one, in its place. They say something else than it, so they have other ids."""
    half = len(found.keys) // 2
    later = found.keys[half:]
    Delivery.objects.create(
        endpoint_id=delivery.endpoint_id,
        first_event=later[0],
        last_event=later[-1],
        count=len(later),
        types=delivery.types,
        project_ref=delivery.project_ref,
    )
    _note(delivery, answer, public_id=uuid.uuid4(), last_event=found.keys[half - 1], count=half)


# ------------------------------------------------------------------------------------------------------------------------- posts


async def post(endpoint: Endpoint, delivery: Delivery, events: list[str]) -> Answer:
    """One try, with no transaction open. The body is the same on every try, the signature is not."""
    type = "test" if delivery.kind == Delivery.Kind.TEST else "events"
    body = outbox.body(type, delivery.created_at, events)
    begun = time.monotonic()
    now = timezone.now()
    signed = signing.headers(endpoint.secrets(now), str(delivery.public_id), int(now.timestamp()), body)
    try:
        fields = {"Content-Type": "application/json", **signed}
        page = await http.post(endpoint.url, body, fields, most=ANSWER, seconds=TIMEOUT, connect=connect)
    except http.HTTPError as error:
        return Answer(None, "", str(error)[:500], time.monotonic() - begun)
    # PostgreSQL takes no NUL.
    words = page.body.decode(errors="replace").replace("\0", "")[:KEPT]
    taken = 200 <= page.status < 300
    problem = "" if taken else _("The other side answered %(status)s.") % {"status": page.status}
    return Answer(page.status, words, problem, time.monotonic() - begun, _seconds(page.fields.get("Retry-After", "")))


def _seconds(text: str) -> int:
    """A Retry-After in seconds; as a date it is passed over, and our own wait holds."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0


async def connect(host: str, port: int) -> socket.socket:
    """By DNS; an address, or a name without a dot as machines of one network have, as this machine knows it."""
    try:
        return await dialer.connect([str(ipaddress.ip_address(host))], port)
    except ValueError:
        pass
    if "." not in host:
        return await dialer.connect(await dialer.resolve(host), port)
    return await http.connect(host, port)


# --------------------------------------------------------------------------------------------------------------------- by hand


@transaction.atomic
def skip(endpoint: Endpoint) -> tuple[int, int]:
    """Pass over what waits: how many posts, and events that none had been made of, whosever and wanted or not. What happens from now on is
    told. Who posts to it at this moment finds its lease gone."""
    held = Endpoint.objects.select_for_update().defer("secret", "old_secret").get(pk=endpoint.pk)
    waiting = Delivery.objects.filter(endpoint=held, status=Delivery.Status.PENDING, kind=Delivery.Kind.EVENTS)
    posts = waiting.update(status=Delivery.Status.REFUSED, problem=_("Passed over by staff."))
    last = last_event()
    fresh = {} if held.status == Endpoint.Status.DISABLED else {"tries": 0, "failing_since": None, "next_attempt_at": None, "problem": ""}
    Endpoint.objects.filter(pk=held.pk).update(cursor=max(last, held.cursor), lease=None, leased_until=None, **fresh)
    return posts, max(last - held.cursor, 0)


def test(endpoint: Endpoint) -> Answer:
    """Post an event that never was, whatever the endpoint's state."""
    return post_now(Delivery.objects.create(endpoint=endpoint, kind=Delivery.Kind.TEST, count=1))


def post_now(delivery: Delivery) -> Answer:
    """Post a delivery once, out of turn: one of old once more, under its own id, or a test."""
    if settings.MAILHUB_DO_NOT_SEND:
        answer = Answer(None, "", _("Nothing leaves this MailHub (MAILHUB_DO_NOT_SEND)."), 0.0)
    elif events := again(delivery).events:
        answer = async_to_sync(post)(delivery.endpoint, delivery, events)
    else:
        answer = Answer(None, "", _("Its events have been forgotten."), 0.0)
    # One that was taken stays taken, whatever becomes of its repetition; one that waits stays in its turn.
    status = {"status": Delivery.Status.DELIVERED} if answer.taken else {}
    if delivery.kind == Delivery.Kind.TEST and not answer.taken:
        status = {"status": Delivery.Status.REFUSED}
    _note(delivery, answer, **status)
    if answer.taken:
        # It answers again: what waits need not wait longer.
        Endpoint.objects.filter(pk=delivery.endpoint_id, status=Endpoint.Status.ACTIVE).update(next_attempt_at=None)
    return answer
