"""What services tell by HTTP about mail that one of our relays handed to them.

take() proves who posted it, stores it, and is done in milliseconds; work_off() reads and records what is stored, in groups, from any number
of processes, and twice does no more than once. An event counts for the message whose number the service was given with the mail, and only
if that mail left by this very relay and went to the recipient that the event names. What fits no message is parked, since it may have come
before our own commit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.urls import reverse

from mailhub.delivery import events
from mailhub.delivery.models import Attempt, Event, Message
from mailhub.feedback import probes, topics
from mailhub.feedback.callers import CALLERS, Caller, dig
from mailhub.feedback.models import Callback, CallbackURL, ParkedReport
from mailhub.feedback.signatures import USER, Posted, Unproven, Why
from mailhub.lib import addresses, clock, tasks
from mailhub.lib.replies import classify
from mailhub.lib.replies.verdicts import Kind
from mailhub.lib.tokens import BadToken
from mailhub.relays.marks import METADATA
from mailhub.senders import return_path

logger = logging.getLogger(__name__)

# Bytes of a body. Ten thousand events of the services that say most are 15 MB.
MOST_BYTES = 20_000_000
# Events that are recorded in one transaction; bodies (bytes) and callbacks that are looked at for it.
GROUP = 500
GROUP_BYTES = 8_000_000
GROUP_CALLBACKS = 200
# Seconds that one task goes on for while there is more.
SHIFT = 25.0
# Of a callback that cannot be recorded, before it is set aside.
TRIES = 3
# A wake-up that has not been seen for so long is lost.
WAKE_LOST = timedelta(seconds=30)
# When a parked report is tried again; after the last of them it is kept.
RETRIES = (timedelta(seconds=20), timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6))
# Seconds. Some services post each event alone: the row with its secrets is not read for each of them.
KEPT_FOR = 1.0
# What we keep of a request besides its body: anymail's parsers look at it.
KEPT = ("CONTENT_TYPE", "HTTP_SVIX_ID")

# Written out, since making it takes longer than storing; the time is the database's, without asking for it first.
STORE = """
INSERT INTO feedback_callback
    (url_id, digest, body_digest, status, body, meta, size, asks, position, recorded, parked, passed, unread, tries, received_at)
VALUES (%%s, %%s, %%s, 'new', %%s, %%s, %%s, %%s, 0, 0, 0, 0, 0, 0, %(now)s)
ON CONFLICT (url_id, digest) DO NOTHING"""
NOW = {"postgresql": "STATEMENT_TIMESTAMP()", "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"}

RECORDED = frozenset({
    Event.Type.DELIVERED, Event.Type.BOUNCED, Event.Type.DEFERRED, Event.Type.REJECTED, Event.Type.FAILED, Event.Type.COMPLAINED,
    Event.Type.UNSUBSCRIBED, Event.Type.OPENED, Event.Type.CLICKED, Event.Type.AUTORESPONDED,
})  # fmt: skip
# About a mail that did not arrive, or not yet: the reply says why.
FAILURES = frozenset({Event.Type.BOUNCED, Event.Type.DEFERRED, Event.Type.REJECTED, Event.Type.FAILED})
BY_PEOPLE = frozenset({Event.Type.OPENED, Event.Type.CLICKED})

# ----------------------------------------------------------------------------------------------------------------------- to take


def by_token(token: str) -> CallbackURL:
    """The row with this token, as it was at most a moment ago. Raises CallbackURL.DoesNotExist."""
    return _by_token(token, time.monotonic() // KEPT_FOR) if KEPT_FOR else CallbackURL.objects.get(token=token)


@lru_cache(maxsize=1000)
def _by_token(token: str, moment: float) -> CallbackURL:
    return CallbackURL.objects.get(token=token)


def address(url: CallbackURL) -> str:
    """Where the service is to post; where a password is part of it, see with_password()."""
    return f"{settings.MAILHUB_PUBLIC_URL}{reverse('callback', args=[url.token])}"


def with_password(url: CallbackURL) -> str:
    """The address to paste."""
    scheme, rest = address(url).split("://", 1)
    known = url.secrets.get("password") if CALLERS[url.service].scheme.password else None
    return f"{scheme}://{USER}:{known}@{rest}" if known else f"{scheme}://{rest}"


def take(url: CallbackURL, posted: Posted) -> None:
    """Store a callback, unless it came before. On return it is committed. Raises Unproven, topics.CannotFetch: nothing was stored."""
    caller = CALLERS[url.service]
    try:
        mark = caller.scheme.verify(posted, url.secrets, time.time())
        body_digest = hashlib.sha256(posted.body).hexdigest()
        digest = hashlib.sha256(mark.encode("utf-8", "replace")).hexdigest() if mark else body_digest
        _store(url, posted, digest, body_digest)
    except Unproven as problem:
        refuse(url, problem.why, problem.about)
        raise
    wake(url)


def _store(url: CallbackURL, posted: Posted, digest: str, body_digest: str) -> None:
    """Without a word where it is there already: the service repeats what we were too slow to answer. Raises Unproven."""
    asks = url.service == "amazon_ses" and posted.json().get("Type") == topics.CONFIRMATION
    meta = {name: str(posted.meta[name])[:500] for name in KEPT if name in posted.meta}
    with connection.cursor() as cursor:
        cursor.execute(
            STORE % {"now": NOW[connection.vendor]}, [url.pk, digest, body_digest, posted.body, json.dumps(meta), len(posted.body), asks]
        )
        new = cursor.rowcount == 1
    # Most come once: it is looked for only where it was there.
    if not new and Callback.objects.filter(url=url, digest=digest).exclude(body_digest=body_digest).exists():
        raise Unproven(Why.REPLAYED)


def refuse(url: CallbackURL, why: Why, about: str = "") -> None:
    """Count what was refused, for the relay's page."""
    logger.warning("callback for relay %s refused: %s", url.relay_id, why.value)
    CallbackURL.objects.filter(pk=url.pk).update(
        refused=F("refused") + 1, refused_at=clock.now(), refused_why=why.value, refused_about=_storable(about, 300)
    )


