"""What happened to messages, and what follows from it: the only place that writes events and suppressions."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction

from mailhub.delivery import suppressions, throughput
from mailhub.delivery.models import COUNTER_OF, Attempt, Batch, Event, Message, Suppression
from mailhub.lib import addresses, clock
from mailhub.lib.replies import classify
from mailhub.lib.replies.verdicts import Kind
from mailhub.relays import warmup
from mailhub.relays.models import OTHER

# The state that a report of this type claims. Other types (opened, clicked, ...) only count.
CLAIMED_STATE = {
    Event.Type.DELIVERED: Message.Status.DELIVERED,
    Event.Type.BOUNCED: Message.Status.BOUNCED,
    Event.Type.COMPLAINED: Message.Status.COMPLAINED,
    # The relay had taken the mail, and did not send it after all.
    Event.Type.REJECTED: Message.Status.FAILED,
    Event.Type.FAILED: Message.Status.FAILED,
}
SUPPRESSES = {
    Event.Type.BOUNCED: Suppression.Reason.BOUNCE,
    Event.Type.COMPLAINED: Suppression.Reason.COMPLAINT,
}

# Characters of Event.detail.
LONGEST_DETAIL = 500
# The states of accepted mail in which such a report is news.
FATE_OPEN = {
    Event.Type.BOUNCED: (Message.Status.SENT, Message.Status.DELIVERED),
    Event.Type.COMPLAINED: (Message.Status.SENT, Message.Status.DELIVERED, Message.Status.BOUNCED),
}


@dataclass(frozen=True, slots=True)
class Report:
    """A claim from outside about one message of ours."""

    #: key of the Message
    message: int
    #: one of Event.Type
    type: str
    #: when it happened, by the clock of whoever saw it
    at: datetime
    #: what the other side said, or the address of a link
    detail: str = ""
    #: one of Event.Kind; of a bounce for which none is given, `detail` decides
    kind: str = ""
    #: a lib/replies Category; the same
    category: str = ""
    #: what makes it the same report when it comes again, as "sendgrid 3: qvN4-1"; with "" it is a new one each time
    source: str = ""


class Tally:
    """Moves between the counters of batches, written once at the end of the transaction that makes the moves."""

    def __init__(self) -> None:
        self.changes: dict[int, Counter[str]] = defaultdict(Counter)

    def move(self, messages: Iterable[Message], to: str) -> None:
        """Count the messages, whose status is still the old one, as `to`."""
        after = COUNTER_OF[to]
        for (batch, status), count in Counter([(message.batch_id, message.status) for message in messages]).items():
            if batch and (before := COUNTER_OF[status]) != after:
                self.changes[batch][before] -= count
                self.changes[batch][after] += count

    def add(self, message: Message, name: str) -> None:
        """Count `message` in a counter that is no state's."""
        if message.batch_id:
            self.changes[message.batch_id][name] += 1

    def write(self) -> None:
        """Also ends the batches whose last message this was."""
        ended = []
        # In order of key, so that two transactions never wait for each other.
        for batch, change in sorted(self.changes.items()):
            if _add(batch, {name: by for name, by in change.items() if by}):
                ended.append(batch)
        finish(ended)


def _add(batch: int, change: Mapping[str, int]) -> bool:
    """Add to a batch's counters; returns whether none of it waits any more."""
    if not change:
        return False
    with connection.cursor() as cursor:
        moves = ", ".join(f"{name} = {name} + {by:d}" for name, by in change.items())
        cursor.execute(f"UPDATE delivery_batch SET {moves} WHERE id = %s RETURNING waiting = 0 AND deferred = 0", [batch])  # noqa: S608  columns of ours
        row = cursor.fetchone()
    return row is not None and bool(row[0])


def finish(batches: Iterable[int]) -> None:
    """End those that have all their recipients and none waiting."""
    pks = list(batches)
    if pks:
        Batch.objects.filter(pk__in=pks, status=Batch.Status.RUNNING, filled=True, waiting=0, deferred=0).update(
            status=Batch.Status.DONE, finished_at=clock.now()
        )


def write(events: Iterable[Event]) -> None:
    """Store events, together with the suppressions that follow from them."""
    suppress(Event.objects.bulk_create(events))


