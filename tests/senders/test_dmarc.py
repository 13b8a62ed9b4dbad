from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync

from mailhub.lib import dns
from mailhub.senders import dmarc
from tests.dns_server import DNSServer

policy = async_to_sync(dmarc.policy)
organisational = async_to_sync(dmarc.organisational)


def publish(server: DNSServer, domain: str, *records: str) -> None:
    server.add(f"_dmarc.{domain}", "TXT", *(f'"{record}"' for record in records))


def test_a_domains_own_record_holds(dns_server: DNSServer) -> None:
    publish(dns_server, "news.tea.example", "v=DMARC1; p=quarantine; adkim=s; rua=mailto:d@tea.example")
    publish(dns_server, "tea.example", "v=DMARC1; p=reject")
    found = policy("news.tea.example")
    assert found is not None
    assert found.action == "quarantine"
    assert found.record.domain == "news.tea.example"
    assert found.record.is_strict("adkim")
    assert not found.record.is_strict("aspf")
    assert found.organisational == "tea.example"


def test_the_organisations_record_holds_for_names_below_it(dns_server: DNSServer) -> None:
    publish(dns_server, "tea.example", "v=DMARC1; p=reject; sp=none")
    found = policy("a.b.tea.example")
    assert found is not None
    assert (found.record.domain, found.action, found.organisational) == ("tea.example", "none", "tea.example")
    assert [name for name, _kind, _transport in dns_server.asked] == [
        "_dmarc.a.b.tea.example", "_dmarc.b.tea.example", "_dmarc.tea.example", "_dmarc.example",
    ]  # fmt: skip


def test_a_record_in_between_does_not_hold_for_names_below_it(dns_server: DNSServer) -> None:
    publish(dns_server, "b.tea.example", "v=DMARC1; p=none")
    publish(dns_server, "tea.example", "v=DMARC1; p=reject")
    found = policy("a.b.tea.example")
    assert found is not None
    assert (found.record.domain, found.action) == ("tea.example", "reject")


def test_a_public_suffix_ends_the_organisation_below_itself(dns_server: DNSServer) -> None:
    publish(dns_server, "bank.example", "v=DMARC1; p=reject; psd=y")
    found = policy("news.tea.bank.example")
    assert found is not None
    assert (found.record.domain, found.action) == ("bank.example", "reject")
    assert found.organisational == "tea.bank.example"
    publish(dns_server, "tea.bank.example", "v=DMARC1; p=none")
    dns.forget()
    found = policy("news.tea.bank.example")
    assert found is not None
    assert (found.record.domain, found.organisational) == ("tea.bank.example", "tea.bank.example")


def test_a_domain_may_say_that_it_is_an_organisation_of_its_own(dns_server: DNSServer) -> None:
    publish(dns_server, "shop.tea.example", "v=DMARC1; p=none; psd=n")
    publish(dns_server, "tea.example", "v=DMARC1; p=reject")
    assert organisational("a.shop.tea.example") == "shop.tea.example"


def test_of_a_long_name_no_more_than_eight_are_asked_about(dns_server: DNSServer) -> None:
    publish(dns_server, "tea.example", "v=DMARC1; p=reject")
    found = policy("a.b.c.d.e.f.g.h.i.tea.example")
    assert found is not None
    assert found.record.domain == "tea.example"
    asked = [name for name, _kind, _transport in dns_server.asked]
    assert len(asked) == dmarc.MOST_QUESTIONS
    assert asked[:2] == ["_dmarc.a.b.c.d.e.f.g.h.i.tea.example", "_dmarc.e.f.g.h.i.tea.example"]


def test_without_any_record_the_name_belongs_to_itself(dns_server: DNSServer) -> None:
    assert policy("news.tea.example") is None
    assert organisational("news.tea.example") == "news.tea.example"


def test_a_record_with_reports_alone_is_a_policy_of_none(dns_server: DNSServer) -> None:
    publish(dns_server, "tea.example", "v=DMARC1; rua=mailto:d@tea.example; p=whatever; ri=86400")
    found = policy("tea.example")
    assert found is not None
    assert found.action == "none"


def test_a_record_with_neither_says_nothing(dns_server: DNSServer) -> None:
    publish(dns_server, "tea.example", "v=DMARC1; fo=1")
    assert policy("tea.example") is None


@pytest.mark.parametrize(
    ("records", "problem"),
    [(["v=DMARC1; p=none", "v=DMARC1; p=reject"], "dmarc_several"), (["v=DMARC1; p none"], "dmarc_syntax")],
)
def test_a_record_that_receivers_ignore_says_why(dns_server: DNSServer, records: list[str], problem: str) -> None:
    publish(dns_server, "tea.example", *records)
    with pytest.raises(dmarc.Malformed) as caught:
        policy("tea.example")
    assert caught.value.problem == problem


def test_other_texts_beside_the_record_do_not_matter(dns_server: DNSServer) -> None:
    publish(dns_server, "tea.example", "hello", "v=DMARC2; p=none", "v=DMARC1 ; p=reject")
    found = policy("tea.example")
    assert found is not None
    assert found.action == "reject"
