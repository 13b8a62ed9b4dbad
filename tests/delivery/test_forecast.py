"""How long mail will take: never less than the quotas let it, and no longer than they make it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from mailhub.delivery import forecast
from mailhub.delivery.forecast import Caps, Outlet, Window
from mailhub.lib import clock
from mailhub.relays import limits
from mailhub.relays.models import DedicatedIP, IPPool, Quota, Relay, RouteMember, Stream, WarmupPlan
from tests.delivery.world import make_batch, make_relay, make_route, make_sender, post

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
Period, Kind = Quota.Period, Quota.Kind


def quota(limit: int, period: str = Period.DAY, kind: str = Kind.ROLLING, zone: str = "UTC") -> Quota:
    return Quota(limit=limit, period=period, kind=kind, time_zone=zone)


def ends(count: int, *outlets: Outlet, now: datetime = NOW) -> timedelta | None:
    moment = forecast.forecast(count, outlets, now)
    return moment - now if moment else None


def test_without_a_limit_it_leaves_at_once() -> None:
    assert ends(1_000_000, Outlet()) == timedelta(0)
    assert ends(0) == timedelta(0)
    assert ends(1) is None
    assert ends(10, Outlet(from_at=None)) is None


def test_a_rolling_window_lets_as_much_go_each_day() -> None:
    assert ends(500, Outlet(windows=[Window(quota(500))])) == timedelta(0)
    lasted = ends(1900, Outlet(windows=[Window(quota(500))]))
    assert lasted and timedelta(days=3) <= lasted <= timedelta(days=3, hours=1)


def test_a_calendar_window_opens_at_its_own_midnight() -> None:
    tokyo = Window(quota(100, kind=Kind.CALENDAR, zone="Asia/Tokyo"), [(NOW, 60)])
    # 15:00 UTC is midnight in Tokyo.
    assert ends(140, Outlet(windows=[tokyo])) == timedelta(hours=6)


def test_what_was_taken_comes_back_as_it_leaves_the_window() -> None:
    used = [(NOW - timedelta(hours=23), 300), (NOW - timedelta(hours=2), 200)]
    lasted = ends(300, Outlet(windows=[Window(quota(500), used)]))
    assert lasted and timedelta(hours=1) <= lasted <= timedelta(hours=1, minutes=12)


def test_several_relays_share_the_work_and_the_next_position_steps_in() -> None:
    lasted = ends(3000, *(Outlet(position, [Window(quota(500))]) for position in (1, 1, 2)))
    assert lasted and timedelta(days=1) <= lasted <= timedelta(days=1, hours=1)
    # Behind a relay without a limit nobody steps in.
    slow, fast = Outlet(1, pace=1), Outlet(2, pace=100)
    assert ends(600, slow, fast) == timedelta(seconds=600)
    # A relay that rests is waited for, and meanwhile the next one works.
    assert ends(500, Outlet(1, from_at=NOW + timedelta(hours=1)), Outlet(2, pace=10)) == timedelta(seconds=50)


def test_the_pace_counts_and_so_do_windows_beside_it() -> None:
    assert ends(3600, Outlet(pace=2)) == timedelta(minutes=30)
    lasted = ends(3000, Outlet(windows=[Window(quota(1000, Period.HOUR))], pace=10))
    assert lasted and timedelta(hours=2) <= lasted <= timedelta(hours=2, minutes=15)


def test_an_address_that_warms_up_sends_more_each_day() -> None:
    caps = Caps(NOW.date(), [50, 100, 200], {NOW.date(): 20})
    assert ends(30, Outlet(caps=caps)) == timedelta(0)
    lasted = ends(1000, Outlet(caps=Caps(NOW.date(), [50, 100, 200])))
    assert lasted and timedelta(days=2) < lasted <= timedelta(days=3)


@dataclass
class Noting(Outlet):
    """Writes down what leaves."""

    notes: list[tuple[datetime, int]] = field(default_factory=list)

    def take(self, at: datetime, count: int) -> None:
        self.notes.append((at, count))
        Outlet.take(self, at, count)


WINDOWS = st.lists(
    st.builds(
        quota,
        st.integers(1, 400),
        st.sampled_from([Period.HOUR, Period.DAY, Period.MONTH]),
        st.sampled_from(Kind.values),
        st.sampled_from(["UTC", "Asia/Tokyo", "Europe/Berlin"]),
    ),
    max_size=2,
)
RELAYS = st.lists(st.tuples(st.integers(1, 2), WINDOWS, st.one_of(st.none(), st.floats(0.5, 50))), min_size=1, max_size=3)


def outlets(given: list[tuple[int, list[Quota], float | None]]) -> list[Outlet]:
    return [Outlet(position, [Window(each) for each in quotas], pace=pace) for position, quotas, pace in given]


@effort(max_examples=60)
@given(relays=RELAYS, count=st.integers(1, 1500))
def test_more_mail_never_takes_less_time_and_no_window_lets_more_go_than_its_limit(
    relays: list[tuple[int, list[Quota], float | None]], count: int
) -> None:
    used = [Noting(position, [Window(each) for each in quotas], pace=pace) for position, quotas, pace in relays]
    taken = [outlet.notes for outlet in used]
    end = forecast.forecast(count, used, NOW)
    more = forecast.forecast(count + 50, outlets(relays), NOW)
    assert more is None or (end is not None and more >= end)
    if end is not None:
        assert sum(part for parts in taken for _at, part in parts) == count
        assert end == max([NOW, *(at for parts in taken for at, _part in parts)])
    for place, (_position, quotas, _pace) in enumerate(relays):
        for each in quotas:
            for at, _part in taken[place]:
                assert _within(each, at, taken[place]) <= each.limit
    # A relay more, behind the others, never makes it take longer by more than a step.
    helped = forecast.forecast(count, [*outlets(relays), Outlet(position=9)], NOW)
    assert helped is not None and (end is None or helped <= end)


def _within(each: Quota, at: datetime, parts: list[tuple[datetime, int]]) -> int:
    """What left in the window that ends at that moment."""
    start = limits.calendar(each, at)[0] if each.kind == Kind.CALENDAR else at - limits.LENGTH[Period(each.period)]
    return sum(part for moment, part in parts if start < moment <= at or moment == at)


# -------------------------------------------------------------------------------------------------------------- from the rows


@pytest.mark.django_db
def test_a_campaign_is_told_how_long_it_takes_with_what_is_left() -> None:
    relay = make_relay("Gmail-like")
    route = make_route(relay, default_for=Stream.CAMPAIGN)
    sender = make_sender("shop@tea.example", transactional_route=route)
    now = clock.now()
    Quota.objects.create(relay=relay, limit=500)
    limits.take(relay, 200, now)
    found = forecast.of_route(route, 1600, now, (sender.email, None), {})
    assert found.at_once == 300 and found.limited == [relay] and found.ahead == 0
    assert found.lasts and timedelta(days=2, hours=23) < found.lasts < timedelta(days=3, hours=2)
    # What waits goes beside it: transactional mail first, and of another batch as much as of this one.
    post(sender, 4)
    make_batch(sender, 10)
    assert forecast.of_route(route, 6, now, (sender.email, None), {}).ahead == 10
    relay.pause()
    assert forecast.of_route(route, 1600, now, (sender.email, None), {}).ends is None


@pytest.mark.django_db
def test_what_a_relay_takes_for_some_destinations_alone_is_off_the_others() -> None:
    fast, small = make_relay("Fast"), make_relay("Small")
    route = make_route(small)
    RouteMember.objects.create(route=route, relay=fast, position=2).destinations.add("gmail")
    now = clock.now()
    quota = Quota.objects.create(relay=small, limit=100)

    def told(count: int, mix: dict[str, float]) -> forecast.Forecast:
        return forecast.of_route(route, count, now, ("shop@tea.example", None), mix)

    # 150 to Gmail go their own way, although its relay stands behind: 50 are left for the quota of 100.
    mostly = told(200, {"gmail": 0.75, "other": 0.25})
    assert mostly.lasts == timedelta(0) and mostly.at_once == 200
    # Mail elsewhere is nothing to it.
    none = told(200, {"other": 1.0})
    assert none.at_once == 100 and none.lasts and none.lasts >= timedelta(days=1)
    # While it is paused, all of it shares the quota.
    fast.pause()
    both = told(200, {"gmail": 0.75, "other": 0.25})
    assert both.at_once == 100 and both.lasts and timedelta(days=1) <= both.lasts <= timedelta(days=1, hours=1)
    quota.delete()
    assert told(200, {"gmail": 0.75, "other": 0.25}).lasts == timedelta(0)


@pytest.mark.django_db
def test_a_route_without_a_relay_for_the_rest_never_ends() -> None:
    route = make_route()
    RouteMember.objects.create(route=route, relay=make_relay("Gmail only")).destinations.add("gmail")
    now = clock.now()
    found = forecast.of_route(route, 10, now, ("shop@tea.example", None), {"gmail": 0.5, "other": 0.5})
    assert found.ends is None and found.at_once == 5
    assert forecast.of_route(route, 10, now, ("shop@tea.example", None), {"gmail": 1.0}).lasts == timedelta(0)


@pytest.mark.django_db
def test_addresses_that_warm_up_hold_it_back_by_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = IPPool.objects.create(name="Own")
    plan = WarmupPlan.objects.create(key="mine", name="Mine", counts=WarmupPlan.Counts.EACH, caps="10\n20\n40")
    DedicatedIP.objects.create(pool=pool, address="192.0.2.1", ehlo_name="m.tea.example", plan=plan)
    relay = Relay.objects.create(name="Own", kind="mx", pool=pool)
    route = make_route()
    RouteMember.objects.create(route=route, relay=relay)
    now = clock.now()
    alone = forecast.of_route(route, 100, now, ("shop@tea.example", None), {"gmail": 0.25, "other": 0.1})
    # 25 to Gmail: 10 today, the rest tomorrow.
    assert alone.lasts and timedelta(0) < alone.lasts <= timedelta(days=1) and alone.limited == [relay]
