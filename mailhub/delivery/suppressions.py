"""Addresses that all mail, or campaigns, are kept from: by staff, by what came back, and by those who asked to be forgotten."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from mailhub.delivery.models import Event, Message, Suppression
from mailhub.lib import addresses, clock, tokens
from mailhub.lib.lookups import among
from mailhub.lib.replies import verdicts

Status = Message.Status

# Entered at once, and out of a file.
MOST = 10_000
MOST_OF_FILE = 200_000
# Bad lines that are named; the others are counted.
MOST_NAMED = 20
GROUP = 500
# Of a keyed hash.
ERASED = "suppression"
# A mail may have waited so long before it came back.
QUEUED_AT_MOST = timedelta(days=3)
COMES_BACK_WITHIN = timedelta(days=1)
# By name, since it knows what staff say of a project: keys of projects (Message.source_ref) -> those whose complaints stop their own mail
# alone.
APART = "transactional.origins.apart"
# Likewise the names of projects, as (key, name).
PROJECTS = "transactional.origins.projects"
BETWEEN = re.compile(r"[,;\s]+")


@dataclass(frozen=True, slots=True)
class Added:
    new: list[Suppression]
    #: these were kept from less until now, or for a shorter time
    widened: int
    #: suppressed as much already
    known: int


def read_file(data: bytes) -> list[str]:
    """The addresses in a file of another service, or in one that we have exported: of each line the first field that is one, in the column
    that has the most. Raises ValidationError that names the lines without one."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp932", errors="replace")
    if "\0" in text:
        raise ValidationError(_("This is no text file. Save the table as CSV."))
    delimiter = max(",;\t", key=text[:10_000].count)
    rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(field.strip() for field in row)]
    columns = Counter(place for row in rows for place, field in enumerate(row) if "@" in field and _address(field))
    if not columns:
        raise ValidationError(_("There is no column of addresses in this file."))
    column = columns.most_common(1)[0][0]
    # The first line may be the heading.
    lines = [row[column] if len(row) > column else "" for row in rows]
    start = 0 if _address(lines[0]) else 1
    found: dict[str, None] = {}
    problems = []
    for number, field in enumerate(lines[start:], start + 1):
        if key := _address(field):
            found[key] = None
        else:
            problems.append(_("Line %(line)s: “%(text)s” is no address.") % {"line": number, "text": field[:50]})
    _refuse(problems, len(found), MOST_OF_FILE)
    return list(found)


def _address(text: str) -> str:
    try:
        return addresses.key(addresses.normalise(text.strip()))
    except ValidationError:
        return ""


def read(text: str) -> list[str]:
    """The addresses that stand in `text`, one a line or several, as suppressions keep them. Raises ValidationError that names the bad."""
    found: dict[str, None] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        for word in filter(None, BETWEEN.split(line)):
            try:
                found[addresses.key(addresses.normalise(word))] = None
            except ValidationError as error:
                problems.append(_("Line %(line)s: %(problem)s") % {"line": number, "problem": error.messages[0]})
    _refuse(problems, len(found), MOST)
    return list(found)


def _refuse(problems: list[Any], found: int, most: int) -> None:
    if found > most:
        problems = [_("These are more than %(limit)s addresses. Enter them in parts.") % {"limit": most}]
    if len(problems) > MOST_NAMED:
        problems[MOST_NAMED:] = [_("And %(count)s more.") % {"count": len(problems) - MOST_NAMED}]
    if problems:
        raise ValidationError(problems)


@transaction.atomic
def add(keys: Sequence[str], scope: str, detail: str, *, project: int = 0, until: datetime | None = None) -> Added:
    """Suppress the addresses, for mail of one project (Message.source_ref) where it is given. What is known of one already stays, but it
    may come to hold for more, or for longer."""
    new: list[Suppression] = []
    grown = 0
    # In one order, so that two who add the same addresses never wait for each other.
    ordered = sorted(keys)
    for start in range(0, len(ordered), GROUP):
        group = ordered[start : start + GROUP]
        known = set(Suppression.objects.filter(address__in=group, project=project).values_list("address", flat=True))
        rows = [Suppression(address=key, project=project, scope=scope, detail=detail, expires_at=until) for key in group]
        grown += hold(rows)
        new += Suppression.objects.filter(address__in=set(group) - known, project=project)
    return Added(new, grown, len(keys) - len(new) - grown)


def hold(rows: Iterable[Suppression]) -> int:
    """Store suppressions, one an address, all of one project. One that is there already takes over what holds for more or for longer, and
    all of it if it has run out; returns how many did. Locked in the order of their addresses, so that nobody waits in a circle."""
    wanted = {row.address: row for row in sorted(rows, key=lambda row: row.address)}
    if not wanted:
        return 0
    project = next(iter(wanted.values())).project
    Suppression.objects.bulk_create(wanted.values(), ignore_conflicts=True)
    may_grow = Q(scope=Suppression.Scope.CAMPAIGN) | Q(expires_at__isnull=False)
    held = Suppression.objects.filter(may_grow, address__in=wanted, project=project).order_by("address").select_for_update(no_key=True)
    return sum(_grow(row, wanted[row.address]) for row in held)


