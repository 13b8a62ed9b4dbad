"""django-q2's brokers, with a pulse.

django-q2 can come to a silent stand: a worker that is killed while it waits for a task takes the queue's lock with it (its issue 23).
So the pusher of each cluster, when it finds nothing to do, now and then puts an empty task on its way to worker and monitor; a supervisor
sees it arrive (mailhub/delivery/workers.py), or not. It touches neither database nor Redis, and no other machine can take it.
"""

from __future__ import annotations

import time
from typing import Any

from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.brokers.redis_broker import Redis
from django_q.signing import SignedPackage

#: seconds
EVERY = 5

Tasks = list[tuple[int | None, Any]]


def pulse() -> None:
    """To arrive is all there is to it."""


def pulse_package() -> Any:
    task = {"id": "pulse", "name": "pulse", "func": f"{__name__}.pulse", "args": (), "kwargs": {}, "started": timezone.now()}
    return SignedPackage.dumps(task)


class DatabaseBroker(ORM):
    next_pulse = 0.0

    def dequeue(self) -> Tasks | None:
        return super().dequeue() or due_pulse(self)


class RedisBroker(Redis):
    next_pulse = 0.0

    def dequeue(self) -> Tasks | None:
        return super().dequeue() or due_pulse(self)


def due_pulse(broker: DatabaseBroker | RedisBroker) -> Tasks | None:
    now = time.monotonic()
    if now < broker.next_pulse:
        return None
    broker.next_pulse = now + EVERY
    # No acknowledgement is due: there is no row.
    return [(None, pulse_package())]
