"""The page of an own address: what was looked up of it, and its warm-up."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from mailhub.lib import clock
from mailhub.relays import blocklists
from mailhub.relays.models import Blocklist, DedicatedIP, IPCheck, IPPool, WarmupPlan, WarmupUse
from tests.dns_server import DNSServer

pytestmark = pytest.mark.django_db


@pytest.fixture
def address() -> DedicatedIP:
    plan = WarmupPlan.objects.create(key="ours", name="Ours", caps="10\n20\n40")
    return DedicatedIP.objects.create(pool=IPPool.objects.create(name="Own"), address="11.22.33.44", ehlo_name="mta.tea.test", plan=plan)


def page_of(admin_client: Client, address: DedicatedIP) -> str:
    return admin_client.get(f"/admin/relays/dedicatedip/{address.pk}/change/").content.decode()


def test_an_addresss_page_says_what_others_see_of_it_and_where_one_is_taken_off(admin_client: Client, address: DedicatedIP) -> None:
    assert "It is looked up within the hour" in page_of(admin_client, address)
    zen, spamcop = Blocklist.objects.get(key="spamhaus-zen"), Blocklist.objects.get(key="spamcop")
    verdict, at = IPCheck.Verdict, clock.now()
    blocklists.write(address, None, blocklists.Look(verdict.BAD, "host.test", blocklists.OTHER_NAME), at)
    blocklists.write(address, zen, blocklists.Look(verdict.BAD, "127.0.0.3", "CSS: low reputation"), at)
    blocklists.write(address, spamcop, blocklists.Look(verdict.UNKNOWN, "127.255.255.254", blocklists.REFUSES), at)
    page = page_of(admin_client, address)
    for words in ("on 1 blocklist", "not the one that MailHub greets with", "CSS: low reputation", "refuses to answer this resolver"):
        assert words in page
    assert "https://check.spamhaus.org/results/?query=11.22.33.44" in page
    blocklists.write(address, zen, blocklists.Look(verdict.GOOD), at)
    assert "Earlier listings" in page_of(admin_client, address)
    assert "PTR is wrong" in admin_client.get("/admin/relays/dedicatedip/").content.decode()


def test_an_address_is_looked_up_when_staff_ask(admin_client: Client, address: DedicatedIP, dns_server: DNSServer) -> None:
    url = f"/admin/relays/dedicatedip/{address.pk}/look/"
    assert admin_client.get(url).status_code == 405
    Blocklist.objects.update(active=False)
    dns_server.add("44.33.22.11.in-addr.arpa", "PTR", "mta.tea.test.")
    dns_server.add("mta.tea.test", "A", "11.22.33.44")
    admin_client.post(url)
    assert "in order" in page_of(admin_client, address)


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        ({"taken": 20, "accepted": 10}, "the next day is day 3: 40 mails"),
        ({"taken": 3, "accepted": 3}, "stays at day 2 (20 mails) until 70 % of a day"),
        ({"taken": 20, "accepted": 10, "deferred": 5}, "receivers put too much off"),
        ({"taken": 20, "accepted": 10, "bounced": 5}, "addresses do not exist"),
        ({"taken": 20, "accepted": 10, "refused": 5}, "goes back to day 1 (10 mails)"),
        ({"taken": 20, "accepted": 2000, "complained": 3}, "called the mail spam"),
    ],
)
def test_an_addresss_page_says_what_follows_on_its_last_day_and_why(
    admin_client: Client, address: DedicatedIP, signs: dict[str, int], words: str
) -> None:
    WarmupUse.objects.create(ip=address, destination_id="gmail", date=timezone.localdate(), day=2, **signs)
    page = page_of(admin_client, address)
    assert "Gmail: day 2 of 3" in page
    assert words in page