def wake(url: CallbackURL) -> None:
    """Ask for a worker, unless one is on its way already."""
    asleep = Q(wake__isnull=True) | Q(wake__lt=Now() - WAKE_LOST)
    if CallbackURL.objects.filter(asleep, pk=url.pk).update(wake=Now(), last_at=Now()):
        tasks.enqueue("mailhub.feedback.tasks.read_callbacks", queue="maintenance")


# ------------------------------------------------------------------------------------------------------------------------ to read


@dataclass(frozen=True, slots=True)
class Claim:
    """What an event says, and about which message by the mark that the service was given."""

    type: str
    recipient: str
    number: int | None
    public_id: UUID | None
    at: datetime
    detail: str
    kind: str
    category: str
    source: str

    def report(self, message: int) -> events.Report:
        return events.Report(message, self.type, self.at, self.detail, self.kind, self.category, self.source)


def read(callback: Callback, url: CallbackURL) -> tuple[list[Claim | None], int]:
    """A claim an event, None for what is none of ours or nothing that is recorded; and how many could not be read. The same each time."""
    caller = CALLERS[url.service]
    meta = callback.meta
    posted = Posted(bytes(callback.body or b""), str(meta.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower(), meta)
    found, unread = caller.events(posted)
    claims: list[Claim | None] = []
    for event in found:
        try:
            claims.append(_claim(url, caller, event, callback.received_at))
        except Exception:  # noqa: BLE001  one event of ten thousand that nobody understands
            logger.info("an event of callback %s could not be read", callback.pk, exc_info=True)
            unread += 1
    return claims, unread


def _claim(url: CallbackURL, caller: Caller, event: Any, received: datetime) -> Claim | None:
    type = caller.type_of(event.event_type, event.esp_event)
    if type not in RECORDED:
        return None
    number, public_id = _marks(caller, event)
    if number is None and public_id is None:
        return None
    raw = event.esp_event
    text = _text(caller.reply(raw)) or _text(event.mta_response) or _text(event.description)
    kind = category = ""
    if type in FAILURES:
        reason = caller.reason(raw)
        label = f"{url.service}/{reason}" if url.service != "amazon_ses" else reason
        verdict = classify.labelled_or_said(label, text, caller.status(raw))
        category = str(verdict.category)
        text = text or reason
        if type == Event.Type.BOUNCED:
            kind = Event.Kind.HARD if verdict.kind == Kind.HARD else Event.Kind.SOFT
    elif type == Event.Type.COMPLAINED:
        category = "complaint"
    elif type in BY_PEOPLE:
        text = _text(event.click_url) if type == Event.Type.CLICKED else _text(event.user_agent)
        kind = Event.Kind.MACHINE if caller.by_machine(raw) else ""
    return Claim(
        type=type,
        recipient=_storable(_text(event.recipient), 320),
        number=number,
        public_id=public_id,
        at=_moment(event.timestamp, received),
        detail=_storable(text, 500),
        kind=str(kind),
        category=category,
        source=_source(url, type, event),
    )


def _source(url: CallbackURL, type: str, event: Any) -> str:
    """The same for the same event, whenever and however often it is told. Where the service gives it no number of its own, all of it is."""
    told = str(event.event_id) if event.event_id and url.service != "mailgun" else canonical(event.esp_event)
    digest = hashlib.sha256(f"{type} {event.recipient} {told}".encode("utf-8", "replace")).hexdigest()
    return f"callback {url.service} {url.relay_id} {digest}"


def canonical(event: Any) -> str:
    # Of Mailgun the signature is another each time.
    told = event.get("event-data", event) if isinstance(event, dict) else event
    return json.dumps(told, sort_keys=True, default=str)


def _marks(caller: Caller, event: Any) -> tuple[int | None, UUID | None]:
    """Our number of the message, and its public id, as far as the service repeats them."""
    metadata = event.metadata if isinstance(event.metadata, Mapping) else {}
    number = _number(metadata.get(METADATA))
    for tag in event.tags if isinstance(event.tags, list) else []:
        if number is None and str(tag).startswith(f"{METADATA}-"):
            number = _number(str(tag).partition("-")[2])
    named = caller.message_id(event.esp_event) or _text(event.message_id)
    public_id = _by_header(caller.headers(event.esp_event)) or _by_message_id(named)
    return number, public_id


def _number(value: Any) -> int | None:
    text = str(value) if value is not None else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _by_header(fields: Any) -> UUID | None:
    for field in fields if isinstance(fields, list) else []:
        if str(dig(field, "name") or "").lower() == "x-mailhub-id":
            try:
                return return_path.read(str(dig(field, "value")).strip())
            except (BadToken, ValueError):
                return None
    return None


def _by_message_id(text: str) -> UUID | None:
    """A Message-ID of ours begins with the public id. Whoever posts this has proved to be the service, so it may be believed."""
    written, at, _domain = text.strip().lstrip("<").partition("@")
    try:
        return UUID(hex=written) if at and len(written) == 32 else None
    except ValueError:
        return None


def _moment(at: Any, received: datetime) -> datetime:
    """When it happened, by the service's clock: never later than when we heard of it."""
    if not isinstance(at, datetime):
        return received
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(at, received) if at.year >= 2000 else received


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return text.removeprefix("smtp;").strip()


def _storable(text: str, length: int) -> str:
    return text.replace("\0", "").encode(errors="replace").decode()[:length]


# --------------------------------------------------------------------------------------------------------------------- to record


def work_off(seconds: float = SHIFT) -> int:
    """Read and record what is stored; returns how many events were looked at. Index feedback_callback_new."""
    CallbackURL.objects.filter(wake__isnull=False).update(wake=None)
    end = time.monotonic() + seconds
    looked_at = 0
    _confirm_waiting()
    cache: dict[int, tuple[list[Claim | None], int]] = {}
    while time.monotonic() < end:
        seen, left = _work_group(cache)
        looked_at += seen
        if not left:
            break
    return looked_at


def _work_group(cache: dict[int, tuple[list[Claim | None], int]]) -> tuple[int, bool]:
    """Some hundred events; and whether there was anything to do."""
    try:
        with transaction.atomic():
            return _record_group(_hold(), cache)
    except Exception:
        logger.exception("a group of callbacks could not be recorded: each is tried alone")
    return _work_each(cache)


def _hold(pk: int | None = None) -> list[Callback]:
    """Callbacks to be read, the oldest first, that no other process has at hand; of their bodies no more than fit."""
    waiting = Callback.objects.filter(status=Callback.Status.NEW, asks=False).order_by("pk").defer("body")
    waiting = waiting.select_for_update(skip_locked=True)
    rows = list(waiting.filter(pk=pk) if pk else waiting[:GROUP_CALLBACKS])
    held: list[Callback] = []
    size = 0
    for row in rows:
        size += row.size
        if held and size > GROUP_BYTES:
            break
        held.append(row)
    bodies = dict(Callback.objects.filter(pk__in=[row.pk for row in held]).order_by().values_list("pk", "body"))
    for row in held:
        row.body = bodies[row.pk]
    return held


def _work_each(cache: dict[int, tuple[list[Claim | None], int]]) -> tuple[int, bool]:
    """The same one by one, so that a callback on which we stumble holds no other up."""
    seen = 0
    keys = list(
        Callback.objects.filter(status=Callback.Status.NEW, asks=False).order_by("pk").values_list("pk", flat=True)[:GROUP_CALLBACKS]
    )
    for pk in keys:
        try:
            with transaction.atomic():
                seen += _record_group(_hold(pk), cache)[0]
        except Exception:
            logger.exception("callback %s could not be recorded", pk)
            this = Callback.objects.filter(pk=pk, status=Callback.Status.NEW)
            this.filter(tries__gte=TRIES - 1).update(status=Callback.Status.STUCK)
            this.update(tries=F("tries") + 1)
    return seen, False


def _record_group(held: Sequence[Callback], cache: dict[int, tuple[list[Claim | None], int]]) -> tuple[int, bool]:
    urls = CallbackURL.objects.defer("secrets").in_bulk({row.url_id for row in held})
    told: dict[int, list[tuple[Callback, Claim]]] = defaultdict(list)
    seen = 0
    touched: list[Callback] = []
    for row in held:
        if row.pk not in cache:
            cache[row.pk] = read(row, urls[row.url_id])
        found, unread = cache[row.pk]
        part = found[row.position : row.position + GROUP - seen]
        told[row.url_id] += [(row, claim) for claim in part if claim]
        row.position += len(part)
        row.passed += part.count(None)
        seen += len(part)
        touched.append(row)
        if row.position >= len(found):
            row.status, row.unread = Callback.Status.DONE, unread
            cache.pop(row.pk)
        if seen >= GROUP:
            break
    # In order of key, as messages are: so that two transactions never wait for each other.
    for pk, pairs in sorted(told.items()):
        for (row, _claim), became in zip(pairs, settle(urls[pk], [claim for _row, claim in pairs]), strict=True):
            setattr(row, became, getattr(row, became) + 1)
    _write(touched)
    return seen, bool(touched)


def _write(rows: Iterable[Callback]) -> None:
    """What became of them: most are alike."""
    names = ("status", "position", "recorded", "parked", "passed", "unread")
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for row in rows:
        alike[tuple(getattr(row, name) for name in names)].append(row.pk)
    for values, keys in alike.items():
        Callback.objects.filter(pk__in=keys).update(**dict(zip(names, values, strict=True)))


def settle(url: CallbackURL, claims: Sequence[Claim]) -> list[str]:
    """Record what is about mail of the relay, park the rest; returns for each "recorded", "parked" or "passed"."""
    found = match(url.relay_id, claims)
    events.record_all([claim.report(message) for claim, message in zip(claims, found, strict=True) if isinstance(message, int)])
    became: list[str] = []
    parked: list[ParkedReport] = []
    now = clock.now()
    for claim, message in zip(claims, found, strict=True):
        if isinstance(message, int):
            became.append("recorded")
        elif probes.heard(url.relay_id, claim.number, claim.recipient, now):
            became.append("passed")
        else:
            became.append("parked")
            parked.append(_parked(url, claim, message, now))
    ParkedReport.objects.bulk_create(parked, ignore_conflicts=True)
    return became


def _parked(url: CallbackURL, claim: Claim, why: ParkedReport.Why, now: datetime) -> ParkedReport:
    hopeless = why == ParkedReport.Why.RECIPIENT
    return ParkedReport(
        url=url,
        why=why,
        status=ParkedReport.Status.KEPT if hopeless else ParkedReport.Status.WAITING,
        next_try_at=None if hopeless else now + RETRIES[0],
        received_at=now,
        **{name: getattr(claim, name) for name in CLAIMED},
    )


CLAIMED = ("type", "recipient", "number", "public_id", "at", "detail", "kind", "category", "source")


def match(relay: int, claims: Sequence[Claim]) -> list[int | ParkedReport.Why]:
    """The key of the message that each is about, or why there is none."""
    numbers = {claim.number for claim in claims if claim.number is not None}
    ids = {claim.public_id for claim in claims if claim.public_id is not None}
    # Index: the primary key, and that of the unique public_id.
    columns = ("pk", "public_id", "relay_id", "address")
    rows = [*Message.objects.filter(pk__in=numbers).order_by().values_list(*columns)] if numbers else []
    rows += [*Message.objects.filter(public_id__in=ids).order_by().values_list(*columns)] if ids else []
    by_number = {pk: (pk, owner, address) for pk, _id, owner, address in rows}
    by_id = {id: (pk, owner, address) for pk, id, owner, address in rows}
    elsewhere = {pk for pk, owner, _address in by_number.values() if owner != relay}
    # It left by this relay first, and by another when it was tried again.
    tried = set(Attempt.objects.filter(message__in=elsewhere, relay=relay).order_by().values_list("message_id", flat=True))
    found: list[int | ParkedReport.Why] = []
    for claim in claims:
        # The public id is the stronger mark: our own numbers begin anew with a new database.
        message = by_id.get(claim.public_id) if claim.public_id else by_number.get(claim.number)
        if message is None:
            found.append(ParkedReport.Why.UNKNOWN)
        elif addresses.key(claim.recipient) != addresses.key(message[2]):
            found.append(ParkedReport.Why.RECIPIENT)
        elif message[1] != relay and message[0] not in tried:
            found.append(ParkedReport.Why.RELAY)
        else:
            found.append(message[0])
    return found


# ------------------------------------------------------------------------------------------------------------- subscriptions


def _confirm_waiting() -> None:
    """Subscriptions that Amazon asks us to confirm: outside of any transaction, since Amazon is asked in turn."""
    for row in Callback.objects.filter(status=Callback.Status.NEW, asks=True).select_related("url").order_by("pk")[:10]:
        try:
            topics.confirm(json.loads(bytes(row.body or b"")))
        except topics.CannotFetch:
            logger.exception("the subscription of callback %s could not be confirmed", row.pk)
            status = Callback.Status.STUCK if row.tries + 1 >= TRIES else Callback.Status.NEW
            Callback.objects.filter(pk=row.pk, status=Callback.Status.NEW).update(tries=F("tries") + 1, status=status)
        else:
            Callback.objects.filter(pk=row.pk, status=Callback.Status.NEW).update(status=Callback.Status.DONE)


# ---------------------------------------------------------------------------------------------------------------------- later


def read_again(found: QuerySet[Callback]) -> int:
    """Have those that were set aside read once more; returns how many. What is recorded of them already is not recorded twice."""
    count = found.filter(status=Callback.Status.STUCK, body__isnull=False).update(status=Callback.Status.NEW, tries=0)
    if count:
        tasks.enqueue("mailhub.feedback.tasks.read_callbacks", queue="maintenance")
    return count


def try_parked(most: int = GROUP) -> int:
    """Parked reports whose time has come; returns how many found their message. Index feedback_parked_due."""
    applied = 0
    with transaction.atomic():
        now = clock.now()
        due = ParkedReport.objects.filter(status=ParkedReport.Status.WAITING, next_try_at__lte=now).order_by("next_try_at")
        held = list(due.select_for_update(skip_locked=True)[:most])
        relays = dict(CallbackURL.objects.filter(pk__in={row.url_id for row in held}).values_list("pk", "relay_id"))
        for pk in sorted(relays):
            rows = [row for row in held if row.url_id == pk]
            claims = [Claim(**{name: getattr(row, name) for name in CLAIMED}) for row in rows]
            found = match(relays[pk], claims)
            pairs = [(row, claim, message) for row, claim, message in zip(rows, claims, found, strict=True)]
            events.record_all([claim.report(message) for _row, claim, message in pairs if isinstance(message, int)])
            for row, _claim, message in pairs:
                applied += isinstance(message, int)
                _tried(row, message, now)
    return applied


def _tried(row: ParkedReport, found: int | ParkedReport.Why, now: datetime) -> None:
    row.tries += 1
    if isinstance(found, int):
        row.status, row.next_try_at, row.number = ParkedReport.Status.APPLIED, None, found
    else:
        row.why = found
        over = row.tries >= len(RETRIES) or found == ParkedReport.Why.RECIPIENT
        row.status = ParkedReport.Status.KEPT if over else ParkedReport.Status.WAITING
        row.next_try_at = None if over else now + RETRIES[row.tries]
    row.save(update_fields=["status", "why", "tries", "next_try_at", "number"])


def forget() -> int:
    """Forget the bodies of old callbacks and what is parked in vain, and what is left of callbacks when messages are forgotten; returns how
    many callbacks those were. Indexes feedback_callback_bodies, feedback_parked_old and the primary key."""
    now = clock.now()
    words = now - timedelta(days=settings.MAILHUB_KEEP_BODIES_DAYS)
    Callback.objects.filter(body__isnull=False, received_at__lt=words).exclude(status=Callback.Status.NEW).update(body=None)
    ParkedReport.objects.filter(received_at__lt=words).exclude(status=ParkedReport.Status.WAITING).delete()
    old = Callback.objects.filter(body__isnull=True)
    newest = Callback.objects.order_by("pk").filter(received_at__gte=now - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS)).first()
    return (old.filter(pk__lt=newest.pk) if newest else old).delete()[0]
