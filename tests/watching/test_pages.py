from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from mailhub.delivery.models import Throughput
from mailhub.delivery.throughput import hour_of
from mailhub.lib import clock
from mailhub.relays.models import DedicatedIP, IPPool, Relay
from mailhub.watching import charts, troubles
from mailhub.watching.models import Trouble

pytestmark = pytest.mark.django_db

PAGE = "/admin/watching/deliverability/"


@pytest.fixture
def tallies(relays: tuple[Relay, Relay]) -> tuple[Relay, Relay]:
    """The second relay does better; both have sent to two destinations, one of them from an address of ours."""
    Relay.objects.update(kind="smtp")
    hour = hour_of(clock.now())
    for relay, deferred, source in ((relays[0], 400, ""), (relays[1], 100, "192.0.2.1")):
        for back, destination in ((1, "gmail"), (30, "docomo")):
            Throughput.objects.create(
                hour=hour - timedelta(hours=back), relay_key=relay.pk, destination_key=destination, source=source, stream="campaign",
                accepted=1_000, deferred=deferred, bounced=11, complained=2, within_1=600, within_300=390, later=10,
            )  # fmt: skip
    return relays


def text(client: Client, path: str, **asked: object) -> str:
    response = client.get(path, asked)
    assert response.status_code == 200
    return response.content.decode()


def names(page: str) -> list[tuple[str, str]]:
    return re.findall(r'<th scope="row"><a href="[^"]*">([^<]*)</a>( <span class="badge good">)?', page)


def test_the_page_compares_relays_the_best_first_and_the_rest_by_what_they_sent(tallies: Any, admin_client: Client) -> None:
    page = text(admin_client, PAGE)
    assert names(page) == [("Second", ' <span class="badge good">'), ("First", ""), ("Gmail", ""), ("192.0.2.1", "")]
    for words in ("2,000", "of 2,522 tries", "19.8 %", "1.1 %", "0.20 %", "1 s", "for half of the mail; 5 min for 95 %"):
        assert words in page
    week = text(admin_client, PAGE, span="week")
    assert {name for name, _best in names(week)} == {"First", "Second", "Gmail", "docomo", "192.0.2.1"}


def test_each_relay_destination_and_address_is_seen_alone(tallies: Any, admin_client: Client) -> None:
    first = tallies[0]
    assert names(text(admin_client, PAGE, relay=first.pk, span="month")) == [("Gmail", ""), ("docomo", "")]
    assert [name for name, _best in names(text(admin_client, PAGE, source="192.0.2.1"))] == ["Second", "Gmail"]
    assert "of 1,411 tries" in text(admin_client, PAGE, destination="gmail", relay=first.pk)


@pytest.mark.parametrize(
    "asked", [{"relay": "²"}, {"relay": "9" * 30}, {"span": "century"}, {"relay": "7"}, {"destination": "<b>\0", "source": "'"}]
)
def test_whatever_is_asked_for_has_an_answer(asked: dict[str, str], relays: tuple[Relay, Relay], admin_client: Client) -> None:
    page = text(admin_client, PAGE, **asked)
    assert "Nothing was tried in this time" in page and "<b>" not in page.replace("<b></b>", "")


def test_a_tally_stands_in_the_column_of_its_time(tallies: Any) -> None:
    now = clock.now()
    for span in charts.SPANS.values():
        points = charts.series(span, now)
        assert len(points) == span.columns and points[-1][0] <= now < points[-1][0] + timedelta(hours=span.hours)
        within = 1 if span.key == "day" else 2
        assert charts.total(points).accepted == 2_000 * within
        for start, counts in points:
            rows = Throughput.objects.filter(hour__gte=start, hour__lt=start + timedelta(hours=span.hours))
            assert counts.accepted == 1_000 * rows.count()


def test_the_page_is_for_those_who_may_see_it(tallies: Any, client: Client) -> None:
    staff = User.objects.create_user("staff", password="x", is_staff=True)
    client.force_login(staff)
    assert client.get(PAGE).status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_deliverability"))
    assert client.get(PAGE).status_code == 200


def test_pages_of_relays_destinations_and_addresses_lead_there_and_show_what_is_wrong(tallies: Any, admin_client: Client) -> None:
    ip = DedicatedIP.objects.create(pool=IPPool.objects.create(name="Own"), address="192.0.2.1", ehlo_name="mx.tea.example")
    about = {"address": "192.0.2.1", "list": "zen", "reason": "127.0.0.2"}
    troubles.report("listing", "192.0.2.1 zen", about, tone="bad", model="relays.DedicatedIP", object_id=str(ip.pk))
    for path, asked in (
        (f"relays/relay/{tallies[0].pk}", f"relay={tallies[0].pk}"),
        ("relays/destination/gmail", "destination=gmail"),
        (f"relays/dedicatedip/{ip.pk}", "source=192.0.2.1"),
    ):
        page = text(admin_client, f"/admin/{path}/change/")
        assert f"{PAGE}?{asked}" in page
        assert ("192.0.2.1 is on the blocklist zen" in page) == ("dedicatedip" in path)


def test_a_troubles_page_has_its_history_and_those_before_it(relays: tuple[Relay, Relay], admin_client: Client) -> None:
    about = {"endpoint": "Shop", "reason": "410 Gone"}
    troubles.report("endpoint", "endpoint 1", about)
    troubles.clear("endpoint", "endpoint 1")
    troubles.report("endpoint", "endpoint 1", about)
    first, second = Trouble.objects.order_by("pk")
    page = text(admin_client, f"/admin/watching/trouble/{second.pk}/change/")
    assert "Have its owner put it right" in page and f"/admin/watching/trouble/{first.pk}/change/" in page
    assert "Good again" in text(admin_client, f"/admin/watching/trouble/{first.pk}/change/")
    listed = text(admin_client, "/admin/watching/trouble/")
    assert listed.count("It did not take what was posted: 410 Gone.") >= 2
    assert "The webhook “Shop” is switched off" in text(admin_client, "/admin/")
    assert admin_client.get(f"/admin/watching/trouble/{second.pk}/resume/").status_code == 405
    response = admin_client.post(f"/admin/watching/trouble/{second.pk}/resume/", follow=True)
    assert "Nothing was done: it was over already." in response.content.decode()


def test_every_kind_of_trouble_has_words(relays: tuple[Relay, Relay]) -> None:
    from mailhub.watching import words

    for kind in Trouble.Kind:
        trouble = Trouble(kind=kind, about={})
        for said in (words.title(trouble), words.cause(trouble), words.step(trouble)):
            assert said and "%(" not in said
