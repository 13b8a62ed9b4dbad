"""What a domain lacks for a relay is said before the relay is used."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.urls import reverse

from mailhub.lib import clock, dns
from mailhub.relays.models import Relay, Route, RouteMember
from mailhub.senders import readiness, records, verdicts
from mailhub.senders.models import DKIMKey, Domain, Kind, Sender
from tests.dns_server import DNSServer
from tests.senders.test_records import txt

pytestmark = pytest.mark.django_db


@pytest.fixture
def sender(db: None) -> Sender:
    return Sender.objects.create(email="shop@tea.example")


@pytest.fixture
def domain(sender: Sender) -> Domain:
    return sender.domain


def make(name: str, **fields: object) -> Relay:
    return Relay.objects.create(**{"name": name, "kind": "smtp", "options": {"host": "mail.example", "port": 587}, **fields})


def said(domain: Domain, relay: Relay) -> dict[Kind, readiness.Lack]:
    return {lack.kind: lack for lack in readiness.lacks(domain, relay)}


def look(domain: Domain, relay: Relay | None = None) -> None:
    dns.forget()
    verdicts.keep(domain, async_to_sync(records.check)(domain, relay))


def test_before_anybody_looked_nothing_is_known(domain: Domain) -> None:
    (lack,) = readiness.lacks(domain, make("Post", spf="include:spf.post.example"))
    assert lack.unknown and "(SPF, DKIM)" in lack.words


def test_a_relay_that_no_route_has_yet_is_told_by_the_same_look(domain: Domain, dns_server: DNSServer) -> None:
    txt(dns_server, "tea.example", "v=spf1 include:mass.example -all")
    txt(dns_server, "mass.example", "v=spf1 ip4:198.51.100.0/24 -all")
    mass, post = make("Mass", spf="include:mass.example"), make("Post", spf="include:spf.post.example")
    look(domain)
    assert Kind.SPF not in said(domain, mass)
    lack = said(domain, post)[Kind.SPF]
    assert not lack.unknown and "include:spf.post.example" in lack.words
    assert (lack.name, lack.record) == ("tea.example", "v=spf1 include:mass.example include:spf.post.example -all")
    # One that came since then was not asked for.
    assert said(domain, make("Later", spf="include:later.example"))[Kind.SPF].unknown


def test_without_a_key_dkim_is_lacking_and_dmarc_fails_unless_spf_speaks_for_the_domain(domain: Domain, dns_server: DNSServer) -> None:
    txt(dns_server, "tea.example", "v=spf1 include:spf.post.example -all")
    txt(dns_server, "spf.post.example", "v=spf1 ip4:198.51.100.0/24 -all")
    own, theirs = (make(f"Post {keeps}", spf="include:spf.post.example", keeps_return_path=keeps) for keeps in (True, False))
    look(domain)
    assert set(said(domain, own)) == {Kind.DKIM}
    assert set(said(domain, theirs)) == {Kind.DKIM, Kind.DMARC}
    key = DKIMKey.make(domain)
    key.sign_from_now_on()
    txt(dns_server, str(key), key.record().value)
    look(domain)
    assert said(domain, theirs) == {}


def test_a_service_that_signs_itself_needs_its_own_records(sender: Sender, domain: Domain, dns_server: DNSServer) -> None:
    relay = make("Post", dkim_selectors="s1 s2", spf="")
    route = Route.objects.create(name="r")
    RouteMember.objects.create(route=route, relay=relay)
    Sender.objects.update(campaign_route=route)
    txt(dns_server, "s1._domainkey.tea.example", "v=DKIM1; k=rsa; p=MIGf")
    look(domain)
    lacks = [lack for lack in readiness.lacks(domain, relay) if lack.kind == Kind.DKIM]
    assert [lack.name for lack in lacks] == ["s2._domainkey.tea.example"] and "Post" in lacks[0].words
    txt(dns_server, "s2._domainkey.tea.example", "v=DKIM1; k=rsa; p=MIGf")
    look(domain)
    assert readiness.lacks(domain, relay) == []
    assert not domain.findings.filter(problem="dkim_none").exists()


def test_a_relay_that_sends_nothing_needs_nothing(domain: Domain) -> None:
    assert readiness.lacks(domain, make("Kept", spf="include:a.example", do_not_send=True)) == []
    assert readiness.lacks(domain, make("Inbox", kind="inbox")) == []


def test_the_pages_of_sender_and_route_say_it(admin_client: Client, sender: Sender, domain: Domain, dns_server: DNSServer) -> None:
    relay = make("Post", spf="include:spf.post.example")
    route = Route.objects.create(name="r")
    RouteMember.objects.create(route=route, relay=relay)
    Sender.objects.update(campaign_route=route)
    txt(dns_server, "tea.example", "v=spf1 -all")
    look(domain)
    Domain.objects.update(checked_at=clock.now())
    for page in (reverse("admin:senders_sender_change", args=[sender.pk]), reverse("admin:relays_route_change", args=[route.pk])):
        assert "v=spf1 include:spf.post.example -all" in admin_client.get(page).content.decode()
