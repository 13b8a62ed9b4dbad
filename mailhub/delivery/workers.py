"""What a worker does to be supervised (mailhub/supervisor.py)."""

from __future__ import annotations

import gc
import os
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Min
from django_q.cluster import Cluster
from django_q.conf import Conf
from django_q.signals import post_execute, post_execute_in_worker, pre_execute

from mailhub.delivery.models import Worker
from mailhub.lib import clock, lifeline, processes
from mailhub.lib.lifeline import Sign
from mailhub.relays.models import Relay

QUEUES = ("transactional", "bulk", "maintenance")
# How far bulk mail's processes stand back (nice(2)) where urgent mail's, the pages' and the database's want the processor, too.
BEHIND = 5
# A drain makes tens of thousands of objects that live for a moment and hold each other in no circle. With Python's own 700 it looked for
# circles among them for a tenth of its time.
OBJECTS = 50_000
# A cluster gives a sign of life every 5 s, and its supervisor writes it down as often.
FRESH = timedelta(seconds=60)


def served(now: datetime) -> set[str]:
    """The queues that a living cluster serves."""
    return set(Worker.objects.filter(beat_at__gt=now - FRESH).values_list("queue", flat=True))


def rested_in(longest: float) -> float:
    """Seconds until the next relay has rested, `longest` at most."""
    now = clock.now()
    resting = Relay.objects.filter(status=Relay.Status.ACTIVE, resting_until__gt=now)
    until = resting.aggregate(until=Min("resting_until"))["until"]
    return min((until - now).total_seconds(), longest) if until else longest


def beat() -> bool:
    """Called about once a second by a task that takes long. False: stop, hand back what you hold."""
    lifeline.give(Sign.ALIVE)
    return not lifeline.cut()


def serve() -> None:
    """Be one of the clusters that a supervisor started. Returns once the cluster runs; the process ends with it."""
    lifeline.hold()
    processes.die_with_parent_after_fork()
    if Conf.CLUSTER_NAME == "bulk":
        os.nice(BEHIND)
    # What there is by now stays, and is not looked at again.
    gc.freeze()
    gc.set_threshold(OBJECTS)
    pre_execute.connect(_begun)
    post_execute_in_worker.connect(_ended)
    post_execute.connect(_settled)
    Cluster().start()


def _begun(**kwargs: Any) -> None:
    lifeline.give(Sign.BEGUN)


def _ended(**kwargs: Any) -> None:
    lifeline.give(Sign.ENDED)


def _settled(**kwargs: Any) -> None:
    lifeline.give(Sign.SETTLED)
