"""Batches that stop, go on and end, with what follows for their messages and for the workers."""

from __future__ import annotations

from django.db import transaction

from mailhub.delivery import queue
from mailhub.delivery.models import Batch
from mailhub.lib import states, tasks


@transaction.atomic
def resume(batch: Batch) -> None:
    """Raises WrongState."""
    if batch.status == Batch.Status.DONE:  # which a batch may leave, but only to send failed mails again
        raise states.WrongState(f"batch {batch.pk} has ended")
    batch.resume()
    # All may have left while it was paused.
    queue.finish([batch.pk])
    queue.wake_batch(batch)


@transaction.atomic
def cancel(batch: Batch) -> None:
    """Nothing more of it leaves; what has left cannot be called back. Raises WrongState."""
    batch.cancel()
    tasks.enqueue("mailhub.delivery.tasks.withdraw", batch.pk, queue="maintenance")
