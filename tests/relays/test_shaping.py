from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from mailhub.lib import clock
from mailhub.relays import shaping
from mailhub.relays.models import Destination, Pace, Parking, Relay, ResponseRule, Slowdown
from mailhub.relays.providers.memory import Memory
from mailhub.relays.shaping import Openings, Terms
from tests.at_once import at_once

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


@pytest.fixture
def relay(db: None) -> Relay:
    return Relay.objects.create(name="Dry run", kind="memory")


@pytest.fixture
def direct(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> Relay:
    """Mail leaves from addresses of our own."""
    monkeypatch.setattr(Memory, "uses_pool", True)
    return relay


def park(relay: Relay, destination: str, seconds: float, sender_domain: str = "", allowance: int = 10) -> None:
    now = clock.now()
    Parking.objects.create(
        relay=relay,
        destination_id=destination,
        sender_domain=sender_domain,
        since=now,
        until=now + seconds * SECOND,
        allowance=allowance,
        reason="Rest",
    )


def slow(relay: Relay, destination: str, rule: str, seconds: float = 60, **fields: object) -> None:
    now = clock.now()
    Slowdown.objects.create(
        relay=relay, destination_id=destination, rule=ResponseRule.objects.get(key=rule), since=now, until=now + seconds * SECOND, **fields
    )


@transaction.atomic
def take(relay: Relay, destination: str, wanted: int, now: datetime, sender_domain: str = "tea.example") -> int:
    """As a claim does; returns how many might go."""
    openings = Openings(relay, now, hold=True)
    room = openings.of(destination, sender_domain)
    granted = wanted if room is None else min(wanted, room)
    if granted:
        openings.take(destination, sender_domain, granted)
        openings.write({(destination, sender_domain): granted})
    return granted


# -------------------------------------------------------------------------------------------------------------------------- terms


def test_limits_of_destinations_hold_for_addresses_of_our_own_alone(direct: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    terms = shaping.terms(direct, clock.now())
    assert terms.keys() == set(Destination.objects.values_list("pk", flat=True))
    assert terms["docomo"] == Terms(connections=2, spacing=SECOND / 5)
    assert terms["gmail"] == Terms(connections=5)
    assert terms["other"] == Terms()
    monkeypatch.setattr(Memory, "uses_pool", False)
    assert set(shaping.terms(direct, clock.now()).values()) == {Terms()}


def test_what_replies_asked_for_holds_for_any_relay_and_its_time(relay: Relay) -> None:
    slow(relay, "gmail", "gmail-rate", rate=10, per="minute")
    slow(relay, "gmail", "any-deferred", rate=1, per="minute", connections=1)
    slow(relay, "docomo", "gmail-rate", seconds=-1, rate=1)
    other = Relay.objects.create(name="Other", kind="memory")
    assert shaping.terms(relay, clock.now())["gmail"] == Terms(connections=1, spacing=timedelta(minutes=1))
    assert shaping.terms(relay, clock.now())["docomo"] == Terms()
    assert shaping.terms(other, clock.now())["gmail"] == Terms()


def test_the_strictest_limit_decides(direct: Relay) -> None:
    slow(direct, "docomo", "docomo-unknown", rate=100, per="second", connections=9)
    assert shaping.terms(direct, clock.now())["docomo"] == Terms(connections=2, spacing=SECOND / 5)


# -------------------------------------------------------------------------------------------------------------------------- rates


def test_what_has_no_limit_may_all_go(relay: Relay) -> None:
    assert take(relay, "gmail", 100_000, clock.now()) == 100_000
    assert not Pace.objects.exists()


def test_a_rate_lets_go_what_flows_in(direct: Relay) -> None:
    now = clock.now()
    # A second's, and one more.
    assert take(direct, "docomo", 100, now) == 6
    assert take(direct, "docomo", 100, now) == 0
    assert Openings(direct, now).opens["docomo"] == now + SECOND / 5
    assert take(direct, "docomo", 100, now + SECOND / 5) == 1
    assert take(direct, "docomo", 100, now + SECOND) == 4
    assert take(direct, "docomo", 100, now + timedelta(hours=1)) == 6
    # Others have not been held up by it.
    assert take(direct, "softbank", 100, now) == 6
    assert "other" not in Openings(direct, now).opens


def test_a_slow_rate_is_kept_though_wake_ups_are_late(relay: Relay) -> None:
    slow(relay, "gmail", "gmail-rate", seconds=7200, rate=10, per="minute")
    now = clock.now()
    # Somebody looks every five seconds; a mail is due every six.
    assert sum(take(relay, "gmail", 100, now + number * 5 * SECOND) for number in range(12 * 60)) in (600, 601)


@effort(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    rate=st.integers(1, 50),
    per=st.sampled_from(["second", "minute", "hour"]),
    visits=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 60)), min_size=1, max_size=12),
)
def test_in_no_time_does_more_leave_than_the_rate_and_its_bucket(
    direct: Relay, rate: int, per: str, visits: list[tuple[float, int]]
) -> None:
    Pace.objects.all().delete()
    Destination.objects.filter(pk="docomo").update(rate=rate, per=per)
    every = {"second": 1, "minute": 60, "hour": 3600}[per] / rate
    bucket = 1 + max(int(1 / every), 1)
    moment, taken = clock.now(), []
    for wait, wanted in visits:
        moment += wait * SECOND
        taken.append((moment, take(direct, "docomo", wanted, moment)))
    for start, _count in taken:
        left = 0
        for when, count in taken:
            if when >= start:
                left += count
                assert left <= bucket + (when - start).total_seconds() / every + 1e-3


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_many_workers_together_keep_to_the_rate(direct: Relay) -> None:
    Destination.objects.filter(pk="docomo").update(rate=20)
    began = clock.now()
    got = at_once(10, lambda: sum(take(direct, "docomo", 3, clock.now()) for _time in range(10)))
    passed = (clock.now() - began).total_seconds()
    assert 21 <= sum(got) <= 21 + 20 * passed


