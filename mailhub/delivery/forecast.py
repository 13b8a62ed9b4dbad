"""How long mail will take with what is left of its relays' quotas, and when the last of it leaves.

forecast_all() is pure: relays as outlets, quotas as windows, and mail that the same outlets may take as a flow. of_route() fills them in
from the rows. It reckons with what limits are known: how fast a service answers is none of them unless its figures say so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import inf
from typing import Any

from django.db.models import Q
from django.utils import timezone

from mailhub.delivery.models import WAITING, Batch, Message
from mailhub.relays import limits
from mailhub.relays.models import DedicatedIP, Quota, QuotaUse, Relay, Route, RouteMember, Stream, WarmupPlan, WarmupUse
from mailhub.relays.warmup import next_day

# Further ahead than this nobody plans; and so many steps are reckoned at most.
HORIZON = timedelta(days=365)
MOST_STEPS = 50_000
# A quota that fills up slowly is taken in so many parts, so that it empties as slowly.
PARTS = 20
# More than any position in a route.
BEHIND = 100_000


@dataclass(slots=True)
class Window:
    """A quota, and what has been taken of it: when, and how much."""

    quota: Quota
    taken: list[tuple[datetime, int]] = field(default_factory=list)

    def opens(self, at: datetime) -> tuple[datetime, int]:
        """The first moment from `at` on with room, and how much there is then."""
        if self.quota.kind == Quota.Kind.CALENDAR:
            start, end = limits.calendar(self.quota, at)
            room = self.quota.limit - sum(count for moment, count in self.taken if moment >= start)
            return (at, room) if room > 0 and not limits.closing(self.quota, at) else (end, self.quota.limit)
        lasts = limits.counts_for(self.quota)
        counted = [(moment, count) for moment, count in self.taken if moment + lasts > at]
        room = self.quota.limit - sum(count for _moment, count in counted)
        for moment, count in counted:
            if room > 0:
                break
            at, room = max(at, moment + lasts), room + count
        return at, room

    def take(self, at: datetime, count: int) -> None:
        # What left the window before now leaves it for good: what is taken comes in the order of time.
        counts_from = limits.calendar(self.quota, at)[0] if self.quota.kind == Quota.Kind.CALENDAR else at - limits.counts_for(self.quota)
        self.taken = [(moment, before) for moment, before in self.taken if moment >= counts_from]
        self.taken.append((limits.slice_of(self.quota, at), count))


@dataclass(slots=True)
class Caps:
    """What an address that warms up may send on each day of the site's calendar from `first` on; afterwards any number."""

    first: date
    days: Sequence[int]
    used: dict[date, int] = field(default_factory=dict)

    def opens(self, at: datetime) -> tuple[datetime, int | None]:
        while (day := (timezone.localdate(at) - self.first).days) < len(self.days):
            here = timezone.localdate(at)
            if (room := self.days[day] - self.used.get(here, 0)) > 0:
                return at, room
            midnight = datetime(here.year, here.month, here.day, tzinfo=timezone.get_current_timezone()) + timedelta(days=1)
            at = midnight.astimezone(UTC)
        return at, None

    def take(self, at: datetime, count: int) -> None:
        here = timezone.localdate(at)
        self.used[here] = self.used.get(here, 0) + count


@dataclass(slots=True)
class Outlet:
    """A relay of a route."""

    position: int = 1
    windows: list[Window] = field(default_factory=list)
    caps: Caps | None = None
    #: mails a second; None where no figure says
    pace: float | None = None
    #: nothing leaves before then; None: nothing leaves until somebody does something about it
    from_at: datetime | None = datetime(1970, 1, 1, tzinfo=UTC)
    busy_until: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    @property
    def limits(self) -> list[Window | Caps]:
        return [*self.windows, self.caps] if self.caps else [*self.windows]

    def opens(self, at: datetime) -> tuple[datetime, float]:
        """The first moment from `at` on at which all limits leave room, and how much."""
        while True:
            moment, room = at, inf
            for limit in self.limits:
                opens, left = limit.opens(at)
                moment, room = max(moment, opens), min(room, inf if left is None else left)
            if moment == at:
                return at, room
            at = moment

    def take(self, at: datetime, count: int) -> None:
        for limit in self.limits:
            limit.take(at, count)


