"""What workers are woken for. Ids only; each may run twice, late or never."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import QuerySet

from mailhub.delivery import carried, engine, hits, moves, queue, retention
from mailhub.delivery.models import Batch
from mailhub.lib import clock, tasks
from mailhub.lib.tasks import Queue
from mailhub.relays.models import Relay

# A wake-up that reached a machine without the relay's addresses is handed on so often; then the next tick is waited for.
HANDED_ON = 8
# Ticks come more often than this.
JUST = timedelta(seconds=10)


def drain(relay_id: int, handed_on: int = 0) -> int:
    return _drain(relay_id, "bulk", handed_on)


def drain_transactional(relay_id: int, handed_on: int = 0) -> int:
    return _drain(relay_id, "transactional", handed_on)


def _drain(relay_id: int, work: Queue, handed_on: int) -> int:
    # Its secrets are read when they are needed, where it is known what follows from those that no key opens.
    relay = Relay.objects.defer("secrets").filter(pk=relay_id).first()
    if relay and handed_on < HANDED_ON and relay.is_elsewhere():
        tasks.enqueue(queue.DRAINS[work], relay.pk, handed_on + 1, queue=work)
        return 0
    return engine.drain(relay, work) if relay else 0


def tick() -> None:
    """Rebuild every wake-up from the rows, and finish what was begun."""
    queue.reap()
    for batch in queue.canceled():
        queue.withdraw_some(batch)
    _wake(Relay.objects.filter(status=Relay.Status.ACTIVE))


def wake_rested() -> None:
    """Of these wake-ups, those for relays that have just rested."""
    now = clock.now()
    _wake(Relay.objects.filter(status=Relay.Status.ACTIVE, resting_until__gt=now - JUST, resting_until__lte=now))


def _wake(relays: QuerySet[Relay]) -> None:
    for relay in relays.defer("secrets"):
        for wanted in queue.due(relay):
            queue.wake_relay(relay, wanted)


def withdraw(batch_id: int) -> int:
    batch = Batch.objects.filter(pk=batch_id, status=Batch.Status.CANCELED).first()
    return queue.withdraw(batch) if batch else 0


def advance_moves() -> int:
    return moves.advance()


def count_carried() -> int:
    return carried.count()


def prune() -> None:
    retention.prune()


def audit() -> list[int]:
    return retention.audit()


def record_hits() -> int:
    return hits.work_off()