def _grow(held: Suppression, wanted: Suppression) -> bool:
    now = clock.now()
    changes: dict[str, Any] = {"detail": wanted.detail, "event": wanted.event} if wanted.event else {}
    longer = held.expires_at is not None and (wanted.expires_at is None or wanted.expires_at > held.expires_at)
    wider = held.scope == Suppression.Scope.CAMPAIGN and wanted.scope == Suppression.Scope.ALL
    if held.expires_at is not None and held.expires_at <= now:
        changes |= {"scope": wanted.scope, "reason": wanted.reason, "expires_at": wanted.expires_at, "created_at": now}
        changes |= {"detail": wanted.detail, "event": wanted.event}
    elif longer or (wider and (wanted.expires_at is None or held.expires_at is not None)):
        # What holds for good is not made to end by what holds for more, but for a time.
        changes |= {"expires_at": wanted.expires_at} if longer else {}
        changes |= {"scope": wanted.scope} if wider else {}
        # What staff or the person said is not forgotten; that a mailbox was full says less than that there is none.
        changes |= {"reason": wanted.reason} if held.reason == Suppression.Reason.SOFT else {}
    else:
        return False
    return bool(Suppression.objects.filter(pk=held.pk).update(**changes))


def apart(projects: Collection[int]) -> Collection[int]:
    """Those of them a complaint about whose mail says nothing about other mail. A query, where any is asked for."""
    if not projects:
        return ()
    look_up: Callable[[Collection[int]], Collection[int]] = import_string(APART)
    return look_up(projects)


def project_names(rows: Iterable[Suppression]) -> dict[int, str]:
    """Of the projects whose mail alone these hold for. A query, where there is one."""
    asked = {row.project for row in rows} - {0}
    if not asked:
        return {}
    listed: Callable[[], list[tuple[int, str]]] = import_string(PROJECTS)
    return {key: name for key, name in listed() if key in asked}


# -------------------------------------------------------------------------------------------------------------- soft bounces

# What a mailbox itself is the cause of.
MAILBOX = frozenset(category for category, fault in verdicts.FAULTS.items() if fault == verdicts.Fault.RECIPIENT)


def worn_out(events: Collection[Event]) -> dict[str, Event]:
    """Of the mailboxes that stored soft bounces, or refusals until mail was given up, are about, those that are to get nothing for a time:
    so many mails came to nothing within so many days because of the mailbox, and none got through since the first of them. Address -> the
    last event.

    Indexes delivery_message_address and that of Event.message; a query each, and none where no such bounce came."""
    most = settings.MAILHUB_SOFT_BOUNCES
    last = {addresses.key(event.message.address): event for event in events if event.category in MAILBOX}
    if not last or not most:
        return {}
    now = clock.now()
    since = now - timedelta(days=settings.MAILHUB_SOFT_BOUNCE_DAYS)
    mine = Message.objects.order_by().alias(key=Lower("address")).filter(key__in=last, created_at__gte=since - QUEUED_AT_MOST)
    rows = {message.pk: message for message in mine.only("pk", "address", "status", "settled_at")}
    got: dict[str, datetime] = {}
    for message in rows.values():
        at = message.settled_at
        # What a relay took may still come back from it.
        if at and (message.status == Status.DELIVERED or (message.status == Status.SENT and at < now - COMES_BACK_WITHIN)):
            key = addresses.key(message.address)
            got[key] = max(got.get(key, at), at)
    soft = Q(type=Event.Type.BOUNCED, kind=Event.Kind.SOFT) | Q(type=Event.Type.FAILED)
    told = Event.objects.filter(soft, message__in=rows, category__in=MAILBOX, at__gte=since)
    failed: dict[str, set[int]] = defaultdict(set)
    for pk, bounced_at in told.order_by().values_list("message_id", "at"):
        key = addresses.key(rows[pk].address)
        if key not in got or bounced_at > got[key]:
            failed[key].add(pk)
    return {key: last[key] for key, messages in failed.items() if len(messages) >= most}


def for_a_time(key: str, event: Event) -> Suppression:
    until = clock.now() + timedelta(days=settings.MAILHUB_SOFT_SUPPRESSION_DAYS)
    return Suppression(address=key, reason=Suppression.Reason.SOFT, detail=event.detail, event=event, expires_at=until)


# ------------------------------------------------------------------------------------------------------------- who is blocked


def any_erased() -> bool:
    """Index delivery_suppression_erased."""
    return Suppression.objects.filter(erased=True).exists()


def blocked(stream: str, wanted: Collection[tuple[str, int]], *, erased: bool = True) -> set[tuple[str, int]]:
    """Of addresses (as suppressions keep them), each with the project that a mail to it is of, those that mail of the stream must not go
    to. `erased`: hashes are looked for, too; for nothing where there are none.

    Index delivery_suppression_once: a probe an address."""
    covering = Suppression.covering(stream).order_by()
    keys = [address for address, _project in wanted]
    rows = set(covering.filter(among("address", keys)).values_list("address", "project"))
    if erased:
        hashed = erased_keys(keys)
        found = covering.filter(among("address", hashed), erased=True).values_list("address", "project")
        rows |= {(hashed[address], project) for address, project in found}
    if not rows:
        return set()
    return {(address, project) for address, project in wanted if (address, 0) in rows or (address, project) in rows}


def of(address: str) -> list[Suppression]:
    """All that there are of an address, whether in force or not, also if it was erased; the newest first."""
    key = addresses.key(address)
    return list(Suppression.objects.filter(address__in=[key, *erased_keys([key])]).select_related("event__message").order_by("-pk"))


def erased_key(address: str) -> str:
    """What is kept of an erased address: it is known again, and cannot be read."""
    return tokens.digest(ERASED, addresses.key(address))


def erased_keys(keys: Iterable[str]) -> dict[str, str]:
    """The same by each key that was in use since -> the address."""
    return {digest: address for address in keys for digest in tokens.digests(ERASED, address)}