def suppress(events: Iterable[Event]) -> None:
    """Suppress those recipients whose address proved bad, or who complained, by stored events. A bounce that is not said to be soft is
    hard: queue.settle() calls a refusal a bounce only where it is the address's. A soft one counts towards the rule of worn_out()."""
    # By project: what holds for all mail, and what for one project's alone.
    wanted: dict[int, dict[str, Suppression]] = {0: {}}
    told = [event for event in events if event.type in SUPPRESSES or event.kind == Event.Kind.SOFT]
    soft = [event for event in told if event.kind == Event.Kind.SOFT]
    called_spam = {event.message.source_ref for event in told if event.type == Event.Type.COMPLAINED}
    apart = suppressions.apart(called_spam - {0})
    for event in told:
        if event.kind != Event.Kind.SOFT:
            key, scope, project = addresses.key(event.message.address), Suppression.Scope.ALL, 0
            if event.type == Event.Type.COMPLAINED and event.message.source_ref in apart:
                project = event.message.source_ref
            elif event.type == Event.Type.COMPLAINED and settings.MAILHUB_COMPLAINTS_STOP == "campaign":
                scope = Suppression.Scope.CAMPAIGN
            reason = SUPPRESSES[Event.Type(event.type)]
            row = Suppression(address=key, project=project, scope=scope, reason=reason, detail=event.detail, event=event)
            wanted.setdefault(project, {})[key] = row
    for key, event in suppressions.worn_out(soft).items():
        wanted[0].setdefault(key, suppressions.for_a_time(key, event))
    for _project, rows in sorted(wanted.items()):
        suppressions.hold(rows.values())


def wear_out(events: Iterable[Event]) -> None:
    """The same rule for stored events of mail that was given up at hand-over (FAILED). To be called apart: what else went to a mailbox is
    not looked for while mail is sent."""
    worn = suppressions.worn_out(list(events))
    suppressions.hold(suppressions.for_a_time(key, event) for key, event in worn.items())


# -------------------------------------------------------------------------------------------------------- reports from outside


def record(
    message: Message, type: str, *, at: datetime, detail: str = "", kind: str = "", category: str = "", source: str = ""
) -> Event | None:
    """Record a report about a message; None when it came before. Its state follows only where that is a step up: a late `delivered`
    undoes no bounce."""
    made = record_all([Report(message.pk, type, at, detail, kind, category, source)])
    return made[0] if made else None


@transaction.atomic
def record_all(reports: Iterable[Report]) -> list[Event]:
    """Record reports about any messages, all or nothing, with what follows from them: states, counters of batches, suppressions. Those
    that came before, or whose messages are forgotten, change nothing; the events of the others are returned.

    Six queries for any number, some hundred at best, and two more for bad news. Messages are locked in the order of their keys, so nobody
    waits in a circle."""
    asked = {(report.source and once(report)) or uuid.uuid4(): _judged(report) for report in reports}
    messages = {report.message for report in asked.values()}
    held = {message.pk: message for message in Message.objects.filter(pk__in=messages).order_by("pk").select_for_update()}
    sourced = [key for key, report in asked.items() if report.source]
    # Whoever brings the same report at the same moment waits for the message above.
    known = set(Event.objects.filter(once__in=sourced).order_by().values_list("once", flat=True)) if sourced else set()
    fresh = [(key, report) for key, report in asked.items() if key not in known and report.message in held]
    made = Event.objects.bulk_create(
        Event(
            message=held[report.message],
            type=report.type,
            at=report.at,
            # PostgreSQL takes neither NUL nor half a character.
            detail=report.detail.replace("\0", "").encode(errors="replace").decode()[:LONGEST_DETAIL],
            kind=report.kind,
            category=report.category,
            once=key if report.source else None,
        )
        for key, report in fresh
    )
    tally = Tally()
    _count(made, tally)
    fates = _fates(made)
    _move(made, tally)
    suppress(made)
    tally.write()
    throughput.add(fates)
    for (_hour, _relay, destination, source, _stream), counts in fates.items():
        if source and counts["complained"]:
            warmup.complained(source, destination, counts["complained"], clock.now())
    return made


def once(report: Report) -> uuid.UUID:
    """The same for the same report, and for no other: of its source and the message, since one notice may tell of several."""
    return uuid.UUID(bytes=hashlib.sha256(f"{report.message} {report.source}".encode("utf-8", "replace")).digest()[:16])


