"""django-q2's brokers, with a pulse.

django-q2 can come to a silent stand: a worker that is killed while it waits for a task takes the queue's lock with it (its issue 23).
So the pusher of each cluster, when it finds nothing to do, now and then puts an empty task on its way to worker and monitor; the
supervisor sees it arrive, or not. It is no row of a table, and no other machine can take it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.brokers.redis_broker import Redis
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from mailhub.lib import lifeline
from mailhub.lib.lifeline import Sign

logger = logging.getLogger(__name__)

#: seconds
EVERY = 5

Tasks = list[tuple[int | None, Any]]


def pulse() -> None:
    """To arrive is all there is to it."""


def pulse_package() -> Any:
    task = {"id": "pulse", "name": "pulse", "func": f"{__name__}.pulse", "args": (), "kwargs": {}, "started": timezone.now()}
    return SignedPackage.dumps(task)


class DatabaseBroker(ORM):  # type: ignore[misc]
    """Tells the supervisor which rows its cluster has taken: they would stay locked for `retry` seconds when the cluster is killed."""

    next_pulse = 0.0
    away = False

    def dequeue(self) -> Tasks | None:
        try:
            tasks: Tasks = super().dequeue() or []
        except DatabaseError as error:
            self.wait(error)
            return None
        self.away = False
        for row, _package in tasks:
            lifeline.give(Sign.TAKEN, row or 0)
        return tasks or due_pulse(self)

    def wait(self, error: DatabaseError) -> None:
        """For the database to come back. The pusher would die of it instead, ten seconds each time."""
        if not self.away:
            logger.error("queue %s: the database does not answer: %s", self.list_key, error)
            self.away = True
        connections[Conf.ORM].close()
        time.sleep(1)

    def delete(self, task_id: int) -> None:
        super().delete(task_id)
        lifeline.give(Sign.DELETED, task_id)


def release(rows: Collection[int]) -> None:
    """Let others take the rows of DatabaseBroker that a dead cluster had taken."""
    OrmQ.objects.filter(pk__in=rows).update(lock=timezone.now())


class RedisBroker(Redis):  # type: ignore[misc]
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
