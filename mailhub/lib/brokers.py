"""django-q2's brokers, with a pulse.

django-q2 can come to a silent stand: a worker that is killed while it waits for a task takes the queue's lock with it (its issue 23).
So the pusher of each cluster, when it finds nothing to do, now and then puts an empty task on its way to worker and monitor; the
supervisor sees it arrive, or not. It is no row of a table, and no other machine can take it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any, ClassVar

from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone
from django_q.brokers import Broker
from django_q.brokers.orm import ORM
from django_q.brokers.redis_broker import Redis
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage
from redis import RedisError

from mailhub.lib import lifeline
from mailhub.lib.lifeline import Sign

logger = logging.getLogger(__name__)

#: seconds
EVERY = 5

#: the key of each task's row, if it has one, and the signed task
Tasks = list[tuple[int | None, Any]]


def pulse() -> None:
    """To arrive is all there is to it."""


def pulse_package() -> Any:
    task = {"id": "pulse", "name": "pulse", "func": f"{__name__}.pulse", "args": (), "kwargs": {}, "started": timezone.now()}
    return SignedPackage.dumps(task)


class Pulse(Broker):  # type: ignore[misc]
    #: what it looks like when the queue's database or Redis is away
    errors: ClassVar[type[Exception]]

    away = False
    next_pulse = 0.0

    def dequeue(self) -> Tasks:
        try:
            tasks: Tasks = super().dequeue() or []
            self.away = False
        except self.errors as error:
            self.wait(error)
            tasks = []
        if not tasks and time.monotonic() >= self.next_pulse:
            self.next_pulse = time.monotonic() + EVERY
            tasks = [(None, pulse_package())]
        return tasks

    def wait(self, error: Exception) -> None:
        """For the queue to come back. django-q2's pusher would die of it instead, ten seconds each time."""
        if not self.away:
            logger.error("queue %s does not answer: %s", self.list_key, error)
            self.away = True
        time.sleep(1)

    def set_stat(self, key: str, value: str, timeout: int) -> None:
        """Nobody reads django-q2's own statistics, which it would write twice a second."""


class DatabaseBroker(Pulse, ORM):  # type: ignore[misc]
    """Tells the supervisor which rows its cluster has taken: they would stay locked for `retry` seconds when the cluster is killed."""

    errors = DatabaseError

    def dequeue(self) -> Tasks:
        tasks = super().dequeue()
        for row, _package in tasks:
            if row is not None:
                lifeline.give(Sign.TAKEN, row)
        return tasks

    def delete(self, task_id: int) -> None:
        super().delete(task_id)
        lifeline.give(Sign.DELETED, task_id)

    def wait(self, error: Exception) -> None:
        connections[Conf.ORM].close()
        super().wait(error)


class RedisBroker(Pulse, Redis):  # type: ignore[misc]
    errors = RedisError


def release(rows: Collection[int]) -> None:
    """Let others take the rows of DatabaseBroker that a dead cluster had taken."""
    OrmQ.objects.filter(pk__in=rows).update(lock=timezone.now())
