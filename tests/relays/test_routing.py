from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from mailhub.lib import clock
from mailhub.relays import routing
from mailhub.relays.models import Destination, Parking, Relay, Route, RouteMember

pytestmark = pytest.mark.django_db


@pytest.fixture
def route() -> Route:
    return Route.objects.create(name="route")


def member(route: Route, name: str, position: int = 1, weight: int = 1) -> Relay:
    relay, _made = Relay.objects.get_or_create(name=name, defaults={"kind": "memory"})
    RouteMember.objects.create(route=route, relay=relay, position=position, weight=weight)
    return relay


def serving(route: Route) -> list[str]:
    return [found.relay.name for found in routing.serving(route, clock.now())]


def everywhere() -> frozenset[str]:
    return frozenset(Destination.objects.values_list("pk", flat=True))


def goes(relay: Relay, destination: str) -> list[tuple[int, int, int]]:
    """The parts of mail to the destination that the relay takes."""
    return [(share.low, share.high, share.total) for share in routing.shares(relay, clock.now()) if destination in share.destinations]


def park(relay: Relay, destination: str, seconds: float, **fields: object) -> None:
    now = clock.now()
    Parking.objects.create(
        relay=relay, destination_id=destination, since=now, until=now + timedelta(seconds=seconds), allowance=10, reason="", **fields
    )


def rest(relay: Relay, seconds: float) -> None:
    Relay.objects.filter(pk=relay.pk).update(resting_until=clock.now() + timedelta(seconds=seconds))


def test_the_first_relay_takes_all_while_it_can(route: Route) -> None:
    member(route, "first")
    member(route, "second", position=2)
    assert serving(route) == ["first"]


def test_when_it_rests_or_is_paused_the_next_takes_over_and_gives_back(route: Route) -> None:
    first, second = member(route, "first"), member(route, "second", position=2)
    rest(first, 60)
    assert serving(route) == ["second"]
    rest(first, -1)
    assert serving(route) == ["first"]
    first.pause()
    assert serving(route) == ["second"]
    second.pause()
    assert serving(route) == []
    first.refresh_from_db()
    first.resume()
    assert serving(route) == ["first"]


def test_relays_of_one_position_share_by_weight(route: Route) -> None:
    one, two = member(route, "one", weight=3), member(route, "two", weight=1)
    now = clock.now()
    assert routing.shares(one, now) == [routing.Share(route.pk, None, 0, 3, 4, everywhere())]
    assert routing.shares(two, now) == [routing.Share(route.pk, None, 3, 4, 4, everywhere())]


def test_of_relays_that_share_those_that_are_left_take_the_others_part(route: Route) -> None:
    one, two, three = (member(route, name, weight=weight) for name, weight in (("one", 3), ("two", 1), ("three", 2)))
    member(route, "spare", position=2)
    rest(one, 60)
    now = clock.now()
    assert routing.shares(one, now) == []
    assert routing.shares(two, now) == [routing.Share(route.pk, None, 0, 1, 3, everywhere())]
    assert routing.shares(three, now) == [routing.Share(route.pk, None, 1, 3, 3, everywhere())]


def test_a_relay_serves_each_of_its_routes(route: Route) -> None:
    relay = member(route, "relay")
    other = Route.objects.create(name="other")
    member(other, "preferred")
    member(other, "relay", position=2)
    assert [share.route for share in routing.shares(relay, clock.now())] == [route.pk]
    Relay.objects.get(name="preferred").pause()
    assert {share.route for share in routing.shares(relay, clock.now())} == {route.pk, other.pk}


def test_a_relay_in_no_route_serves_none() -> None:
    assert routing.shares(Relay.objects.create(name="alone", kind="memory"), clock.now()) == []


def test_a_secret_that_no_key_opens_takes_only_its_own_relay_away(route: Route) -> None:
    member(route, "one")
    member(route, "two")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE relays_relay SET secrets = 'not ours' WHERE name = 'two'")
    assert serving(route) == ["one", "two"]


def test_a_relay_that_names_a_destination_takes_its_mail_before_those_that_take_everything(route: Route) -> None:
    one, two = member(route, "one"), member(route, "two")
    member(route, "spare", position=2)
    RouteMember.objects.get(relay=two).destinations.add("docomo", "au")
    assert goes(two, "docomo") == goes(two, "au") == [(0, 1, 1)]
    assert goes(one, "docomo") == goes(two, "gmail") == []
    assert goes(one, "gmail") == [(0, 1, 1)]
    # Either may have something to do.
    assert serving(route) == ["one", "two"]
    rest(two, 60)
    assert goes(one, "docomo") == [(0, 1, 1)]
    assert goes(two, "docomo") == []


def test_where_a_destination_is_parked_its_mail_takes_the_next_relay_and_no_other_does(route: Route) -> None:
    first, second = member(route, "first"), member(route, "second", position=2)
    park(first, "gmail", 60)
    assert goes(first, "gmail") == []
    assert goes(second, "gmail") == [(0, 1, 1)]
    assert goes(first, "docomo") == [(0, 1, 1)]
    assert goes(second, "docomo") == []


def test_a_destination_that_is_tried_again_goes_through_both_until_it_has_recovered(route: Route) -> None:
    first, second = member(route, "first"), member(route, "second", position=2)
    park(first, "gmail", -1)
    assert goes(first, "gmail") == goes(second, "gmail") == [(0, 1, 1)]
    Parking.objects.all().delete()
    assert goes(first, "gmail") == [(0, 1, 1)]
    assert goes(second, "gmail") == []


def test_what_is_wrong_with_a_sender_is_no_better_through_another_relay(route: Route) -> None:
    first, second = member(route, "first"), member(route, "second", position=2)
    park(first, "gmail", 60, sender_domain="tea.example")
    assert goes(first, "gmail") == [(0, 1, 1)]
    assert goes(second, "gmail") == []


@effort(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5), st.booleans()), min_size=1, max_size=6))
def test_every_message_has_exactly_one_relay_while_any_is_available(route: Route, members: list[tuple[int, int, bool]]) -> None:
    RouteMember.objects.all().delete()
    Relay.objects.all().delete()
    relays = []
    for number, (position, weight, available) in enumerate(members):
        relay = member(route, f"relay {number}", position, weight)
        if not available:
            relay.pause()
        relays.append(relay)
    now = clock.now()
    shares = [share for relay in relays for share in routing.shares(relay, now)]
    expected = 1 if any(available for _position, _weight, available in members) else 0
    for message in range(60):
        takers = [share for share in shares if share.low <= message % share.total < share.high]
        assert len(takers) == expected
