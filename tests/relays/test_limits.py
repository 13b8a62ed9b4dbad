"""No window of any quota ever sees one mail too many, and what may be sent is sent."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from mailhub.lib import clock
from mailhub.relays import limits
from mailhub.relays.limits import LENGTH, SLICE, TRAVEL
from mailhub.relays.models import Quota, QuotaUse, Relay
from tests.at_once import at_once

Period, Kind = Quota.Period, Quota.Kind
NOON = datetime(2026, 3, 10, 12, 0, 7, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)

pytestmark = pytest.mark.django_db


@pytest.fixture
def relay() -> Relay:
    return Relay.objects.create(name="relay", kind="memory")


def quota(relay: Relay, limit: int, period: str = Period.HOUR, kind: str = Kind.ROLLING, time_zone: str = "UTC") -> Quota:
    return Quota.objects.create(relay=relay, limit=limit, period=period, kind=kind, time_zone=time_zone)


def take(relay: Relay, wanted: int, now: datetime) -> int:
    with transaction.atomic():
        return limits.take(relay, wanted, now)


def give_back(relay: Relay, count: int, now: datetime, since: datetime | None = None) -> None:
    with transaction.atomic():
        limits.give_back(relay, count, now, since)


# ------------------------------------------------------------------------------------------------------------------ taking


def test_a_relay_without_quotas_grants_all_and_counts_nothing(relay: Relay) -> None:
    assert take(relay, 10_000, NOON) == 10_000
    assert limits.opens_at(relay, NOON) is None
    assert limits.left(relay, NOON) == []
    assert not QuotaUse.objects.exists()


def test_the_scarcest_quota_decides_and_all_count_what_was_granted(relay: Relay) -> None:
    quota(relay, 100, Period.HOUR)
    quota(relay, 30, Period.MINUTE)
    quota(relay, 1000, Period.DAY, Kind.CALENDAR, "Asia/Tokyo")
    assert take(relay, 50, NOON) == 30
    assert take(relay, 50, NOON) == 0
    assert [(standing.quota.limit, standing.used, standing.left) for standing in limits.left(relay, NOON)] == [
        (30, 30, 0),
        (100, 30, 70),
        (1000, 30, 970),
    ]


@pytest.mark.parametrize("wanted", [0, -1])
def test_who_wants_nothing_gets_nothing(relay: Relay, wanted: int) -> None:
    quota(relay, 10)
    assert take(relay, wanted, NOON) == 0
    assert not QuotaUse.objects.exists()


def test_a_refusal_writes_nothing(relay: Relay) -> None:
    quota(relay, 10)
    take(relay, 10, NOON)
    before = list(QuotaUse.objects.values())
    assert take(relay, 5, NOON) == 0
    assert list(QuotaUse.objects.values()) == before


def test_relays_do_not_count_each_others_mail(relay: Relay) -> None:
    other = Relay.objects.create(name="other", kind="memory")
    quota(relay, 10)
    quota(other, 10)
    assert take(relay, 10, NOON) == 10
    assert take(other, 10, NOON) == 10


def test_what_was_rolled_back_was_not_taken(relay: Relay) -> None:
    quota(relay, 10)
    with pytest.raises(RuntimeError), transaction.atomic():
        limits.take(relay, 10, NOON)
        raise RuntimeError
    assert take(relay, 10, NOON) == 10


def test_a_limit_that_was_lowered_holds_at_once_and_shows_nothing_left(relay: Relay) -> None:
    found = quota(relay, 100)
    take(relay, 80, NOON)
    Quota.objects.filter(pk=found.pk).update(limit=50)
    assert take(relay, 1, NOON) == 0
    [standing] = limits.left(relay, NOON)
    assert (standing.used, standing.left) == (80, 0)
    assert standing.opens_at


@pytest.mark.parametrize("period", Period.values)
def test_a_rolling_quota_opens_when_its_oldest_use_has_left_the_window_and_not_before(relay: Relay, period: str) -> None:
    quota(relay, 10, period)
    later = NOON + 3 * SLICE[Period(period)]
    assert take(relay, 4, NOON) == 4
    assert take(relay, 10, later) == 6
    opens = limits.opens_at(relay, later)
    assert opens is not None
    assert NOON + LENGTH[Period(period)] + TRAVEL[Period(period)] < opens <= NOON + LENGTH[Period(period)] * 1.05 + timedelta(days=1)
    assert take(relay, 10, opens - MOMENT) == 0
    assert limits.opens_at(relay, opens - MOMENT) == opens
    assert limits.opens_at(relay, opens) is None
    assert take(relay, 10, opens) == 4


def test_of_several_used_up_quotas_the_last_to_open_decides(relay: Relay) -> None:
    quota(relay, 10, Period.MINUTE)
    quota(relay, 10, Period.DAY, Kind.CALENDAR)
    take(relay, 10, NOON)
    assert limits.opens_at(relay, NOON) == datetime(2026, 3, 11, tzinfo=UTC)


def test_a_clock_that_was_set_back_opens_nothing(relay: Relay) -> None:
    quota(relay, 10)
    quota(relay, 10, Period.DAY, Kind.CALENDAR)
    take(relay, 10, NOON)
    assert take(relay, 1, NOON - timedelta(hours=3)) == 0
    assert take(relay, 1, NOON - timedelta(days=1)) == 0


def test_a_taker_that_waited_for_another_counts_no_earlier_than_that_one(relay: Relay) -> None:
    """Its `now` is from before it waited, and its mail leaves after."""
    quota(relay, 10, Period.MINUTE)
    take(relay, 5, NOON + timedelta(seconds=10))
    take(relay, 5, NOON)
    [use] = QuotaUse.objects.all()
    assert use.used == 10


def test_taking_costs_few_queries_however_many_slices_there_are(
    relay: Relay, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    quota(relay, 10_000)
    quota(relay, 100_000, Period.DAY)
    for minute in range(30):
        take(relay, 1, NOON + timedelta(minutes=minute))
    with django_assert_max_num_queries(8):  # savepoint and release, lock, sum, and two for each quota
        take(relay, 1, NOON + timedelta(minutes=31))


# ------------------------------------------------------------------------------------------------------------- giving back


def test_what_is_given_back_can_be_taken_again(relay: Relay) -> None:
    quota(relay, 10)
    take(relay, 10, NOON)
    give_back(relay, 4, NOON)
    assert limits.left(relay, NOON)[0].left == 4
    assert take(relay, 10, NOON) == 4


def test_no_more_comes_back_than_was_used(relay: Relay) -> None:
    quota(relay, 10)
    take(relay, 3, NOON)
    give_back(relay, 100, NOON)
    assert limits.left(relay, NOON)[0].used == 0
    assert take(relay, 100, NOON) == 10


def test_giving_back_what_others_counted_later_opens_no_window(relay: Relay) -> None:
    """One takes 90 and another, a minute later, 10, all of which leaves; then the first gives 50 back."""
    quota(relay, 100)
    second = NOON + timedelta(minutes=1)
    take(relay, 90, NOON)
    take(relay, 10, second)
    give_back(relay, 50, second, since=NOON)
    first_left = NOON + timedelta(hours=1) + SLICE[Period.HOUR] + TRAVEL[Period.HOUR]
    # 40 left with the first, 10 with the second: until an hour after the second, no more than 90 may follow it.
    assert take(relay, 50, second) == 50
    assert 10 + 50 + take(relay, 100, first_left) <= 100


def test_a_window_that_has_forgotten_the_take_gives_nothing_back(relay: Relay) -> None:
    quota(relay, 10, Period.MINUTE)
    quota(relay, 1000, Period.HOUR)
    take(relay, 10, NOON)
    later = NOON + timedelta(minutes=2)
    take(relay, 10, later)
    give_back(relay, 10, later, since=NOON)
    assert [(standing.quota.limit, standing.used) for standing in limits.left(relay, later)] == [(10, 10), (1000, 10)]


def test_over_midnight_the_new_day_gives_nothing_back(relay: Relay) -> None:
    quota(relay, 10, Period.DAY, Kind.CALENDAR)
    evening, morning = datetime(2026, 3, 10, 23, 50, tzinfo=UTC), datetime(2026, 3, 11, 0, 5, tzinfo=UTC)
    take(relay, 10, evening)
    take(relay, 10, morning)
    give_back(relay, 5, morning, since=evening)
    assert take(relay, 10, morning) == 0


def test_without_a_word_when_it_was_taken_only_long_windows_give_back(relay: Relay) -> None:
    quota(relay, 10, Period.MINUTE)
    quota(relay, 100, Period.HOUR)
    take(relay, 10, NOON)
    give_back(relay, 10, NOON)
    assert [standing.used for standing in limits.left(relay, NOON)] == [10, 0]


# ---------------------------------------------------------------------------------------------------------------- calendars


def span(period: str, time_zone: str, *now: int, fold: int = 0) -> tuple[str, str, timedelta]:
    """Start and end on that zone's clock, and how long that is, of the period in which a moment on the same clock lies."""
    zone = ZoneInfo(time_zone)
    moment = datetime(*now, tzinfo=zone, fold=fold).astimezone(UTC)
    start, end = limits.calendar(Quota(period=period, kind=Kind.CALENDAR, time_zone=time_zone), moment)
    assert start <= moment < end
    return f"{start.astimezone(zone):%m-%d %H:%M}", f"{end.astimezone(zone):%m-%d %H:%M}", end - start


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


