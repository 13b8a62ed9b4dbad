"""What workers are woken for. Ids only; each may run twice, late or never."""

from __future__ import annotations

from mailhub.delivery import engine, queue, retention
from mailhub.delivery.models import Batch
from mailhub.lib.tasks import Queue
from mailhub.relays.models import Relay


def drain(relay_id: int) -> int:
    return _drain(relay_id, "bulk")


def drain_transactional(relay_id: int) -> int:
    return _drain(relay_id, "transactional")


def _drain(relay_id: int, queue: Queue) -> int:
    # Its secrets are read when they are needed, where it is known what follows from those that no key opens.
    relay = Relay.objects.defer("secrets").filter(pk=relay_id).first()
    return engine.drain(relay, queue) if relay else 0


def tick() -> None:
    """Rebuild every wake-up from the rows, and finish what was begun."""
    queue.reap()
    for batch in queue.canceled():
        queue.withdraw_some(batch)
    for relay in Relay.objects.filter(status=Relay.Status.ACTIVE).defer("secrets"):
        for wanted in queue.due(relay):
            queue.wake_relay(relay, wanted)


def withdraw(batch_id: int) -> int:
    batch = Batch.objects.filter(pk=batch_id, status=Batch.Status.CANCELED).first()
    return queue.withdraw(batch) if batch else 0


def prune() -> None:
    retention.prune()


def audit() -> list[int]:
    return retention.audit()
