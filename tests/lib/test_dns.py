"""Answers of a real name server on this machine, and what becomes of each way in which one can fail."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from pytest_django.fixtures import Settings

from mailhub.lib import dns
from mailhub.lib.dns import TLSA, Absent, Exchanger, NullMX, Unanswered
from tests.dns_server import DNSServer


def ask(function: Callable[..., Coroutine[Any, Any, dns.Answer[Any]]], *args: Any) -> dns.Answer[Any]:
    return asyncio.run(function(*args))


def hosts(domain: str) -> list[str]:
    return [exchanger.host for exchanger in ask(dns.exchangers, domain).records]


# ---------------------------------------------------------------------------------------------------------------- exchangers


def test_exchangers_come_in_order_of_preference(dns_server: DNSServer) -> None:
    dns_server.add("example.test", "MX", "20 second.example.test.", "5 FIRST.example.test.", "100 last.example.test.")
    assert ask(dns.exchangers, "example.test").records == (
        Exchanger(5, "first.example.test"),
        Exchanger(20, "second.example.test"),
        Exchanger(100, "last.example.test"),
    )


def test_equals_come_in_an_order_of_chance(dns_server: DNSServer) -> None:
    dns_server.add("example.test", "MX", *(f"10 mx{n}.example.test." for n in range(4)), "20 later.example.test.")
    first: Counter[str] = Counter()
    for _ in range(100):
        found = hosts("example.test")
        assert found[4] == "later.example.test"
        first[found[0]] += 1
    assert set(first) == {f"mx{n}.example.test" for n in range(4)}


def test_a_domain_without_mx_is_its_own_exchanger(dns_server: DNSServer) -> None:
    dns_server.add("example.test", "A", "127.0.0.2")
    assert ask(dns.exchangers, "Example.test").records == (Exchanger(0, "example.test"),)


def test_a_domain_with_mx_is_never_its_own_exchanger_even_when_they_lead_nowhere(dns_server: DNSServer) -> None:
    dns_server.add("example.test", "A", "127.0.0.2")
    dns_server.add("example.test", "MX", "10 gone.example.test.")
    assert hosts("example.test") == ["gone.example.test"]


def test_a_null_mx_says_so(dns_server: DNSServer) -> None:
    dns_server.add("example.test", "MX", "0 .")
    dns_server.add("example.test", "A", "127.0.0.2")
    with pytest.raises(NullMX, match="takes no mail"):
        hosts("example.test")


def test_a_null_mx_among_others_is_passed_over(dns_server: DNSServer) -> None:
    dns_server.add("example.test", "MX", "0 .", "10 mx.example.test.")
    assert hosts("example.test") == ["mx.example.test"]


def test_a_domain_that_does_not_exist_is_absent(dns_server: DNSServer) -> None:
    with pytest.raises(Absent, match="nowhere.test does not exist") as caught:
        hosts("nowhere.test")
    assert not isinstance(caught.value, NullMX)


@pytest.mark.parametrize("name", ["a..test", "x" * 64 + ".test", "", "\N{ZERO WIDTH SPACE}"])
def test_what_cannot_be_a_name_is_absent_and_nobody_is_asked(dns_server: DNSServer, name: str) -> None:
    with pytest.raises(Absent):
        hosts(name)
    assert dns_server.asked == []


def test_a_thousand_exchangers_are_bounded_and_the_best_of_them_kept(dns_server: DNSServer) -> None:
    dns_server.add("example.test", "MX", *(f"{n} mx{n}.example.test." for n in range(1000)))
    assert hosts("example.test") == [f"mx{n}.example.test" for n in range(dns.MOST_EXCHANGERS)]


def test_names_in_other_scripts_go_out_as_a_labels(dns_server: DNSServer) -> None:
    dns_server.add("xn--r8jz45g.test", "MX", "10 mx.example.test.")
    assert hosts("例え.test") == hosts("xn--r8jz45g.test") == ["mx.example.test"]


# ---------------------------------------------------------------------------------------------------------------- other kinds


def test_addresses_of_both_versions_are_found(dns_server: DNSServer) -> None:
    dns_server.add("mx.example.test", "A", "127.0.0.2", "127.0.0.3")
    dns_server.add("mx.example.test", "AAAA", "::1")
    found = ask(dns.addresses, "mx.example.test").records
    assert found[0] == "::1"
    assert sorted(found[1:]) == ["127.0.0.2", "127.0.0.3"]


def test_an_alias_leads_to_the_addresses(dns_server: DNSServer) -> None:
    dns_server.add("mx.example.test", "CNAME", "real.example.test.")
    dns_server.add("real.example.test", "A", "127.0.0.2")
    assert ask(dns.addresses, "mx.example.test").records == ("127.0.0.2",)


def test_a_name_with_other_records_only_has_no_address(dns_server: DNSServer) -> None:
    dns_server.add("example.test", "TXT", "hello")
    with pytest.raises(Absent, match="has no address"):
        ask(dns.addresses, "example.test")


def test_aliases_in_a_circle_end(dns_server: DNSServer) -> None:
    dns_server.add("a.example.test", "CNAME", "b.example.test.")
    dns_server.add("b.example.test", "CNAME", "a.example.test.")
    with pytest.raises(Unanswered):
        ask(dns.addresses, "a.example.test")
    assert len(dns_server.asked) == 2


def test_the_strings_of_a_text_are_joined_and_long_ones_arrive_whole(dns_server: DNSServer) -> None:
    long = [f'"{letter * 250}"' for letter in "abcdefgh"]
    dns_server.add("example.test", "TXT", " ".join(long), '"v=spf1 -all"')
    assert sorted(ask(dns.texts, "example.test").records) == ["".join(letter * 250 for letter in "abcdefgh"), "v=spf1 -all"]
    assert {transport for _name, _kind, transport in dns_server.asked} == {"udp", "tcp"}


def test_no_texts_is_an_answer(dns_server: DNSServer) -> None:
    dns_server.add("example.test", "A", "127.0.0.2")
    assert ask(dns.texts, "example.test").records == ask(dns.texts, "nowhere.test").records == ()


def test_names_of_an_address(dns_server: DNSServer) -> None:
    dns_server.add("2.0.0.127.in-addr.arpa", "PTR", "Mail.example.test.")
    assert ask(dns.names, "127.0.0.2").records == ("mail.example.test",)


def test_tlsa_records_are_asked_for_by_port(dns_server: DNSServer) -> None:
    dns_server.add("_25._tcp.mx.example.test", "TLSA", "3 1 1 " + "ab" * 32)
    assert ask(dns.tlsa, "mx.example.test", 25).records == (TLSA(3, 1, 1, b"\xab" * 32),)
    assert ask(dns.tlsa, "mx.example.test", 26).records == ()


# ---------------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"])
def test_a_server_that_cannot_say_is_no_answer(dns_server: DNSServer, rcode: str) -> None:
    dns_server.fail("example.test", rcode)
    with pytest.raises(Unanswered, match=r"example\.test could not be looked up: no server could say"):
        hosts("example.test")


def test_silence_is_no_answer(dns_server: DNSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "LIFETIME", 0.3)
    dns_server.silence("example.test")
    with pytest.raises(Unanswered, match="in time"):
        hosts("example.test")


def test_no_server_at_all_is_no_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "LIFETIME", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        settings.MAILHUB_DNS_SERVERS = [("127.0.0.1", nobody.getsockname()[1])]
        with pytest.raises(Unanswered):
            hosts("example.test")


def test_the_next_server_is_asked_when_one_cannot_say(dns_server: DNSServer, settings: Settings) -> None:
    dns_server.fail("example.test")
    with DNSServer() as other:
        other.add("example.test", "MX", "10 mx.example.test.")
        settings.MAILHUB_DNS_SERVERS = [dns_server.address, other.address]
        assert hosts("example.test") == ["mx.example.test"]
    assert len(dns_server.asked) == 1


def test_an_address_of_one_version_will_do_when_the_other_cannot_be_learnt(monkeypatch: pytest.MonkeyPatch, dns_server: DNSServer) -> None:
    look_up = DNSServer.look_up

    def no_version_6(self: DNSServer, response: Any, name: Any, kind: str) -> None:
        response.set_rcode(2) if kind == "AAAA" else look_up(self, response, name, kind)

    monkeypatch.setattr(DNSServer, "look_up", no_version_6)
    dns_server.add("mx.example.test", "A", "127.0.0.2")
    dns_server.add("bare.example.test", "TXT", "x")
    assert ask(dns.addresses, "mx.example.test").records == ("127.0.0.2",)
    for name in ("bare.example.test", "nowhere.test"):
        with pytest.raises(Unanswered):
            ask(dns.addresses, name)


# ---------------------------------------------------------------------------------------------------------------- remembered


def test_an_answer_is_kept_for_as_long_as_it_says(dns_server: DNSServer) -> None:
    dns_server.add("example.test", "MX", "10 old.example.test.", ttl=60)
    assert hosts("example.test") == hosts("example.test") == ["old.example.test"]
    assert len(dns_server.asked) == 1
    dns_server.remove("example.test", "MX")
    dns_server.add("example.test", "MX", "10 new.example.test.", ttl=60)
    with time_machine.travel(timedelta(seconds=59)):
        assert hosts("example.test") == ["old.example.test"]
    with time_machine.travel(timedelta(seconds=61)):
        assert hosts("example.test") == ["new.example.test"]


@pytest.mark.parametrize(("there", "longest"), [(True, dns.KEEP_ANSWER), (False, dns.KEEP_ABSENCE)])
def test_no_answer_is_kept_for_longer_than_we_like(dns_server: DNSServer, there: bool, longest: int) -> None:
    week = 604_800
    dns_server.add("example.test", "SOA", f"ns.example.test. hostmaster.example.test. 1 {week} {week} {week} {week}", ttl=week)
    if there:
        dns_server.add("mx.example.test", "A", "127.0.0.2", ttl=week)

    def look() -> None:
        try:
            ask(dns.addresses, "mx.example.test")
        except Absent:
            assert not there

    def asked() -> int:
        return [kind for _name, kind, _transport in dns_server.asked].count("A")

    look()
    with time_machine.travel(timedelta(seconds=longest - 1)):
        look()
    assert asked() == 1
    with time_machine.travel(timedelta(seconds=longest + 1)):
        look()
    assert asked() == 2


def test_a_domain_that_comes_back_is_found_again(dns_server: DNSServer) -> None:
    with pytest.raises(Absent):
        hosts("example.test")
    dns_server.add("example.test", "MX", "10 mx.example.test.")
    with time_machine.travel(timedelta(seconds=dns.KEEP_ABSENCE + 1)):
        assert hosts("example.test") == ["mx.example.test"]


def test_a_failing_name_is_left_alone_for_a_moment(dns_server: DNSServer) -> None:
    dns_server.fail("example.test")
    dns_server.add("example.test", "MX", "10 mx.example.test.")
    for _ in range(3):
        with pytest.raises(Unanswered, match="no server could say"):
            hosts("example.test")
    assert len(dns_server.asked) == 1
    dns_server.mend("example.test")
    with time_machine.travel(timedelta(seconds=dns.KEEP_FAILURE + 1)):
        assert hosts("example.test") == ["mx.example.test"]


# ---------------------------------------------------------------------------------------------------------------- DNSSEC


def test_an_answer_counts_as_proven_only_when_the_resolver_is_trusted_to_say_so(dns_server: DNSServer, settings: Settings) -> None:
    dns_server.add("signed.test", "MX", "10 mx.signed.test.", signed=True)
    dns_server.add("plain.test", "MX", "10 mx.plain.test.")
    assert not ask(dns.exchangers, "signed.test").authenticated
    settings.MAILHUB_DNS_VALIDATES = True
    assert ask(dns.exchangers, "signed.test").authenticated
    assert not ask(dns.exchangers, "plain.test").authenticated


def test_addresses_are_proven_when_both_answers_are_and_a_version_that_is_not_there_counts(
    dns_server: DNSServer, settings: Settings
) -> None:
    settings.MAILHUB_DNS_VALIDATES = True
    dns_server.add("mx.signed.test", "A", "127.0.0.2", signed=True)
    assert ask(dns.addresses, "mx.signed.test").authenticated
