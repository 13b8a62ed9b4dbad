"""What runs by the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.models import Schedule

# Every supervisor calls these every few seconds: they rebuild the wake-ups that were lost or whose time has come.
TICKS = ("mailhub.delivery.tasks.tick", "campaigns.tasks.tick")


@dataclass(frozen=True, slots=True)
class Nightly:
    """Once a day, at this time of the site's zone."""

    hour: int
    minute: int

    def next(self, now: datetime) -> datetime:
        at = timezone.localtime(now).replace(hour=self.hour, minute=self.minute, second=0, microsecond=0)
        return at if at > now else at + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, from the first start on."""

    minutes: int

    def next(self, now: datetime) -> datetime:
        return now


# What django-q2 starts, in the maintenance queue. The ticks are here once more, and the posting of webhooks too, should every supervisor's
# own clock stand still.
SCHEDULE: dict[str, Nightly | Every] = {
    **dict.fromkeys(TICKS, Every(1)),
    "mailhub.webhooks.tasks.tick": Every(1),
    "mailhub.delivery.tasks.audit": Nightly(3, 10),
    "campaigns.tasks.audit": Nightly(3, 20),
    "mailhub.delivery.tasks.prune": Nightly(3, 30),
    "mailhub.delivery.tasks.advance_moves": Every(5),
    "mailhub.delivery.tasks.count_carried": Every(1),
    "mailhub.delivery.tasks.record_hits": Every(1),
    "transactional.tasks.prune": Nightly(3, 50),
    "mailhub.feedback.tasks.prune": Nightly(3, 55),
    "mailhub.webhooks.tasks.prune": Nightly(3, 58),
    "mailhub.feedback.receivers.tasks.look_up": Every(10),
    "mailhub.feedback.receivers.tasks.prune": Nightly(3, 56),
    "mailhub.feedback.returns.tasks.count": Every(1),
    "mailhub.feedback.returns.tasks.prune": Nightly(3, 54),
    "mailhub.feedback.tasks.read_incoming": Every(1),
    "mailhub.feedback.tasks.poll_mailboxes": Every(1),
    "mailhub.feedback.tasks.look_again": Every(1),
    "mailhub.watching.tasks.watch": Every(1),
    "mailhub.watching.tasks.prune": Nightly(3, 57),
    "mailhub.senders.tasks.check_domains": Nightly(4, 0),
    "mailhub.senders.tasks.check_waiting": Every(60),
    "mailhub.relays.tasks.check_addresses": Every(60),
}


def load() -> None:
    """Import what the tasks are made of. Done before workers are forked, it is done once, and a fault in it is seen at once."""
    for path in SCHEDULE:
        import_string(path)


@transaction.atomic
def install() -> None:
    """Bring django-q2's table in line with SCHEDULE: add, change, remove. The time of the next run is kept where nothing changed."""
    for path, when in SCHEDULE.items():
        wanted = {
            "func": path,
            "cluster": "maintenance",
            "schedule_type": Schedule.MINUTES if isinstance(when, Every) else Schedule.DAILY,
            "minutes": when.minutes if isinstance(when, Every) else None,
            "repeats": -1,
        }
        rows = Schedule.objects.filter(name=path).order_by("pk")
        right = rows.filter(**wanted).first()
        # The rest are from another version, or from two machines that installed at once.
        rows.exclude(pk=right.pk if right else None).delete()
        if right is None:
            Schedule.objects.create(name=path, next_run=when.next(timezone.now()), **wanted)
    Schedule.objects.exclude(name__in=SCHEDULE).delete()
