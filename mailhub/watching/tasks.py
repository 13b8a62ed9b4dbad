"""What workers are woken for. Each may run twice, late or never."""

from __future__ import annotations

from mailhub.lib import clock, tasks
from mailhub.watching import alerts, troubles, weekly
from mailhub.watching.models import Channel


def watch() -> None:
    troubles.evaluate()
    weekly.make(clock.now())
    # A task each: a receiver that hangs holds its own channel up, and no other.
    for pk in alerts.due(clock.now()):
        tasks.enqueue("mailhub.watching.tasks.tell", pk, queue="maintenance")


def tell(channel_id: int) -> int:
    channel = Channel.objects.select_related("sender__transactional_route").filter(pk=channel_id, active=True).first()
    return alerts.tell(channel) if channel else 0


def prune() -> int:
    return troubles.forget()
