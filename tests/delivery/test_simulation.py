"""What the simulator says is what a claim does."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from mailhub.delivery import queue, simulation
from mailhub.delivery.models import Batch, Lease, Message, Suppression
from mailhub.delivery.route_forms import SimulationForm
from mailhub.lib import clock
from mailhub.relays import destinations, limits
from mailhub.relays.models import Destination, KnownDomain, Parking, Quota, Relay, Route, RouteMember, Stream
from mailhub.relays.routing import Bar
from mailhub.senders.models import Sender
from tests.delivery.world import make_batch, make_relay, make_route, make_sender, post

pytestmark = pytest.mark.django_db
numbers = count(1)

WHO = st.sampled_from(["", "shop@tea.example", "tea.example", "other.example"])
MEMBER = st.fixed_dictionaries(
    {
        "position": st.integers(1, 2),
        "weight": st.integers(1, 3),
        "stream": st.sampled_from(["", *Stream.values]),
        "senders": WHO,
        "to_gmail": st.booleans(),
        "status": st.sampled_from(["active", "active", "paused"]),
        "resting": st.booleans(),
        "spent": st.booleans(),
        "parked": st.booleans(),
        "parked_for_us": st.booleans(),
    }
)


@pytest.fixture
def gmail() -> Destination:
    KnownDomain.objects.get_or_create(domain="gmail.com", defaults={"destination_id": "gmail"})
    destinations.forget()
    return Destination.objects.get(pk="gmail")


def set_up(route: Route, given: dict[str, object], gmail: Destination) -> Relay:
    now = clock.now()
    relay = make_relay(status=given["status"], resting_until=now + timedelta(hours=1) if given["resting"] else None)
    member = RouteMember.objects.create(
        route=route, relay=relay, **{name: given[name] for name in ("position", "weight", "stream", "senders")}
    )
    if given["to_gmail"]:
        member.destinations.add(gmail)
    if given["spent"]:
        Quota.objects.create(relay=relay, limit=1, period=Quota.Period.DAY)
        limits.take(relay, 1, now)
    for domain, wanted in (("", given["parked"]), ("tea.example", given["parked_for_us"])):
        if wanted:
            key = {"relay": relay, "destination": gmail, "sender_domain": domain, "reason": "Busy", "allowance": 10}
            Parking.objects.create(since=now, until=now + timedelta(hours=1), **key)
    return relay


@effort(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    members=st.lists(MEMBER, min_size=1, max_size=3), stream=st.sampled_from(Stream.values), to=st.sampled_from(["gmail.com", "a.example"])
)
def test_the_simulator_names_the_relays_that_a_claim_lets_have_the_mail(
    gmail: Destination, members: list[dict[str, object]], stream: str, to: str
) -> None:
    Sender.objects.filter(email="shop@tea.example").update(email=f"gone{next(numbers)}@tea.example")
    route = make_route()
    sender = make_sender("shop@tea.example", transactional_route=route, campaign_route=route)
    relays = [set_up(route, given, gmail) for given in members]
    answer = simulation.ask(sender, stream, f"taro@{to}")
    said = {way.relay.pk: way.percent for way in answer.chosen}
    # So many that each share has some of them, whatever their numbers.
    addresses = [f"taro{number}@{to}" for number in range(12)]
    if stream == Stream.CAMPAIGN:
        make_batch(sender, *addresses)
    else:
        post(sender, *addresses)
    # The first round lets relays rest that have nothing left, as drains do; whom that leaves the mail to, the second tells.
    got: dict[int, int] = {}
    for _round in range(2):
        for relay in relays:
            lease = queue.take_lease(relay, "bulk")
            if lease and (claimed := queue.claim(lease, 100)):
                got[relay.pk] = got.get(relay.pk, 0) + len(claimed)
    assert got.keys() == said.keys()
    for taker, percent in said.items():
        assert abs(100 * got[taker] / 12 - percent) <= 17
    assert answer.waits == (not got)
    Message.objects.all().delete()
    Lease.objects.all().delete()


def bars(sender: Sender, address: str = "taro@gmail.com", stream: str = Stream.TRANSACTIONAL) -> dict[str, Bar | None]:
    return {way.relay.name: way.place.bar for way in simulation.ask(sender, stream, address).ways}


def test_each_relay_that_is_not_chosen_says_why(gmail: Destination) -> None:
    now = clock.now()
    route = make_route(default_for=Stream.TRANSACTIONAL)
    sender = make_sender("shop@tea.example")
    first, spent, resting, paused, others = (make_relay(name) for name in ("first", "spent", "resting", "paused", "others"))
    for relay in (spent, resting, paused, first):
        RouteMember.objects.create(route=route, relay=relay, position=1 if relay != first else 2)
    RouteMember.objects.create(route=route, relay=others, senders="cafe.example")
    RouteMember.objects.create(route=route, relay=make_relay("last"), position=3)
    RouteMember.objects.create(route=route, relay=make_relay("campaigns"), stream=Stream.CAMPAIGN)
    RouteMember.objects.create(route=route, relay=make_relay("elsewhere")).destinations.add("docomo")
    Quota.objects.create(relay=spent, limit=5, period=Quota.Period.DAY, kind=Quota.Kind.CALENDAR, time_zone="Asia/Tokyo")
    limits.take(spent, 5, now)
    Relay.objects.filter(pk=resting.pk).update(resting_until=now + timedelta(hours=1), rest_reason="535 no")
    paused.pause("Too many complaints.")
    assert bars(sender) == {
        "first": None, "spent": Bar.QUOTA, "resting": Bar.RESTING, "paused": Bar.PAUSED, "others": Bar.SENDER, "last": Bar.BEHIND,
        "campaigns": Bar.STREAM, "elsewhere": Bar.DESTINATION,
    }  # fmt: skip
    words = " ".join(way.why for way in simulation.ask(sender, Stream.TRANSACTIONAL, "taro@gmail.com").ways)
    for said in ("535 no", "Too many complaints.", "cafe.example", "used up", "the first that takes"):
        assert said in words


def test_what_would_not_be_sent_at_all_says_so(sender: Sender) -> None:
    assert not simulation.ask(sender, Stream.CAMPAIGN, "taro@example.net").refused
    Suppression.objects.create(address="taro@example.net", scope=Suppression.Scope.CAMPAIGN)
    assert "suppression" in simulation.ask(sender, Stream.CAMPAIGN, "Taro@example.net").refused
    assert not simulation.ask(sender, Stream.TRANSACTIONAL, "taro@example.net").refused
    sender.disable()
    assert "disabled" in simulation.ask(sender, Stream.TRANSACTIONAL, "hana@example.net").refused


def test_a_campaign_that_names_a_route_goes_by_that() -> None:
    usual, special = make_relay("usual"), make_relay("special")
    make_route(usual, default_for=Stream.CAMPAIGN)
    own = make_route(special)
    sender = make_sender("shop@tea.example")
    answer = simulation.ask(sender, Stream.CAMPAIGN, "taro@example.net", own)
    assert [way.relay for way in answer.chosen] == [special] and answer.route == own and "campaign names" in answer.by
    assert [way.relay for way in simulation.ask(sender, Stream.CAMPAIGN, "taro@example.net").chosen] == [usual]
    # A claim sees it so, too.
    Batch.objects.filter(pk=make_batch(sender, "taro@example.net").pk).update(route=own)
    for relay, taken in ((usual, 0), (special, 1)):
        lease = queue.take_lease(relay, "bulk")
        assert lease and len(queue.claim(lease, 10)) == taken


def test_only_campaigns_name_a_route() -> None:
    sender, route = make_sender("shop@tea.example"), make_route()
    asked = {"sender": sender.pk, "route": route.pk, "to": "taro@example.net"}
    form = SimulationForm({**asked, "stream": Stream.TRANSACTIONAL})
    assert list(form.errors) == ["route"] and "Only campaigns" in str(form.errors)
    assert SimulationForm({**asked, "stream": Stream.CAMPAIGN}).is_valid()


def test_looking_changes_nothing(relay: Relay, sender: Sender) -> None:
    Quota.objects.create(relay=relay, limit=1, period=Quota.Period.DAY)
    limits.take(relay, 1, clock.now())
    simulation.ask(sender, Stream.TRANSACTIONAL, "taro@example.net")
    relay.refresh_from_db()
    assert relay.resting_until is None