@pytest.mark.parametrize(
    ("period", "time_zone", "now", "expected"),
    [
        (Period.DAY, "UTC", (2026, 3, 10, 12), ("03-10 00:00", "03-11 00:00", hours(24))),
        (Period.DAY, "Asia/Tokyo", (2026, 3, 10, 0), ("03-10 00:00", "03-11 00:00", hours(24))),
        (Period.DAY, "Asia/Tokyo", (2026, 3, 10, 23, 59, 59), ("03-10 00:00", "03-11 00:00", hours(24))),
        # Summer time begins and ends.
        (Period.DAY, "Europe/Berlin", (2026, 3, 29, 12), ("03-29 00:00", "03-30 00:00", hours(23))),
        (Period.DAY, "Europe/Berlin", (2026, 10, 25, 12), ("10-25 00:00", "10-26 00:00", hours(25))),
        (Period.DAY, "America/New_York", (2026, 3, 8, 12), ("03-08 00:00", "03-09 00:00", hours(23))),
        # At midnight itself: the day begins at one, and where the clock goes back to it, at the first of two.
        (Period.DAY, "Africa/Cairo", (2023, 4, 28, 12), ("04-28 01:00", "04-29 00:00", hours(23))),
        (Period.DAY, "Africa/Cairo", (2023, 4, 27, 12), ("04-27 00:00", "04-28 01:00", hours(24))),
        (Period.DAY, "America/Havana", (2025, 11, 2, 12), ("11-02 00:00", "11-03 00:00", hours(25))),
        (Period.MONTH, "UTC", (2026, 2, 28, 23), ("02-01 00:00", "03-01 00:00", hours(28 * 24))),
        (Period.MONTH, "UTC", (2028, 2, 29), ("02-01 00:00", "03-01 00:00", hours(29 * 24))),
        (Period.MONTH, "Asia/Tokyo", (2026, 12, 31, 23, 59), ("12-01 00:00", "01-01 00:00", hours(31 * 24))),
        (Period.MONTH, "Europe/Berlin", (2026, 3, 31), ("03-01 00:00", "04-01 00:00", hours(31 * 24 - 1))),
        (Period.HOUR, "Asia/Kolkata", (2026, 3, 10, 12, 29), ("03-10 12:00", "03-10 13:00", hours(1))),
        (Period.HOUR, "Asia/Kathmandu", (2026, 3, 10, 12, 59), ("03-10 12:00", "03-10 13:00", hours(1))),
        (Period.MINUTE, "Asia/Tokyo", (2026, 3, 10, 12, 59, 59), ("03-10 12:59", "03-10 13:00", timedelta(minutes=1))),
    ],
)
def test_calendar_periods_are_those_of_their_zones_clock(
    period: str, time_zone: str, now: tuple[int, ...], expected: tuple[str, str, timedelta]
) -> None:
    assert span(period, time_zone, *now) == expected


