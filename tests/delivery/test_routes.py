"""Routes in the admin: what staff change holds from the next claim on, and the page says what it comes to."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from mailhub.delivery import queue
from mailhub.delivery.models import Lease, Message
from mailhub.relays.models import Destination, Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender
from tests.delivery.world import hold, make_batch, make_relay, make_sender, post

pytestmark = pytest.mark.django_db


@pytest.fixture
def route(relay: Relay) -> Route:
    return Route.objects.get(default_for=Stream.CAMPAIGN)


@pytest.fixture
def other(route: Route) -> Relay:
    relay = Relay.objects.create(name="Other", kind="memory")
    RouteMember.objects.create(route=route, relay=relay, position=2)
    return relay


def save(client: Client, route: Route, *changes: dict[str, Any]) -> Any:
    """Save the route's form, its relays in order of position with these changes."""
    members = list(route.members.order_by("position", "pk"))
    given: dict[str, Any] = {"name": route.name, "default_for": route.default_for or ""}
    given |= {"members-TOTAL_FORMS": len(members), "members-INITIAL_FORMS": len(members)}
    for number, member in enumerate(members):
        row = {
            "id": member.pk,
            "route": route.pk,
            "relay": member.relay_id,
            "position": member.position,
            "weight": member.weight,
            "stream": member.stream,
            "senders": member.senders,
            "destinations": [each.pk for each in member.destinations.all()],
            **(changes[number] if number < len(changes) else {}),
        }
        given |= {f"members-{number}-{name}": value for name, value in row.items()}
    return client.post(page_of(route), given, follow=True)


def page_of(route: Route) -> str:
    return reverse("admin:relays_route_change", args=[route.pk])


def claimed(relay: Relay, limit: int = 1000) -> list[Message]:
    return queue.claim(Lease.objects.filter(relay=relay).first() or hold(relay), limit)


def words(client: Client, route: Route) -> str:
    section = client.get(page_of(route)).content.decode().partition('<section class="panel overview">')[2].partition("</section>")[0]
    return " ".join(section.split())


# --------------------------------------------------------------------------------------------------------------- the next claim


def test_positions_and_shares_that_staff_change_hold_from_the_next_claim_on(
    admin_client: Client, relay: Relay, other: Relay, route: Route, sender: Sender
) -> None:
    make_batch(sender, 400)
    assert len(claimed(relay, 10)) == 10 and claimed(other, 10) == []
    save(admin_client, route, {"position": 2}, {"position": 1})
    assert claimed(relay, 10) == [] and len(claimed(other, 10)) == 10
    # Nobody touched a mail: both share what still waits, two to one.
    save(admin_client, route, {"weight": 1}, {"position": 1, "weight": 2})
    assert 240 <= len(claimed(relay)) <= 270
    assert 110 <= len(claimed(other)) <= 140


def test_conditions_that_staff_set_hold_from_the_next_claim_on(
    admin_client: Client, relay: Relay, other: Relay, route: Route, sender: Sender
) -> None:
    second = make_sender("second@cake.example")
    batches = [make_batch(each, 4) for each in (sender, second)]
    assert claimed(other) == []
    save(admin_client, route, {}, {"senders": "Second@Cake.Example"})
    assert {message.batch_id for message in claimed(other)} == {batches[1].pk}
    assert {message.batch_id for message in claimed(relay)} == {batches[0].pk}


def test_a_condition_on_the_kind_of_mail_holds_where_a_route_carries_both(admin_client: Client, relay: Relay, sender: Sender) -> None:
    route = Route.objects.create(name="Both")
    bulk = make_relay("Bulk")
    for each in (relay, bulk):
        RouteMember.objects.create(route=route, relay=each)
    Sender.objects.update(campaign_route=route, transactional_route=route)
    make_batch(sender, 4)
    post(sender, 4)
    save(admin_client, route, {}, {"stream": "campaign"})
    assert {message.stream for message in claimed(bulk)} == {"campaign"}
    assert {message.stream for message in claimed(relay)} == {"transactional"}


@pytest.mark.parametrize("wrong", ["nonsense", "@", "a@", "a b@c"])
def test_a_condition_that_no_sender_could_meet_is_refused_at_its_field(
    admin_client: Client, relay: Relay, route: Route, wrong: str
) -> None:
    response = save(admin_client, route, {"senders": wrong})
    assert "is neither an address nor a domain" in response.content.decode()
    assert RouteMember.objects.get(route=route).senders == ""


# ---------------------------------------------------------------------------------------------------------------------- in words


def test_the_page_says_in_words_what_a_route_does(admin_client: Client, relay: Relay, other: Relay, route: Route) -> None:
    assert f"All mail leaves through {relay}. While none of these takes mail, through Other. While none" in words(admin_client, route)
    assert "While none of these takes mail, it waits." in words(admin_client, route)
    member = RouteMember.objects.get(relay=other)
    RouteMember.objects.filter(pk=member.pk).update(stream="campaign", senders="news@tea.example")
    member.destinations.set(Destination.objects.filter(pk__in=["docomo", "au"]))
    page = words(admin_client, route)
    assert "Campaign mail from news@tea.example to au, docomo leaves through Other." in page
    assert "While none of these takes mail, it leaves as all other mail does." in page
    assert f"All other mail leaves through {relay}." in page


def test_mail_that_no_relay_is_for_is_told_of(admin_client: Client, relay: Relay, route: Route) -> None:
    RouteMember.objects.filter(route=route).update(senders="tea.example")
    assert "All other mail waits: no relay is for it." in words(admin_client, route)
    assert "Mail from tea.example" in admin_client.get(reverse("admin:relays_route_changelist")).content.decode()


def test_shares_are_told_in_percent(admin_client: Client, relay: Relay, other: Relay, route: Route) -> None:
    RouteMember.objects.filter(relay=relay).update(weight=3)
    RouteMember.objects.filter(relay=other).update(position=1)
    assert f"All mail leaves through {relay} (75 %), Other (25 %)." in words(admin_client, route)
