"""The Event table read as an outbox: from one number to another, in order, none skipped.

A cursor that follows an increasing key skips rows unless it knows where to stop. Keys are drawn when a row is written and become visible
when its transaction commits: of two transactions at once the one with the larger key may commit first, and a cursor that has moved there
would never see the other. Hence nothing is read past a mark that everything below is settled:

PostgreSQL: whoever inserts into a table holds a lock on it (RowExclusiveLock) from before the key is drawn until after the commit is
visible. So: (1) look up the largest key that can be seen; every smaller one has been drawn by now. (2) See in pg_locks who holds such a
lock: nobody else can still bring one of them. (3) When these have ended, whoever came after them, all that will ever be up to that key
can be seen. Transactions that write events take milliseconds, and one that hangs is ended by the server after a minute
(idle_in_transaction_session_timeout, settings.py); until then nothing past it is told, which is the price of skipping nothing. No column,
no index and no lock of our own are needed, and who writes events pays nothing.

SQLite: one transaction writes at a time, from before it draws keys until it has committed. Keys become visible in their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.utils.module_loading import import_string

from mailhub.delivery.models import Event
from mailhub.lib.replies.verdicts import Category
from mailhub.webhooks.models import last_event

# Events of one post at most, and bytes of its body (of more than one event).
MOST = 500
LARGEST = 1_000_000
# Rows read at once where most of them may be others'.
PAGE = 2_000
# Numbers looked through at once: a filter that lets nothing pass reads no more in one statement.
WINDOW = 50_000

# By name, since they know whose mail it is: keys of contents -> what the site that handed each in said about it; and the
# projects to choose from, as (key, name).
ORIGINS = "transactional.origins.of"
PROJECTS = "transactional.origins.projects"


@dataclass(frozen=True, slots=True)
class Origin:
    """What the package that took a mail in knows about it."""

    #: key of the project; None: MailHub's own mail
    project: int | None = None
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


NOWHERE = Origin()


@dataclass(frozen=True, slots=True)
class Filter:
    #: of Event.Type; none: all
    types: Collection[str] = ()
    #: key of the project; None: all mail
    project: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    #: as they are posted, each of them a JSON object
    events: list[str]
    #: their keys
    keys: list[int]
    #: up to here everything has been looked at
    upto: int


# ------------------------------------------------------------------------------------------------------------------------ marks


def mark() -> tuple[int, frozenset[str]]:
    """A key up to which all events can be read as soon as these transactions are over (see above)."""
    return last_event(), writers()


def writers() -> frozenset[str]:
    """The transactions, others than our own, that may have written events which cannot be seen yet."""
    if connection.vendor != "postgresql":
        return frozenset()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND relation = %s::regclass AND pid IS DISTINCT FROM pg_backend_pid()",
            [Event._meta.db_table],
        )
        return frozenset(row[0] for row in cursor.fetchall())


# ---------------------------------------------------------------------------------------------------------------------- reading


def read(after: int, upto: int, wanted: Filter) -> Found:
    """The events past `after`, up to `upto` or until a post is full. Two queries, both by primary keys."""
    upto = min(upto, after + WINDOW)
    rows = Event.objects.filter(pk__gt=after, pk__lte=upto).order_by("pk")
    if wanted.types:
        rows = rows.filter(type__in=wanted.types)
    size = MOST if wanted.project is None else PAGE
    page = list(rows.values(*COLUMNS)[:size])
    if len(page) == size:
        upto = page[-1]["pk"]
    origins = _origins({row["message__content_id"] for row in page})
    events: list[str] = []
    keys: list[int] = []
    length = 0
    for row in page:
        origin = origins.get(row["message__content_id"], NOWHERE)
        if wanted.project is not None and origin.project != wanted.project:
            continue
        said = _json(row, origin)
        length += len(said.encode())
        if events and (len(events) == MOST or length > LARGEST):
            return Found(events, keys, keys[-1])
        events.append(said)
        keys.append(row["pk"])
    return Found(events, keys, upto)


def _origins(contents: Collection[int]) -> dict[int, Origin]:
    look_up: Callable[[Collection[int]], dict[int, Origin]] = import_string(ORIGINS)
    return look_up(contents) if contents else {}


def projects() -> list[tuple[int, str]]:
    listed: Callable[[], list[tuple[int, str]]] = import_string(PROJECTS)
    return listed()


# -------------------------------------------------------------------------------------------------------------------- what is said

COLUMNS = (
    "pk", "type", "at", "detail", "kind", "category",
    "message__public_id", "message__address", "message__stream", "message__content_id", "message__content__public_id",
)  # fmt: skip

# In anymail's words (anymail.signals.RejectReason); of a bounce that has no other it is "bounced".
REASONS = {
    Category.SUSPENDED: "bounced",
    Category.BLOCKED: "blocked",
    Category.REJECTED: "blocked",
    Category.AUTH_FAILURE: "blocked",
    Category.RATE_LIMITED: "blocked",
    Category.SPAM: "spam",
    Category.COMPLAINT: "spam",
    Category.EXPIRED: "timed_out",
    Category.TOO_BIG: "other",
    Category.CONTENT: "other",
}
FAILURES = (Event.Type.BOUNCED, Event.Type.REJECTED, Event.Type.FAILED)
# Those of which `detail` is what a server said.
ANSWERED = (Event.Type.SENT, Event.Type.DELIVERED, Event.Type.DEFERRED, *FAILURES, Event.Type.AUTORESPONDED, Event.Type.COMPLAINED)


def _event(row: dict[str, Any], origin: Origin) -> dict[str, Any]:
    """docs/webhooks.md describes it."""
    type, detail = row["type"], row["detail"]
    return {
        "event_id": str(row["pk"]),
        "type": type,
        "timestamp": stamp(row["at"]),
        "message_id": str(row["message__public_id"]),
        "submission_id": str(row["message__content__public_id"]),
        "recipient": row["message__address"],
        "stream": row["message__stream"],
        "reject_reason": REASONS.get(row["category"], "bounced" if type == Event.Type.BOUNCED else "other") if type in FAILURES else None,
        "bounce": row["kind"] if type == Event.Type.BOUNCED and row["kind"] else None,
        "category": row["category"] or None,
        "mta_response": detail if type in ANSWERED and detail else None,
        "click_url": detail if type == Event.Type.CLICKED else None,
        "by_machine": row["kind"] == Event.Kind.MACHINE,
        "tags": origin.tags,
        "metadata": origin.metadata,
    }


def _json(row: dict[str, Any], origin: Origin) -> str:
    return json.dumps(_event(row, origin), ensure_ascii=False, separators=(",", ":"))


def sample(at: datetime) -> Found:
    """What a test tells of: a delivery that never was."""
    none = "00000000-0000-0000-0000-000000000000"
    row = dict.fromkeys(COLUMNS, "") | {
        "pk": 0, "type": Event.Type.DELIVERED, "at": at, "detail": "250 2.0.0 OK", "message__public_id": none,
        "message__address": "someone@example.com", "message__stream": "transactional", "message__content__public_id": none,
    }  # fmt: skip
    return Found([_json(row, Origin(tags=["test"], metadata={"test": "true"}))], [0], 0)


def body(type: str, at: datetime, events: Iterable[str]) -> bytes:
    """A Standard Webhooks payload of these events."""
    return f'{{"type":"{type}","timestamp":"{stamp(at)}","data":[{",".join(events)}]}}'.encode()


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