def test_an_hour_that_the_clock_shows_twice_is_two_hours() -> None:
    first = span(Period.HOUR, "Europe/Berlin", 2026, 10, 25, 2, 30, fold=0)
    second = span(Period.HOUR, "Europe/Berlin", 2026, 10, 25, 2, 30, fold=1)
    assert first == ("10-25 02:00", "10-25 02:00", hours(1))
    assert second == ("10-25 02:00", "10-25 03:00", hours(1))


@pytest.mark.parametrize("time_zone", ["Asia/Tokyo", "Europe/Berlin", "Africa/Cairo", "America/Havana", "Australia/Lord_Howe"])
@pytest.mark.parametrize("period", [Period.DAY, Period.MONTH])
def test_calendar_periods_follow_each_other_without_a_gap(time_zone: str, period: str) -> None:
    found = Quota(period=period, kind=Kind.CALENDAR, time_zone=time_zone)
    start, end = limits.calendar(found, datetime(2023, 1, 1, tzinfo=UTC))
    while end < datetime(2026, 1, 1, tzinfo=UTC):
        assert limits.calendar(found, end - MOMENT) == (start, end)
        start, following = limits.calendar(found, end)
        assert start == end
        end = following


def test_a_calendar_quota_opens_when_its_period_ends(relay: Relay) -> None:
    quota(relay, 10, Period.DAY, Kind.CALENDAR, "Asia/Tokyo")
    take(relay, 10, NOON)
    midnight = datetime(2026, 3, 11, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert limits.opens_at(relay, NOON) == midnight
    assert take(relay, 1, midnight - MOMENT) == 0
    assert take(relay, 10, midnight) == 10


def test_nothing_is_taken_in_the_last_moments_of_a_period_since_it_could_arrive_in_the_next(relay: Relay) -> None:
    quota(relay, 10, Period.HOUR, Kind.CALENDAR)
    end = datetime(2026, 3, 10, 13, tzinfo=UTC)
    closing = end - TRAVEL[Period.HOUR]
    assert take(relay, 1, closing - MOMENT) == 1
    assert take(relay, 1, closing) == 0
    assert limits.opens_at(relay, closing) == end
    assert limits.left(relay, closing)[0].left == 9


@pytest.mark.parametrize("name", ["", "Tokyo", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "localtime", "Asia", "Asia/Tokyo "])
def test_a_time_zone_that_does_not_exist_is_refused_at_its_field(relay: Relay, name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Quota(relay=relay, limit=1, kind=Kind.CALENDAR, time_zone=name).full_clean()
    assert "time_zone" in refused.value.message_dict


@pytest.mark.parametrize("name", ["UTC", "Asia/Tokyo", "America/Argentina/Buenos_Aires", "Etc/GMT-9"])
def test_time_zones_of_the_world_are_taken(relay: Relay, name: str) -> None:
    Quota(relay=relay, limit=1, kind=Kind.CALENDAR, time_zone=name).full_clean()


# ------------------------------------------------------------------------------------------------------------------- always

QUOTAS = st.tuples(
    st.integers(1, 60),
    st.sampled_from(Period.values),
    st.sampled_from(Kind.values),
    st.sampled_from(["UTC", "Asia/Tokyo", "Europe/Berlin", "Asia/Kolkata"]),
)
# How long after the last, of the shortest period that is used; how many; how many of them come back; how much later.
STEPS = st.lists(st.tuples(st.floats(0, 0.7), st.integers(1, 70), st.integers(0, 20), st.floats(0, 0.5)), min_size=1, max_size=25)
STARTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))


