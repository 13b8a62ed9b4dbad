"""How much may still leave through a relay: its quotas, counted in the database, for all workers on all machines together.

Use is counted in slices of time. A slice counts until the whole of it has left the window, so the sum never says less than was taken in
any window; slices are short enough that the rate achieved is within a twentieth of the limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db.models import F, Max, Q, QuerySet, Sum

from mailhub.relays.models import Quota, QuotaUse, Relay

Period, Kind = Quota.Period, Quota.Kind

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A rolling month is as long as the longest of the calendar.
LENGTH = {
    Period.MINUTE: timedelta(minutes=1),
    Period.HOUR: timedelta(hours=1),
    Period.DAY: timedelta(days=1),
    Period.MONTH: timedelta(days=31),
}
# Slices of a rolling window; a calendar period is one slice.
SLICE = {
    Period.MINUTE: timedelta(seconds=1),
    Period.HOUR: timedelta(seconds=30),
    Period.DAY: timedelta(minutes=10),
    Period.MONTH: timedelta(hours=4),
}
# What is taken now arrives, and is counted by the other side, up to so much later. So a slice counts that much longer, and nothing is
# taken in the last moments of a calendar period: it might arrive in the next.
TRAVEL = {
    Period.MINUTE: timedelta(seconds=2),
    Period.HOUR: timedelta(minutes=1),
    Period.DAY: timedelta(minutes=1),
    Period.MONTH: timedelta(minutes=1),
}
# The longest that a worker holds mail before it gives it back, where the caller does not say.
HELD = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one quota stands."""

    quota: Quota
    used: int
    left: int
    #: when it has room again; None while it has
    opens_at: datetime | None


def take(relay: Relay, wanted: int, now: datetime) -> int:
    """Take up to `wanted` out of all of the relay's quotas at once; returns how many may leave. `now` is the database's time.

    In the caller's transaction, which holds the quotas' rows from here on: one taker at a time, whatever the number of machines."""
    quotas = _locked(relay)
    if not quotas or wanted < 1:
        return max(wanted, 0)
    uses = _uses(quotas, now)
    granted = max(0, min(wanted, *(_room(quota, uses[quota.pk].used, now) for quota in quotas)))
    if granted:
        for quota in quotas:
            _add(quota, granted, max(slice_of(quota, now), uses[quota.pk].newest))
    return granted


def give_back(relay: Relay, count: int, now: datetime, since: datetime | None = None) -> None:
    """Undo a take of `count`, made at `since` or later, of which nothing has left. In the caller's transaction.

    The oldest slices that still count get it back: whichever it was taken from, no later window says less than was really used. A quota
    that may have forgotten the take already, its window being short, keeps what it counts."""
    taken_at = since or now - HELD
    for quota in _locked(relay):
        if slice_of(quota, taken_at) < _counted_from(quota, now):
            continue
        rest = count
        for use in _counted(quota, now).order_by("starts_at"):
            part = min(rest, use.used)
            QuotaUse.objects.filter(pk=use.pk).update(used=F("used") - part)
            rest -= part
            if not rest:
                break


def opens_at(relay: Relay, now: datetime) -> datetime | None:
    """When all quotas of the relay have room, if nothing more is taken; None when they have now."""
    return max((standing.opens_at for standing in left(relay, now) if standing.opens_at), default=None)


def left(relay: Relay, now: datetime) -> list[Standing]:
    """How each of the relay's quotas stands, the smallest limit first."""
    return standing(relay.quotas.order_by("limit", "pk"), now)


def standing(quotas: Iterable[Quota], now: datetime) -> list[Standing]:
    """How quotas of any relays stand: one statement for all, and one more for each that is used up."""
    known = list(quotas)
    uses = _uses(known, now)
    return [
        Standing(quota, uses[quota.pk].used, max(quota.limit - uses[quota.pk].used, 0), _opens_at(quota, uses[quota.pk].used, now))
        for quota in known
    ]


def prune(before: datetime) -> int:
    """Forget slices that began before then, which must be longer ago than any window; returns how many."""
    count, _by_model = QuotaUse.objects.filter(starts_at__lt=before).delete()
    return count


# ---------------------------------------------------------------------------------------------------------------------- books


