"""Wake-ups through django-q2. A task carries ids only and may run twice or never: the rows are the truth."""

from __future__ import annotations

import logging
from functools import partial
from typing import Literal

from django.db import transaction
from django_q.tasks import async_task

Queue = Literal["transactional", "bulk", "maintenance"]

logger = logging.getLogger(__name__)


def enqueue(task: str, *ids: int, queue: Queue) -> None:
    """Have a worker call the function at dotted path `task` once the present transaction has committed."""
    transaction.on_commit(partial(_put, task, ids, queue))


def _put(task: str, ids: tuple[int, ...], queue: Queue) -> None:
    try:
        async_task(task, *ids, cluster=queue)
    except Exception:  # noqa: BLE001  what was committed stays accepted; the minute tick wakes it
        logger.exception("no wake-up for %s %s; the tick will see to it", task, ids)