@effort(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(QUOTAS, min_size=1, max_size=3, unique_by=lambda found: found[:3]), STEPS, STARTS)
def test_whatever_is_taken_and_given_back_no_window_is_ever_exceeded(
    relay: Relay, quotas: list[tuple[int, str, str, str]], steps: list[tuple[float, int, int, float]], start: datetime
) -> None:
    Quota.objects.filter(relay=relay).delete()
    made = [quota(relay, *described) for described in quotas]
    unit = min(LENGTH[Period(found.period)] for found in made)
    now = start
    sent: list[tuple[datetime, int]] = []
    for wait, wanted, back, held in steps:
        now += wait * unit
        taken_at, granted = now, take(relay, wanted, now)
        back = min(back, granted)
        now += held * unit
        if back:
            give_back(relay, back, now, since=taken_at)
        sent.append((taken_at, granted - back))
    for found in made:
        if found.kind == Kind.CALENDAR:
            periods: Counter[datetime] = Counter()
            for moment, count in sent:
                periods[limits.calendar(found, moment)[0]] += count
                # It may arrive a little later, and must not be in the next period then.
                assert (
                    not count
                    or limits.calendar(found, moment + TRAVEL[Period(found.period)] - MOMENT)[0] == limits.calendar(found, moment)[0]
                )
            assert max(periods.values()) <= found.limit
        else:
            length = LENGTH[Period(found.period)] + TRAVEL[Period(found.period)]
            for begin, _count in sent:
                assert sum(count for moment, count in sent if begin <= moment <= begin + length) <= found.limit