@dataclass(frozen=True, slots=True)
class Use:
    used: int = 0
    #: start of the newest slice that counts
    newest: datetime = EPOCH


def _locked(relay: Relay) -> list[Quota]:
    """In the order of their keys, so that no two takers wait for each other. SQLite has one writer at a time anyway."""
    return list(Quota.objects.filter(relay=relay).order_by("pk").select_for_update(no_key=True))


def _uses(quotas: Sequence[Quota], now: datetime) -> dict[int, Use]:
    """What counts of each quota. One statement for all of them: the index of relays_quotause_slice, at most some 190 rows a quota."""
    found = {quota.pk: Use() for quota in quotas}
    counted = Q()
    for quota in quotas:
        counted |= Q(quota=quota, starts_at__gte=_counted_from(quota, now))
    if quotas:
        rows = QuotaUse.objects.filter(counted).values_list("quota").annotate(Sum("used"), Max("starts_at"))
        found.update({pk: Use(used, newest) for pk, used, newest in rows})
    return found


def _counted(quota: Quota, now: datetime) -> QuerySet[QuotaUse]:
    # Without an end: should the clock have been set back, what was taken in its future counts as well.
    return QuotaUse.objects.filter(quota=quota, used__gt=0, starts_at__gte=_counted_from(quota, now))


def _add(quota: Quota, count: int, starts_at: datetime) -> None:
    if not QuotaUse.objects.filter(quota=quota, starts_at=starts_at).update(used=F("used") + count):
        QuotaUse.objects.create(quota=quota, starts_at=starts_at, used=count)


# -------------------------------------------------------------------------------------------------------------------- windows


def _room(quota: Quota, used: int, now: datetime) -> int:
    return 0 if closing(quota, now) else quota.limit - used


def _opens_at(quota: Quota, used: int, now: datetime) -> datetime | None:
    if quota.kind == Kind.CALENDAR:
        return calendar(quota, now)[1] if used >= quota.limit or closing(quota, now) else None
    if used < quota.limit:
        return None
    moment = now
    for use in _counted(quota, now).order_by("starts_at"):
        moment = use.starts_at + counts_for(quota)
        used -= use.used
        if used < quota.limit:
            break
    return moment


def slice_of(quota: Quota, now: datetime) -> datetime:
    """Start of the slice that a take at this moment is counted in."""
    if quota.kind == Kind.CALENDAR:
        return calendar(quota, now)[0]
    return now - (now - EPOCH) % SLICE[Period(quota.period)]


def _counted_from(quota: Quota, now: datetime) -> datetime:
    """Slices count that began at this moment or later."""
    if quota.kind == Kind.CALENDAR:
        return calendar(quota, now)[0]
    # The youngest slice that has left is one that began exactly so long ago.
    return now - counts_for(quota) + timedelta(microseconds=1)


def counts_for(quota: Quota) -> timedelta:
    """How long after its start a slice of a rolling window counts."""
    period = Period(quota.period)
    return SLICE[period] + LENGTH[period] + TRAVEL[period]


def closing(quota: Quota, now: datetime) -> bool:
    return quota.kind == Kind.CALENDAR and now >= calendar(quota, now)[1] - TRAVEL[Period(quota.period)]


def calendar(quota: Quota, now: datetime) -> tuple[datetime, datetime]:
    """Start and end of the calendar period that `now` lies in, by the clock of the quota's time zone. Days are as long as they are there:
    23 hours, or 25, when summer time begins or ends."""
    zone = ZoneInfo(quota.time_zone)
    local = now.astimezone(zone)
    if quota.period in (Period.MINUTE, Period.HOUR):
        # By elapsed time: an hour that the clock shows twice is two hours.
        past = timedelta(minutes=local.minute if quota.period == Period.HOUR else 0, seconds=local.second, microseconds=local.microsecond)
        start = now - past
        return start, start + LENGTH[Period(quota.period)]
    first = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if quota.period == Period.MONTH:
        first = first.replace(day=1)
        following = (first + timedelta(days=31)).replace(day=1)
    else:
        following = first + timedelta(days=1)
    # A midnight that the clock skips is the moment it is set on; of one that it shows twice, the first (fold=0) begins the day.
    return first.replace(tzinfo=zone).astimezone(UTC), following.replace(tzinfo=zone).astimezone(UTC)
