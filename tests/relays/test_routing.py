from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from mailhub.lib import clock
from mailhub.relays import routing
from mailhub.relays.models import Destination, IPPool, Parking, Relay, Route, RouteMember
from mailhub.relays.routing import Choice

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


def why(relay: Relay, destination: str) -> tuple[Choice, int]:
    (share,) = [share for share in routing.shares(relay, clock.now()) if destination in share.destinations]
    return share.choice, share.percent


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


def test_a_share_says_why_the_relay_takes_it(route: Route) -> None:
    one = member(route, "one")
    assert why(one, "gmail") == (Choice.ONLY, 100)
    spare = member(route, "spare", position=2)
    assert why(one, "gmail") == (Choice.FIRST, 100)
    two = member(route, "two", weight=3)
    assert [why(one, "gmail"), why(two, "gmail")] == [(Choice.SHARE, 25), (Choice.SHARE, 75)]
    RouteMember.objects.get(relay=two).destinations.add("docomo")
    assert why(two, "docomo") == (Choice.MEANT, 100) and why(one, "gmail") == (Choice.FIRST, 100)
    rest(two, 60)
    assert why(one, "docomo") == (Choice.STAND_IN, 100) and why(one, "gmail") == (Choice.FIRST, 100)
    one.pause()
    assert why(spare, "docomo") == why(spare, "gmail") == (Choice.STAND_IN, 100)


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


NEWS, SHOP = "news@tea.example", "shop@tea.example"


def taken(relay: Relay, stream: str = "campaign", sender: str = NEWS, destination: str = "gmail", pool: int | None = None) -> bool:
    """Whether the relay takes any such mail now."""
    found = routing.shares(relay, clock.now())
    return any(destination in share.destinations and share.kind.covers(stream, sender, pool) for share in found)


@pytest.mark.parametrize("senders", ["news@tea.example", "tea.example", "cake.example\nnews@tea.example"])
def test_a_relay_for_some_senders_takes_their_mail_and_no_other(route: Route, senders: str) -> None:
    some, rest_of_it = member(route, "some", position=2), member(route, "rest")
    RouteMember.objects.filter(relay=some).update(senders=senders)
    assert taken(some) and not taken(rest_of_it)
    assert taken(some, sender="NEWS@tea.example")
    assert taken(rest_of_it, sender="news@coffee.example") and not taken(some, sender="news@coffee.example")
    by_domain = "tea.example" in senders.split()
    assert (taken(some, sender=SHOP), taken(rest_of_it, sender=SHOP)) == (by_domain, not by_domain)


def test_a_relay_for_one_kind_of_mail_leaves_the_other_to_the_rest(route: Route) -> None:
    bulk, rest_of_it = member(route, "bulk"), member(route, "rest")
    RouteMember.objects.filter(relay=bulk).update(stream="campaign")
    assert taken(bulk, "campaign") and not taken(bulk, "transactional")
    assert taken(rest_of_it, "transactional") and not taken(rest_of_it, "campaign")
    # It steps in when the other cannot.
    rest(bulk, 60)
    assert taken(rest_of_it, "campaign")


def test_all_conditions_of_a_relay_have_to_be_met(route: Route) -> None:
    choosy, rest_of_it = member(route, "choosy"), member(route, "rest")
    RouteMember.objects.filter(relay=choosy).update(stream="campaign", senders=NEWS)
    RouteMember.objects.get(relay=choosy).destinations.add("docomo")
    assert taken(choosy, "campaign", NEWS, "docomo")
    for other in (("transactional", NEWS, "docomo"), ("campaign", SHOP, "docomo"), ("campaign", NEWS, "gmail")):
        assert not taken(choosy, *other) and taken(rest_of_it, *other)


def test_of_relays_with_conditions_the_lowest_position_decides(route: Route) -> None:
    first, second = member(route, "first"), member(route, "second", position=2)
    RouteMember.objects.filter(relay=first).update(senders="tea.example")
    RouteMember.objects.filter(relay=second).update(senders=NEWS)
    assert taken(first) and not taken(second)
    rest(first, 60)
    assert taken(second) and not taken(second, sender=SHOP)
    # Nobody else takes shop's mail: it waits for the first.
    assert not taken(first, sender=SHOP)


def test_a_dedicated_pool_carries_the_mail_of_senders_that_name_it(route: Route) -> None:
    pool = IPPool.objects.create(name="ours", kind="dedicated")
    own, rest_of_it = member(route, "own"), member(route, "rest", position=2)
    Relay.objects.filter(pk=own.pk).update(kind="mx", pool=pool)
    own.refresh_from_db()
    assert taken(own, pool=pool.pk) and not taken(rest_of_it, pool=pool.pk)
    assert taken(rest_of_it) and not taken(own)
    pool.kind = "shared"
    pool.save()
    assert taken(own)


@effort(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.integers(1, 2),
            st.sampled_from(["", "campaign", "transactional"]),
            st.lists(st.sampled_from([NEWS, SHOP, "tea.example", "cake.example"]), max_size=2, unique=True),
            st.sampled_from([(), ("gmail",), ("gmail", "docomo")]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_the_conditions_every_mail_has_one_relay_or_waits_for_one_that_may(
    route: Route, members: list[tuple[int, str, list[str], tuple[str, ...]]]
) -> None:
    RouteMember.objects.all().delete()
    Relay.objects.all().delete()
    relays = []
    for number, (position, stream, senders, keys) in enumerate(members):
        relays.append(member(route, f"relay {number}", position))
        row = RouteMember.objects.get(relay=relays[-1])
        row.destinations.set(keys)
        RouteMember.objects.filter(pk=row.pk).update(stream=stream, senders="\n".join(senders))
    now = clock.now()
    shares = [(relay, share) for relay in relays for share in routing.shares(relay, now)]
    for stream, sender, key in itertools.product(("campaign", "transactional"), (NEWS, "a@cake.example", "a@b.example"), ("gmail", "au")):
        may = [
            relay
            for relay, (_position, wanted, senders, keys) in zip(relays, members, strict=True)
            if wanted in ("", stream) and (not senders or {sender, sender.partition("@")[2]} & set(senders)) and (not keys or key in keys)
        ]
        for message in range(4):
            takers = [
                relay
                for relay, share in shares
                if key in share.destinations and share.kind.covers(stream, sender, None) and share.low <= message % share.total < share.high
            ]
            assert len(takers) == min(len(may), 1) and set(takers) <= set(may)


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