@effort(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(QUOTAS, st.integers(1, 70), STARTS)
def test_when_there_is_enough_to_send_nearly_all_that_may_be_sent_is(
    relay: Relay, described: tuple[int, str, str, str], wanted: int, start: datetime
) -> None:
    Quota.objects.filter(relay=relay).delete()
    found = quota(relay, *described)
    periods = 12
    now, total = start, 0
    end = start + periods * LENGTH[Period(found.period)]
    if found.kind == Kind.CALENDAR:
        # Months are shorter than the longest: as many as there are.
        now = limits.calendar(found, start)[1]
        end = now
        for _ in range(periods):
            end = limits.calendar(found, end)[1]
    while now < end:
        granted = take(relay, wanted, now)
        total += granted
        now = now + timedelta(seconds=0.01) if granted else limits.opens_at(relay, now) or now + timedelta(seconds=1)
    assert total >= 0.95 * found.limit * periods


# -------------------------------------------------------------------------------------------------------------- all at once


needs_row_locks = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_fifty_workers_take_a_hundred_an_hour_and_never_one_more(relay: Relay) -> None:
    quota(relay, 100)
    quota(relay, 5000, Period.DAY, Kind.CALENDAR, "Asia/Tokyo")

    def work() -> int:
        total = 0
        while granted := take(relay, 3, clock.now()):
            total += granted
        return total

    assert sum(at_once(50, work)) == 100
    assert take(relay, 1, clock.now()) == 0
    assert [standing.used for standing in limits.left(relay, clock.now())] == [100, 100]


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_those_who_take_and_those_who_give_back_do_not_stop_each_other(relay: Relay) -> None:
    for period in Period.values:
        quota(relay, 1000, period)
    started = clock.now()

    def work() -> int:
        kept = 0
        for _ in range(10):
            granted = take(relay, 5, clock.now())
            give_back(relay, 2, clock.now(), since=started)
            kept += granted - 2
        return kept

    kept = sum(at_once(20, work))
    assert kept == 20 * 10 * 3
    assert [standing.used for standing in limits.left(relay, clock.now())] == [kept] * 4


# ---------------------------------------------------------------------------------------------------------------- forgetting


def test_old_slices_are_forgotten_and_what_counts_is_kept(relay: Relay) -> None:
    quota(relay, 10, Period.MONTH)
    take(relay, 3, NOON - timedelta(days=70))
    take(relay, 4, NOON - timedelta(days=20))
    assert limits.prune(NOON - timedelta(days=62)) == 1
    assert limits.left(relay, NOON)[0].used == 4
