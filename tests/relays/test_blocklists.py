"""Own addresses at blocklists and in the DNS: a list that cannot be asked says nothing, and each listing has its beginning and end."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mailhub.lib import dns
from mailhub.lib import tasks as wakes
from mailhub.relays import blocklists, tasks
from mailhub.relays.models import Blocklist, DedicatedIP, IPCheck, IPPool, Listing
from tests.dns_server import DNSServer

pytestmark = pytest.mark.django_db

# Public, and nobody is asked about it but the server of this test.
ADDRESS = "11.22.33.44"
ZONE = "list.test"


@pytest.fixture
def ip() -> DedicatedIP:
    return DedicatedIP.objects.create(pool=IPPool.objects.create(name="Own"), address=ADDRESS, ehlo_name="mta.tea.test")


@pytest.fixture
def blocklist(dns_server: DNSServer) -> Blocklist:
    """A list that lives, and has nothing of ours on it; all others are not asked."""
    Blocklist.objects.update(active=False)
    dns_server.add("2.0.0.127.list.test", "A", "127.0.0.2")
    meanings = "127.0.0.2 Sends spam\n127.0.0.4 Taken over"
    return Blocklist.objects.create(key="ours", name="Ours", zone=ZONE, meanings=meanings, url="https://list.test/?ip=%(address)s")


def found(ip: DedicatedIP, blocklist: Blocklist | None) -> IPCheck:
    dns.forget()
    blocklists.check(ip)
    return IPCheck.objects.get(ip=ip, blocklist=blocklist)


def test_an_address_is_asked_for_in_reverse(blocklist: Blocklist) -> None:
    assert blocklists.name(ADDRESS, ZONE) == "44.33.22.11.list.test"
    nibbles = "8.b.d.0.1.0.0.2"
    assert blocklists.name("2001:db8::1", ZONE).endswith(f".{nibbles}.list.test")
    assert blocklists.name("2001:db8::1", ZONE).count(".") == 33


def test_an_address_that_no_list_has_is_in_order(ip: DedicatedIP, blocklist: Blocklist) -> None:
    assert found(ip, blocklist).verdict == "good"
    assert not Listing.objects.exists()


def test_a_listing_begins_stays_one_and_ends(ip: DedicatedIP, blocklist: Blocklist, dns_server: DNSServer) -> None:
    dns_server.add("44.33.22.11.list.test", "A", "127.0.0.2", "127.0.0.4")
    dns_server.add("44.33.22.11.list.test", "TXT", '"See https://list.test/why"')
    check = found(ip, blocklist)
    assert (check.verdict, check.found, check.reason) == ("bad", "127.0.0.2 127.0.0.4", "Sends spam\nTaken over\nSee https://list.test/why")
    found(ip, blocklist)
    listing = Listing.objects.get()
    assert (listing.codes, listing.until, blocklist.removal(ADDRESS)) == ("127.0.0.2 127.0.0.4", None, f"https://list.test/?ip={ADDRESS}")
    dns_server.remove("44.33.22.11.list.test", "A")
    assert found(ip, blocklist).verdict == "good"
    listing.refresh_from_db()
    assert listing.until is not None
    dns_server.add("44.33.22.11.list.test", "A", "127.0.0.4")
    found(ip, blocklist)
    assert Listing.objects.count() == 2


@pytest.mark.parametrize("answer", ["127.255.255.252", "127.255.255.254", "127.255.255.255", "127.0.1.255", "203.0.113.9"])
def test_an_answer_that_is_an_error_is_neither_a_listing_nor_a_clean_record(
    ip: DedicatedIP, blocklist: Blocklist, dns_server: DNSServer, answer: str
) -> None:
    dns_server.add("44.33.22.11.list.test", "A", "127.0.0.2")
    found(ip, blocklist)
    dns_server.remove("44.33.22.11.list.test", "A")
    dns_server.add("44.33.22.11.list.test", "A", answer)
    check = found(ip, blocklist)
    assert (check.verdict, check.found) == ("unknown", answer)
    assert check.reason == (blocklists.NO_LIST if answer == "203.0.113.9" else blocklists.REFUSES)
    # It is not known to have ended, either.
    assert Listing.objects.get().until is None


def test_a_list_that_has_every_address_lists_none(ip: DedicatedIP, blocklist: Blocklist, dns_server: DNSServer) -> None:
    for name in ("44.33.22.11.list.test", "1.0.0.127.list.test"):
        dns_server.add(name, "A", "127.0.0.2")
    check = found(ip, blocklist)
    assert (check.verdict, check.reason) == ("unknown", blocklists.LISTS_ALL)
    assert not Listing.objects.exists()


def test_a_list_that_does_not_know_its_own_test_address_says_nothing(ip: DedicatedIP, blocklist: Blocklist, dns_server: DNSServer) -> None:
    dns_server.remove("2.0.0.127.list.test", "A")
    check = found(ip, blocklist)
    assert (check.verdict, check.reason) == ("unknown", blocklists.DEAD)


def test_servers_that_fail_say_nothing(ip: DedicatedIP, blocklist: Blocklist, dns_server: DNSServer) -> None:
    dns_server.fail("44.33.22.11.list.test")
    dns_server.fail("44.33.22.11.in-addr.arpa")
    assert "could not be looked up" in found(ip, blocklist).reason
    assert IPCheck.objects.filter(verdict="unknown").count() == 2


@pytest.mark.parametrize(
    ("address", "knows_ipv6", "verdict"),
    [("2a00:1450::25", True, "good"), ("2a00:1450::25", False, "unknown"), ("10.1.2.3", True, "unknown"), ("127.0.0.5", True, "unknown")],
)
def test_what_no_list_can_know_is_not_asked(
    ip: DedicatedIP, blocklist: Blocklist, dns_server: DNSServer, address: str, knows_ipv6: bool, verdict: str
) -> None:
    Blocklist.objects.filter(pk=blocklist.pk).update(covers_ipv6=knows_ipv6)
    ip.address = address
    ip.save()
    test_address = ip_address("::ffff:127.0.0.2").reverse_pointer.removesuffix("ip6.arpa") + ZONE
    dns_server.add(test_address, "A", "127.0.0.2")
    assert found(ip, blocklist).verdict == verdict


@pytest.mark.parametrize(
    ("names", "leads_back", "verdict", "reason"),
    [
        (["mta.tea.test."], ["mta.tea.test"], "good", ""),
        ([], [], "bad", blocklists.NO_NAME),
        (["mta.tea.test."], [], "bad", blocklists.ONE_WAY),
        (["host-44.provider.test."], ["host-44.provider.test"], "bad", blocklists.OTHER_NAME),
    ],
)
def test_an_addresss_name_leads_back_to_it_and_is_the_one_that_it_greets_with(
    ip: DedicatedIP, blocklist: Blocklist, dns_server: DNSServer, names: list[str], leads_back: list[str], verdict: str, reason: str
) -> None:
    if names:
        dns_server.add("44.33.22.11.in-addr.arpa", "PTR", *names)
    for name in leads_back:
        dns_server.add(name, "A", ADDRESS)
    check = found(ip, None)
    assert (check.verdict, check.reason) == (verdict, reason)


def test_a_list_that_is_asked_no_more_is_forgotten_and_its_listing_ended(
    ip: DedicatedIP, blocklist: Blocklist, dns_server: DNSServer
) -> None:
    dns_server.add("44.33.22.11.list.test", "A", "127.0.0.2")
    found(ip, blocklist)
    Blocklist.objects.update(active=False)
    blocklists.check(ip)
    assert not IPCheck.objects.filter(blocklist__isnull=False).exists()
    assert Listing.objects.get().until is not None


def test_every_address_is_looked_up_each_hour_by_a_task_of_its_own(ip: DedicatedIP, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[tuple[str, int, str]] = []
    monkeypatch.setattr(wakes, "enqueue", lambda task, pk, *, queue: woken.append((task, pk, queue)))
    tasks.check_addresses()
    assert woken == [("mailhub.relays.tasks.check_address", ip.pk, "maintenance")]
    tasks.check_address(0)


def test_shipped_lists_are_brought_in_and_what_staff_changed_stays() -> None:
    zen = Blocklist.objects.get(key="spamhaus-zen")
    assert zen.active
    assert zen.meaning("127.0.0.10").startswith("PBL")
    Blocklist.objects.filter(pk=zen.pk).update(zone="key.zen.dq.spamhaus.net")
    blocklists.load()
    zen.refresh_from_db()
    assert zen.zone == "key.zen.dq.spamhaus.net"
