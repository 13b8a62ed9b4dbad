"""What workers are woken for. Ids only; each may run twice, late or never."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db.models import Q

from campaigns import audience, growth, launch, subscriptions
from campaigns.models import Campaign
from mailhub.delivery.models import Batch
from mailhub.lib import clock, tasks
from mailhub.lib.states import WrongState

logger = logging.getLogger(__name__)

# A batch that has not grown for so long has lost its wake-up.
SILENCE = timedelta(seconds=60)


def expand(batch_id: int) -> None:
    audience.expand(batch_id)


def launch_due() -> None:
    """Launch the scheduled campaigns whose time has come, however long ago. Index campaigns_campaign_due."""
    for campaign in Campaign.objects.filter(status=Campaign.Status.SCHEDULED, scheduled_at__lte=clock.now()).order_by("scheduled_at"):
        try:
            launch.launch_scheduled(campaign)
        except WrongState:
            continue  # somebody else has launched or unscheduled it
        except Exception:  # one that fails must not hold up the others
            logger.exception("campaign %s could not be launched and will be tried again", campaign.pk)


def tick() -> None:
    """Rebuild every wake-up from the rows, and do what others have told."""
    now = clock.now()
    subscriptions.follow()
    if Campaign.objects.filter(status=Campaign.Status.SCHEDULED, scheduled_at__lte=now).exists():
        tasks.enqueue("campaigns.tasks.launch_due", queue="maintenance")
    # Index delivery_batch_open: as many rows as there are open batches.
    silent = Q(filling_at__isnull=True) | Q(filling_at__lt=now - SILENCE)
    for batch in Batch.objects.filter(campaign__in=Campaign.objects.filter(silent), status__in=audience.FILLING, filled=False):
        if Campaign.objects.filter(silent, batch=batch).update(filling_at=now):
            tasks.enqueue("campaigns.tasks.expand", batch.pk, queue="bulk")


def audit() -> list[int]:
    return growth.audit()