# ------------------------------------------------------------------------------------------------------------------------ parkings


def test_what_is_parked_is_closed_and_nothing_else(relay: Relay) -> None:
    park(relay, "gmail", 60)
    park(relay, "au", 60, sender_domain="tea.example")
    openings = Openings(relay, clock.now())
    assert openings.of("gmail", "tea.example") == 0
    assert openings.of("docomo", "tea.example") is None
    assert openings.of("au", "tea.example") == 0
    assert openings.of("au", "coffee.example") is None
    other = Relay.objects.create(name="Other", kind="memory")
    assert Openings(other, clock.now()).of("gmail", "tea.example") is None


def test_after_a_rest_a_few_are_tried_and_the_rest_waits_for_them(relay: Relay) -> None:
    park(relay, "gmail", -1, allowance=10)
    now = clock.now()
    # Nothing was there to be tried.
    assert take(relay, "gmail", 0, now) == 0
    assert take(relay, "gmail", 500, now) == 10
    assert Parking.objects.get().probing
    assert take(relay, "gmail", 500, now) == 0
    # No word of them: their worker may be dead.
    assert take(relay, "gmail", 500, now + shaping.PROBE_FOR) == 10


def test_what_is_tried_of_one_sender_holds_nobody_else_up(relay: Relay) -> None:
    park(relay, "gmail", -1, sender_domain="tea.example")
    now = clock.now()
    assert take(relay, "gmail", 500, now, "coffee.example") == 500
    assert not Parking.objects.get().probing
    assert take(relay, "gmail", 500, now, "tea.example") == 10
    assert take(relay, "gmail", 500, now, "tea.example") == 0


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_of_many_workers_that_come_at_once_after_a_rest_one_tries(relay: Relay) -> None:
    park(relay, "gmail", -1)
    got = Counter(at_once(8, lambda: take(relay, "gmail", 500, clock.now())))
    assert got == {10: 1, 0: 7}


def test_what_ended_long_ago_is_forgotten(relay: Relay) -> None:
    park(relay, "gmail", -100)
    park(relay, "docomo", 100)
    slow(relay, "gmail", "gmail-rate", seconds=-100, rate=1)
    slow(relay, "au", "gmail-rate", seconds=100, rate=1)
    shaping.prune(clock.now() - 50 * SECOND)
    assert [row.destination_id for row in Parking.objects.all()] == ["docomo"]
    assert [row.destination_id for row in Slowdown.objects.all()] == ["au"]
