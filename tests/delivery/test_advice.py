"""Which relay to use: what fits, what it costs, and what is not known stays unknown."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from mailhub.delivery import advice
from mailhub.delivery.models import Carried, Throughput
from mailhub.lib import clock
from mailhub.relays import costs
from mailhub.relays.costs import Need, Rates
from mailhub.relays.models import Plan, Quota, Relay, RelayPlan, Service, Stream
from mailhub.senders.models import Sender


def plan(price: str, currency: str = "USD", **fields: object) -> Plan:
    return Plan(key="p", name="P", price=Decimal(price), currency=currency, **fields)


def need(**fields: object) -> Need:
    return Need(**{"stream": Stream.CAMPAIGN, "month": 60_000, "day": 5_000, "hour": 1_000, **fields})


@pytest.mark.parametrize(
    ("offered", "mails", "cost"),
    [
        (plan("19.95", included=50_000), 50_000, "19.95"),
        (plan("19.95", included=50_000), 50_001, None),
        (plan("15", included=10_000, per_thousand=Decimal("1.80")), 12_500, "19.50"),
        (plan("0", per_thousand=Decimal("0.10")), 60_000, "6.00"),
        (plan("0", per_day=100), 2_800, "0"),
        (plan("0", per_day=100), 2_801, None),
        (plan("500"), 10**9, "500"),
    ],
)
def test_the_cost_of_a_month(offered: Plan, mails: int, cost: str | None) -> None:
    found = costs.monthly(offered, mails)
    assert found == (Decimal(cost) if cost else None)


@given(mails=st.integers(0, 10**7), more=st.integers(0, 10**6), included=st.integers(0, 10**6), rate=st.decimals(0, 10, places=3))
def test_more_mail_never_costs_less(mails: int, more: int, included: int, rate: Decimal) -> None:
    offered = plan("10", included=included, per_thousand=rate)
    one, other = costs.monthly(offered, mails), costs.monthly(offered, mails + more)
    assert one is not None and other is not None and one <= other


def test_what_does_not_fit_says_why_and_what_is_not_known_says_so() -> None:
    gmail = Service(key="gmail", name="Gmail", bulk=False, limits=[[500, "day", "rolling"]])
    found = costs.offer(gmail, [], need(webhooks=True, region="jp"))
    assert not found.fits and found.cost is None and len(found.against) == 2 and len(found.unknown) == 2
    assert "500" in found.against[0] and "5,000" in found.against[0]
    jp = Service(key="jp", name="JP", bulk=True, webhooks=True, regions="jp", dedicated_ip_price=Decimal(30), messages_per_second=14)
    asked = costs.offer(jp, [plan("10")], need(webhooks=True, region="jp", dedicated_ip=True))
    assert asked.cost == Decimal(40) and asked.at_least and "covers" in asked.unknown[0]
    # A price that says what it covers comes before one that does not.
    assert costs.offer(jp, [plan("10"), plan("90", included=60_000)], need()).cost == Decimal(90)
    assert not costs.offer(jp, [plan("10")], need(region="eu")).fits
    assert not costs.offer(jp, [plan("10", included=10)], need()).fits
    assert not costs.offer(jp, [], need(hour=60_000)).fits


def test_the_cheapest_that_fits_comes_first_and_unknown_prices_last() -> None:
    def offer(name: str, *plans: Plan, bulk: bool = True) -> costs.Offer:
        return costs.offer(Service(key=name, name=name, bulk=bulk), plans, need())

    found = [offer("yen", plan("3000", "JPY")), offer("asks"), offer("dollars", plan("25")), offer("small", plan("1"), bulk=False)]
    assert [one.service.name for one in costs.ranked(found, Rates(usd=Decimal(150)))] == ["yen", "dollars", "asks", "small"]
    assert [one.service.name for one in costs.ranked(found, Rates(usd=Decimal(100)))] == ["dollars", "yen", "asks", "small"]
    # Without a rate dollars and yen are not compared.
    assert [one.service.name for one in costs.ranked(found, Rates())] == ["yen", "dollars", "asks", "small"]


# ----------------------------------------------------------------------------------------------------------------- from the rows


def carry(relay: Relay, count: int, months_ago: int = 0, hour: int = 0) -> None:
    at = advice.months(clock.now())[-1 - months_ago] + timedelta(hours=hour)
    Throughput.objects.create(hour=at, relay_key=relay.pk, destination_key="other", source="", stream="campaign", accepted=count)


@pytest.fixture
def relay(db: None) -> Relay:
    return Relay.objects.create(name="Post", kind="memory")


def test_the_need_is_filled_in_from_the_fullest_of_the_last_months(relay: Relay) -> None:
    for count, months_ago, hour in ((100, 1, 1), (50, 1, 2), (70, 1, 30), (10, 0, 0)):
        carry(relay, count, months_ago, hour)
    found = advice.volume(Stream.CAMPAIGN, clock.now())
    assert (found.month, found.day, found.hour) == (220, 150, 100)
    assert advice.volume(Stream.TRANSACTIONAL, clock.now()).month == 0


def test_a_relay_tells_its_limit_what_it_costs_and_until_when_it_is_enough(relay: Relay) -> None:
    now, today = clock.now(), timezone.localdate()
    for months_ago, count in enumerate((300, 500, 400, 300)):
        carry(relay, count, months_ago)
    one = advice.present(need(), now)[0]
    assert one.capacity is None and one.until is None and one.cost is None and one.history[-1] == 300
    Quota.objects.create(relay=relay, limit=900, period="month")
    service = Service.objects.create(key="post", name="Post", bulk=True)
    old, new = (
        Plan.objects.create(key=key, name=key, service=service, price=price, included=200, per_thousand=10)
        for key, price in (("old", 5), ("new", 20))
    )
    RelayPlan.objects.create(relay=relay, plan=old, valid_from=date(2020, 1, 1))
    RelayPlan.objects.create(relay=relay, plan=new, valid_from=today + timedelta(days=1))
    one = advice.present(need(), now)[0]
    # 100 more each month: 500 last month, 900 in four months.
    ahead = today.year * 12 + today.month - 1 + 4
    assert one.until == date(ahead // 12, ahead % 12 + 1, 1)
    assert (one.plan, one.cost, [quota.limit for quota in one.passed]) == (old, Decimal(6), [900])
    RelayPlan.objects.filter(plan=new).update(valid_from=today)
    assert advice.present(need(), now)[0].plan == new


def test_the_advisors_page_full_and_empty(admin_client: Client, db: None) -> None:
    url = reverse("admin:delivery_move_advisor")
    assert "No relay yet" in admin_client.get(url).content.decode()
    relay = Relay.objects.create(name="Post", kind="memory")
    carry(relay, 4321)
    page = admin_client.get(url).content.decode()
    assert 'value="4321"' in page and "unknown" in page and "Known services" not in page
    given = {"stream": "campaign", "month": 60000, "day": 5000, "hour": 1000, "usd": "150", "region": "jp"}
    page = admin_client.get(url, given).content.decode()
    assert "Amazon SES" in page and "6.00 USD" in page and "900 JPY" in page and "AWS, pricing page" in page
    assert "busiest day" in admin_client.get(url, {**given, "hour": 9000}).content.decode()


def test_the_report_of_months_by_sender_and_relay(admin_client: Client, relay: Relay) -> None:
    url = reverse("admin:delivery_move_report")
    assert "Nothing was sent yet" in admin_client.get(url).content.decode()
    sender = Sender.objects.create(email="shop@tea.example")
    for months_ago, count in ((0, 12), (1, 3456)):
        at = advice.months(clock.now())[-1 - months_ago]
        Carried.objects.create(hour=at, sender_key=sender.pk, relay_key=relay.pk, stream="campaign", accepted=count, bounced=2)
    Quota.objects.create(relay=relay, limit=9000, period="month")
    page = admin_client.get(url).content.decode()
    for said in ("shop@tea.example", "3,456", ">12<", "limit: 9,000 a month", ">4<"):
        assert said in page