@dataclass(slots=True)
class Flow:
    """Mails that the same outlets may take; flows may share outlets."""

    count: int
    outlets: Sequence[Outlet]


def forecast(count: int, outlets: Sequence[Outlet], now: datetime) -> datetime | None:
    """Of mails that may take any of the outlets."""
    return forecast_all([Flow(count, outlets)], now)


def forecast_all(flows: Sequence[Flow], now: datetime) -> datetime | None:
    """When the last of all mails leaves; None when that is not within HORIZON. The outlets are used up.

    Those of the lowest position go first; others take over while none of these has room."""
    usable = [[outlet for outlet in flow.outlets if outlet.from_at is not None] for flow in flows]
    left, last = [flow.count for flow in flows], now
    for _step in range(MOST_STEPS):
        waiting = [number for number, count in enumerate(left) if count > 0]
        if not waiting:
            return last
        # What leaves first is taken first, whichever flow it is of: windows forget in the order of time.
        steps = [(step, number) for number in waiting if (step := _soonest(usable[number], now))]
        if len(steps) < len(waiting):
            return None
        (at, _position, room, outlet), number = min(steps, key=lambda found: found[0][:2])
        if at > now + HORIZON:
            return None
        part = int(min(left[number], room))
        ends = at
        if outlet.pace:
            smallest = min((window.quota.limit for window in outlet.windows), default=part)
            part = max(1, min(part, -(-smallest // PARTS)))
            ends = at + timedelta(seconds=part / outlet.pace)
        outlet.take(ends, part)
        outlet.busy_until, last = ends, max(last, ends)
        left[number] -= part
    return None


def _soonest(outlets: Sequence[Outlet], now: datetime) -> tuple[datetime, int, float, Outlet] | None:
    return min(filter(None, (_next(outlet, outlets, now) for outlet in outlets)), key=lambda found: found[:2], default=None)


def _next(outlet: Outlet, all_outlets: Iterable[Outlet], now: datetime) -> tuple[datetime, int, float, Outlet] | None:
    """When the outlet can take something next, and how much; None while others come before it."""
    assert outlet.from_at  # noqa: S101
    before = [other for other in all_outlets if other.position < outlet.position]
    ready = max([now, outlet.from_at, outlet.busy_until, *(other.busy_until for other in before)])
    at, room = outlet.opens(ready)
    until = None
    for other in before:
        assert other.from_at  # noqa: S101
        opens = other.opens(max(at, other.from_at))[0]
        if opens <= at:
            return None
        until = min(opens, until or opens)
    if until and outlet.pace:
        room = max(1, min(room, int((until - at).total_seconds() * outlet.pace)))
    return at, outlet.position, room, outlet


# -------------------------------------------------------------------------------------------------------------- from the rows


@dataclass(frozen=True, slots=True)
class Forecast:
    begins: datetime
    #: None: not within HORIZON, or never as things are
    ends: datetime | None
    #: mails of others that wait for the same relays and go before or beside these
    ahead: int
    #: relays that hold it back, for their quotas or because they warm up
    limited: Sequence[Relay]
    #: what of it some relay of the route could take at once
    at_once: int

    @property
    def lasts(self) -> timedelta | None:
        return self.ends - self.begins if self.ends else None


def of_route(
    route: Route, count: int, begins: datetime, sender: tuple[str, int | None], mix: Mapping[str, float], *, batch: int | None = None
) -> Forecast:
    """Of a campaign of so many mails by the route that begins then. `sender`: address and pool. `mix`: parts of its mail by destination,
    which members for some destinations alone take, and some plans of warming up count apart. `batch`: its own, where it has one."""
    address, pool = sender
    members = [member for member in _members(route) if _serves(member, address, pool)]
    relays = {member.relay_id: member.relay for member in members}
    ahead = _ahead(list(relays), count, batch)
    ends: datetime | None = forecast_all(_flows(members, ahead + count, mix, _outlets(members, begins, "")), begins)
    for destination, part in mix.items():
        capped = _outlets(members, begins, destination)
        if ends and any(outlet.caps for outlet in capped):
            later = forecast_all(_flows(members, round(count * part), {destination: 1}, capped), begins)
            ends = max(ends, later) if later else None
    at_once = _at_once(_flows(members, count, mix, _outlets(members, begins, "")), begins)
    limited = [relay for relay in relays.values() if relay.quotas.exists() or _warms(relay)]
    return Forecast(begins, ends, ahead, limited, at_once)


def _flows(members: Sequence[RouteMember], count: int, mix: Mapping[str, float], outlets: Sequence[Outlet]) -> list[Flow]:
    """The mails to each destination that a member names, and all others."""
    named = {member.pk: {destination.pk for destination in member.destinations.all()} for member in members}
    found, rest = [], count
    for destination, part in mix.items():
        if any(destination in names for names in named.values()):
            some = min(round(count * part), rest)
            found.append(Flow(some, [each for each, member in zip(outlets, members, strict=True) if _goes(named[member.pk], destination)]))
            rest -= some
    return [*found, Flow(rest, [outlet for outlet, member in zip(outlets, members, strict=True) if not named[member.pk]])]


def _goes(named: Collection[str], destination: str) -> bool:
    return not named or destination in named


def _at_once(flows: Iterable[Flow], begins: datetime) -> int:
    """What of them some outlet has room for already."""
    taken: dict[int, float] = {}
    total = 0
    for flow in flows:
        left: float = flow.count
        for outlet in sorted(flow.outlets, key=lambda each: each.position):
            if outlet.from_at is None or outlet.from_at > begins:
                continue
            at, room = outlet.opens(begins)
            if at <= begins:
                part = min(left, room - taken.get(id(outlet), 0))
                taken[id(outlet)] = taken.get(id(outlet), 0) + part
                left -= part
        total += flow.count - int(left)
    return total


def _members(route: Route) -> list[RouteMember]:
    rows = RouteMember.objects.filter(route=route).select_related("relay__pool").defer("relay__secrets")
    return list(rows.prefetch_related("destinations").order_by("position", "pk"))


def _serves(member: RouteMember, sender: str, pool: int | None) -> bool:
    """It takes campaign mail of the sender, if not to every destination."""
    names = member.sender_names
    own = member.relay.is_direct and member.relay.pool is not None and member.relay.pool.kind == "dedicated"
    return (
        member.stream in ("", Stream.CAMPAIGN)
        and (not names or bool(names & {sender.lower(), sender.rpartition("@")[2].lower()}))
        and (not own or member.relay.pool_id == pool)
    )


def _outlets(members: Sequence[RouteMember], now: datetime, destination: str) -> list[Outlet]:
    found = [_outlet(member, now, destination) for member in members]
    groups: dict[tuple[int, frozenset[str]], list[tuple[Outlet, int]]] = {}
    for outlet, member in zip(found, members, strict=True):
        if outlet.from_at:
            names = frozenset(destination.pk for destination in member.destinations.all())
            groups.setdefault((outlet.position, names), []).append((outlet, member.weight))
    for group in groups.values():
        _share(group)
    return found


def _share(group: Sequence[tuple[Outlet, int]]) -> None:
    """Relays that share mail wait for the slowest: each message is one relay's while that takes any."""
    total = sum(weight for _outlet, weight in group)
    slowest = min((outlet.pace * total / weight for outlet, weight in group if outlet.pace), default=None)
    for outlet, weight in group:
        if slowest is not None:
            outlet.pace = slowest * weight / total


def _outlet(member: RouteMember, now: datetime, destination: str) -> Outlet:
    relay = member.relay
    windows = []
    pace = _speed(relay)
    for quota in relay.quotas.all():
        if quota.period == Quota.Period.MINUTE:
            pace = min(pace or inf, quota.limit / limits.counts_for(quota).total_seconds())
            continue
        uses = QuotaUse.objects.filter(quota=quota, starts_at__gt=now - timedelta(days=62)).order_by("starts_at")
        windows.append(Window(quota, list(uses.values_list("starts_at", "used"))))
    until = None if relay.status == Relay.Status.PAUSED else relay.resting_until or datetime(1970, 1, 1, tzinfo=UTC)
    # As routing has it: who is for some mail alone comes before who takes everything.
    position = member.position if member.stream or member.senders or member.destinations.all() else member.position + BEHIND
    return Outlet(position, windows, _caps(relay, now, destination), pace, until)


def _speed(relay: Relay) -> float | None:
    """What its service says, if it is known."""
    plan = relay.plans.filter(valid_from__lte=timezone.localdate()).select_related("plan__service").order_by("-valid_from").first()
    return plan.plan.service.messages_per_second if plan else None


def _warms(relay: Relay) -> bool:
    return relay.is_direct and relay.pool is not None and relay.pool.ips.filter(plan__isnull=False).exists()


def _caps(relay: Relay, now: datetime, destination: str) -> Caps | None:
    """Of all its addresses together; `destination`: "" for plans that count all mails together."""
    if not relay.is_direct or relay.pool is None:
        return None
    ips = list(relay.pool.ips.select_related("plan"))
    counts = WarmupPlan.Counts.EACH if destination else WarmupPlan.Counts.ALL
    if not ips or any(ip.plan is None or ip.plan.counts != counts for ip in ips):
        return None
    today = timezone.localdate(now)
    each = [_days(ip, destination, today) for ip in ips]
    longest = min(len(days) for days, _used in each)
    return Caps(today, [sum(days[at] for days, _used in each) for at in range(longest)], {today: sum(used for _days, used in each)})


def _days(ip: DedicatedIP, destination: str, today: date) -> tuple[list[int], int]:
    """What it may send from today on, a day each, if all goes well; and what of today's is used."""
    assert ip.plan  # noqa: S101
    last = WarmupUse.objects.filter(ip=ip, destination=destination or None).order_by("-date").first()
    if last is None:
        day, used = ip.first_day, 0
    elif last.date >= today:
        day, used = last.day, last.taken
    else:
        day, used = next_day(ip.plan, last, today), 0
    return [cap for at in range(day, ip.plan.length + 1) if (cap := ip.plan.cap(at)) is not None], used


def _ahead(relays: Sequence[int], count: int, batch: int | None) -> int:
    """Mails of others that wait for these relays: transactional ones go first, and of each other batch as many as of this one."""
    routes = list(Route.objects.filter(members__relay__in=relays).distinct())
    total = _transactional(routes)
    for other in _batches(routes).exclude(pk=batch):
        total += min(other.waiting + other.deferred, count)
    return total


def _transactional(routes: Sequence[Route]) -> int:
    """Index delivery_message_lane."""
    mine: Any = Q(sender__transactional_route__in=routes)
    if any(route.default_for == Stream.TRANSACTIONAL for route in routes):
        mine |= Q(sender__transactional_route__isnull=True)
    return Message.objects.filter(mine, stream=Stream.TRANSACTIONAL, status__in=WAITING).count()


def _batches(routes: Sequence[Route]) -> Any:
    by_sender = Q(sender__campaign_route__in=routes)
    if any(route.default_for == Stream.CAMPAIGN for route in routes):
        by_sender |= Q(sender__campaign_route__isnull=True)
    return Batch.objects.filter(
        Q(route__in=routes) | Q(by_sender, route__isnull=True), Q(waiting__gt=0) | Q(deferred__gt=0), status=Batch.Status.RUNNING
    )
