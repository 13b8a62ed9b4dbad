"""What workers are woken for. Ids only; each may run twice, late or never."""

from __future__ import annotations

from mailhub.delivery import engine, queue, retention
from mailhub.delivery.models import Batch
from mailhub.relays.models import Relay


def drain(relay_id: int) -> int:
    return engine.drain(Relay.objects.get(pk=relay_id))


def tick() -> None:
    """Rebuild every wake-up from the rows."""
    queue.reap()
    for relay in Relay.objects.filter(status=Relay.Status.ACTIVE):
        if wanted := queue.due(relay):
            queue.wake_relay(relay, wanted)


def withdraw(batch_id: int) -> int:
    return queue.withdraw(Batch.objects.get(pk=batch_id))


def prune() -> None:
    retention.prune()


def audit() -> list[int]:
    return retention.audit()