# What differs in replies that are the same: long words with a digit in them, such as a queue's numbers; no codes.
VARIES = re.compile(r"(?<![\w.+=/:-])(?![245]\d\d-)(?=\S{9})[\w.+=/:-]*\d[\w.+=/:-]*")
# Reply -> category: replies repeat by the thousand, and to understand one takes 200 us.
known: dict[str, str] = {}
MOST_KNOWN = 4096


def category(reply: str, address: str) -> str:
    """Why a mail to `address` was not accepted, in the words of lib/replies. 5 us where the reply is known."""
    key = VARIES.sub("#", reply.replace(address, "@"))
    found = known.get(key)
    if found is None:
        if len(known) >= MOST_KNOWN:
            known.clear()
        found = known[key] = str(classify.classify(reply).category)
    return found


def _judged(report: Report) -> Report:
    """With its category, and the kind of a bounce, where it is about a failure and nobody has said."""
    bounced = report.type == Event.Type.BOUNCED
    if (report.category and (report.kind or not bounced)) or report.type not in (
        Event.Type.BOUNCED,
        Event.Type.FAILED,
        Event.Type.REJECTED,
    ):
        return report
    verdict = classify.classify(report.detail[:500])
    kind = report.kind or (bounced and (Event.Kind.HARD if verdict.kind == Kind.HARD else Event.Kind.SOFT)) or ""
    return replace(report, kind=str(kind), category=report.category or str(verdict.category))


def _move(made: Sequence[Event], tally: Tally) -> None:
    """The messages of new events to the states that these claim."""
    moved: dict[int, Message] = {}
    for event in made:
        message = event.message
        claimed = CLAIMED_STATE.get(Event.Type(event.type))
        if claimed and claimed in Message.MOVES[Message.Status(message.status)]:
            tally.move([message], claimed)
            # A worker that holds it finds that it does not any more.
            message.status, message.reply, message.settled_at, message.lease = claimed, event.detail, event.at, None
            moved[message.pk] = message
    moment = connection.ops.adapt_datetimefield_value
    rows = [(str(message.status), message.reply, moment(message.settled_at), pk) for pk, message in moved.items()]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(MOVE, rows)


# Written out, since Django takes longer to say it for many rows than all the rest of a report takes.
MOVE = "UPDATE delivery_message SET status = %s, reply = %s, settled_at = %s, lease_id = NULL WHERE id = %s"


def _fates(made: Sequence[Event]) -> dict[throughput.Place, Counter[str]]:
    """Of mail that a relay had accepted, and that came back for good or was called spam: where it is counted, once a mail and fate. By the
    hour in which it was accepted, so that a share never exceeds the whole. To be called before its state follows."""
    counts: dict[throughput.Place, Counter[str]] = defaultdict(Counter)
    told = [event for event in made if event.message.relay_id and event.message.status in FATE_OPEN.get(Event.Type(event.type), ())]
    told = [event for event in told if event.type == Event.Type.COMPLAINED or event.kind != Event.Kind.SOFT]
    if not told:
        return counts
    keys = {event.message_id for event in told}
    left = Attempt.objects.filter(message__in=keys, outcome=Attempt.Outcome.SENT).order_by("pk")
    ways = {message: (source or "", at) for message, source, at in left.values_list("message", "source_ip", "finished_at")}
    for message, type in {(event.message, event.type) for event in told}:
        source, at = ways.get(message.pk, ("", message.settled_at or message.created_at))
        place = throughput.hour_of(at), message.relay_id or 0, message.destination_id or OTHER, source, message.stream
        counts[place]["complained" if type == Event.Type.COMPLAINED else "returned"] += 1
    return counts


def _count(made: Sequence[Event], tally: Tally) -> None:
    """The first time that a person opened a mail, or clicked in it."""
    for type, counter in ((Event.Type.OPENED, "opened"), (Event.Type.CLICKED, "clicked")):
        new = {event.pk: event for event in made if event.type == type and event.kind != Event.Kind.MACHINE}
        if not new:
            continue
        told = Event.objects.filter(message__in={event.message_id for event in new.values()}, type=type).exclude(kind=Event.Kind.MACHINE)
        before = set(told.exclude(pk__in=new).order_by().values_list("message_id", flat=True))
        for message in {event.message_id: event.message for event in new.values()}.values():
            if message.pk not in before:
                tally.add(message, counter)
