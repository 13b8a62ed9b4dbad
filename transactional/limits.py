"""How many mails a project may hand in: by the minute and by the day, counted in the database for all processes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from mailhub.lib import clock
from transactional.models import Intake, Project

Meter = Intake.Meter


@dataclass(frozen=True, slots=True)
class Window:
    meter: Meter
    limit: int
    starts_at: datetime
    ends_at: datetime
    #: what of the limit is left
    left: int

    @property
    def seconds(self) -> int:
        """Whole ones until there is room again."""
        return max(int((self.ends_at - clock.now()).total_seconds()) + 1, 1)


def take(project: Project, sizes: Sequence[int]) -> tuple[int, Window | None]:
    """Take as many of these numbers of recipients, from the first on, as there is room for; returns how many of them that were, and the
    window that has no room for the next.

    In the caller's transaction others wait for its end, and a rollback gives all of it back. Two statements a limit, unique index."""
    meters = _meters(project)
    if not meters or not sizes:
        return len(sizes), None
    with transaction.atomic():
        windows = [_locked(project, meter, limit) for meter, limit in meters]
        narrow = min(windows, key=lambda window: window.left)
        fitting = total = 0
        for size in sizes:
            if total + size > narrow.left:
                break
            fitting += 1
            total += size
        if total:
            for window in windows:
                _rows(project, window).update(taken=F("taken") + total)
    return fitting, narrow if fitting < len(sizes) else None


def standing(project: Project) -> list[Window]:
    """The limits as they are now."""
    found = []
    for meter, limit in _meters(project):
        window = _window(meter, limit)
        taken = _rows(project, window).values_list("taken", flat=True).first() or 0
        found.append(_left(window, taken))
    return found


def smallest(project: Project) -> int | None:
    """More recipients than this never fit, however long one waits; None: any number does."""
    return min((limit for _meter, limit in _meters(project)), default=None)


def prune(before: datetime) -> int:
    count, _by_model = Intake.objects.filter(starts_at__lt=before).delete()
    return count


def _meters(project: Project) -> list[tuple[Meter, int]]:
    limits = ((Meter.MINUTE, project.limit_minute), (Meter.DAY, project.limit_day))
    return [(meter, limit) for meter, limit in limits if limit]


def _locked(project: Project, meter: Meter, limit: int) -> Window:
    window = _window(meter, limit)
    rows = _rows(project, window)
    taken = rows.select_for_update().values_list("taken", flat=True).first()
    if taken is None:
        Intake.objects.bulk_create([Intake(project=project, meter=meter, starts_at=window.starts_at)], ignore_conflicts=True)
        taken = rows.select_for_update().values_list("taken", flat=True).get()
    return _left(window, taken)


def _rows(project: Project, window: Window) -> QuerySet[Intake]:
    return Intake.objects.filter(project=project, meter=window.meter, starts_at=window.starts_at)


def _left(window: Window, taken: int) -> Window:
    return Window(window.meter, window.limit, window.starts_at, window.ends_at, max(window.limit - taken, 0))


def _window(meter: Meter, limit: int) -> Window:
    now = clock.now()
    if meter == Meter.DAY:
        start = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
        # Noon of the day after, whether this one has 23, 24 or 25 hours.
        end = (start + timedelta(hours=36)).replace(hour=0)
    else:
        start = now.replace(second=0, microsecond=0)
        end = start + timedelta(minutes=1)
    return Window(meter, limit, start, end, limit)
