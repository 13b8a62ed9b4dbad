"""What happened to messages, and what follows from it: the only place that writes events and suppressions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.db.models import F

from mailhub.delivery.models import COUNTER_OF, Batch, Event, Message, Suppression
from mailhub.lib import addresses, clock

# The state that a report of this type claims. Other types (opened, clicked, ...) only count.
CLAIMED_STATE = {
    Event.Type.DELIVERED: Message.Status.DELIVERED,
    Event.Type.BOUNCED: Message.Status.BOUNCED,
    Event.Type.COMPLAINED: Message.Status.COMPLAINED,
}
SUPPRESSES = {
    Event.Type.BOUNCED: Suppression.Reason.BOUNCE,
    Event.Type.COMPLAINED: Suppression.Reason.COMPLAINT,
}


class Tally:
    """Moves between the counters of batches, written once at the end of the transaction that makes the moves."""

    def __init__(self) -> None:
        self.changes: dict[int, Counter[str]] = defaultdict(Counter)

    def move(self, message: Message, to: str) -> None:
        """Count `message`, whose status is still the old one, as `to`."""
        before, after = COUNTER_OF[message.status], COUNTER_OF[to]
        if message.batch_id and before != after:
            change = self.changes[message.batch_id]
            change[before] -= 1
            change[after] += 1

    def write(self) -> None:
        """Also ends the batches whose last message this was."""
        # In order of key, so that two transactions never wait for each other.
        for batch, change in sorted(self.changes.items()):
            Batch.objects.filter(pk=batch).update(**{name: F(name) + by for name, by in change.items() if by})
        finish(self.changes)


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
    """Suppress those recipients whose address proved bad, or who complained, by stored events."""
    told = {addresses.key(event.message.address): event for event in events if event.type in SUPPRESSES}
    if not told:
        return
    Suppression.objects.bulk_create(
        # In order, for the same reason as above.
        [
            Suppression(address=address, reason=SUPPRESSES[Event.Type(event.type)], detail=event.detail, event=event)
            for address, event in sorted(told.items())
        ],
        ignore_conflicts=True,
    )
    # Who is spared campaigns already is spared everything from now on.
    for held in Suppression.objects.filter(address__in=told, scope=Suppression.Scope.CAMPAIGN).order_by("address").select_for_update():
        event = told[held.address]
        Suppression.objects.filter(pk=held.pk).update(scope=Suppression.Scope.ALL, detail=event.detail, event=event)


@transaction.atomic
def record(message: Message, type: str, *, at: datetime, detail: str = "") -> Event:
    """Record a report about a message. Its state follows only where that is a step up: a late `delivered` undoes no bounce."""
    held = Message.objects.select_for_update().get(pk=message.pk)
    event = Event(message=held, type=type, at=at, detail=detail[:500])
    write([event])
    claimed = CLAIMED_STATE.get(Event.Type(type))
    if claimed and claimed in Message.MOVES[Message.Status(held.status)]:
        tally = Tally()
        tally.move(held, claimed)
        # A worker that holds it finds that it does not any more.
        Message.objects.filter(pk=held.pk).update(status=claimed, reply=event.detail, settled_at=at, lease=None)
        tally.write()
    return event
