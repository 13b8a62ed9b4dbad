from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync

from mailhub.lib import dns
from mailhub.senders import spf
from tests.dns_server import DNSServer

read = async_to_sync(spf.read)


def publish(server: DNSServer, **records: str) -> None:
    """name (with "_" for the dot) -> SPF record"""
    for name, record in records.items():
        server.add(f"{name}.example", "TXT", f'"{record}"')


def broken(domain: str = "tea.example") -> str:
    with pytest.raises(spf.PermError) as caught:
        read(domain)
    return caught.value.problem


def permits(permission: spf.Permission, address: str) -> bool:
    return permission.has(f"{'ip6' if ':' in address else 'ip4'}:{address}")


def test_a_domain_without_a_record_says_nothing(dns_server: DNSServer) -> None:
    dns_server.add("tea.example", "TXT", '"google-site-verification=1"', '"v=spf10 all"')
    assert read("tea.example") is None
    assert read("nowhere.example") is None


def test_what_is_included_at_any_depth_counts_as_permitted(dns_server: DNSServer) -> None:
    publish(dns_server, tea="v=spf1 include:post.example ip6:2001:db8::/32 ~all", post="v=spf1 include:net.post.example -all")
    dns_server.add("net.post.example", "TXT", '"v=spf1 ip4:192.0.2.0/24 " "ip4:198.51.100.7 -all"')
    permission = read("tea.example")
    assert permission is not None
    assert permission.included == {"post.example", "net.post.example"}
    assert permission.has("include:net.post.example")
    assert permission.has("ip4:192.0.2.9")
    assert permission.has("ip4:192.0.2.0/25")
    assert not permission.has("ip4:192.0.0.0/16")
    assert permits(permission, "198.51.100.7")
    assert permits(permission, "2001:db8::1")
    assert not permits(permission, "198.51.100.8")
    assert permission.others == "~"
    assert permission.lookups == 2


def test_what_is_refused_by_name_is_not_permitted_and_what_an_include_refuses_stays_open(dns_server: DNSServer) -> None:
    publish(dns_server, tea="v=spf1 -include:bad.example -ip4:192.0.2.1 ?all", bad="v=spf1 ip4:203.0.113.0/24 -all")
    permission = read("tea.example")
    assert permission is not None
    assert permission.included == set()
    assert not permits(permission, "203.0.113.4")
    assert not permits(permission, "192.0.2.1")
    assert permission.others == "?"


def test_a_redirect_stands_in_place_of_the_record_unless_that_speaks_of_all(dns_server: DNSServer) -> None:
    publish(dns_server, tea="v=spf1 redirect=_spf.post.example", coffee="v=spf1 -all redirect=_spf.post.example")
    dns_server.add("_spf.post.example", "TXT", '"v=spf1 ip4:192.0.2.0/24 -all"')
    permission = read("tea.example")
    assert permission is not None
    assert permits(permission, "192.0.2.3")
    assert permission.others == "-"
    other = read("coffee.example")
    assert other is not None
    assert not permits(other, "192.0.2.3")


def test_hosts_of_a_and_mx_are_looked_up(dns_server: DNSServer) -> None:
    publish(dns_server, tea="v=spf1 a mx a:web.example/28 -all")
    dns_server.add("tea.example", "A", "192.0.2.1")
    dns_server.add("tea.example", "MX", "10 in.example.", "20 in2.example.")
    dns_server.add("in.example", "A", "192.0.2.20")
    dns_server.add("in2.example", "AAAA", "2001:db8::20")
    dns_server.add("web.example", "A", "198.51.100.17")
    permission = read("tea.example")
    assert permission is not None
    assert all(permits(permission, address) for address in ["192.0.2.1", "192.0.2.20", "2001:db8::20", "198.51.100.30"])
    assert not permits(permission, "198.51.100.32")
    assert permission.lookups == 3


def test_two_records_are_none(dns_server: DNSServer) -> None:
    dns_server.add("tea.example", "TXT", '"v=spf1 -all"', '"v=spf1 ~all"')
    assert broken() == "spf_several"


@pytest.mark.parametrize(
    "term", ["ip4:192.0.2", "ip4:2001:db8::1", "include:", "foo", "all:x", "a/33", "include:post.example;", "ip6:::1/129", "?", "+"]
)
def test_a_term_that_cannot_be_read_is_named(dns_server: DNSServer, term: str) -> None:
    publish(dns_server, tea=f"v=spf1 {term} -all")
    with pytest.raises(spf.PermError) as caught:
        read("tea.example")
    assert caught.value.problem == "spf_syntax"
    assert caught.value.about["term"] == term


def test_ten_lookups_are_read_and_the_eleventh_breaks_the_record(dns_server: DNSServer) -> None:
    for n in range(11):
        dns_server.add(f"s{n}.example", "TXT", f'"v=spf1 ip4:192.0.2.{n} -all"')
    publish(dns_server, tea="v=spf1 " + " ".join(f"include:s{n}.example" for n in range(10)) + " -all")
    permission = read("tea.example")
    assert permission is not None
    assert permission.lookups == spf.MOST_LOOKUPS
    publish(dns_server, coffee="v=spf1 " + " ".join(f"include:s{n}.example" for n in range(11)) + " -all")
    assert broken("coffee.example") == "spf_lookups"


def test_three_names_that_lead_to_nothing_break_the_record(dns_server: DNSServer) -> None:
    publish(dns_server, tea="v=spf1 a:one.gone.example mx:two.gone.example -all")
    assert read("tea.example") is not None
    publish(dns_server, coffee="v=spf1 a:one.gone.example mx:two.gone.example a:three.gone.example -all")
    assert broken("coffee.example") == "spf_void"


def test_an_mx_of_more_than_ten_hosts_breaks_the_record(dns_server: DNSServer) -> None:
    dns_server.add("many.example", "MX", *(f"10 in{n}.example." for n in range(11)))
    publish(dns_server, tea="v=spf1 mx:many.example -all")
    assert broken() == "spf_hosts"


def test_records_that_include_each_other_end(dns_server: DNSServer) -> None:
    publish(dns_server, tea="v=spf1 include:post.example -all", post="v=spf1 include:tea.example -all")
    assert broken() == "spf_loop"


def test_an_include_of_a_domain_without_a_record_breaks_it(dns_server: DNSServer) -> None:
    publish(dns_server, tea="v=spf1 include:post.example -all")
    assert broken() == "spf_include"


def test_what_is_made_anew_for_each_mail_is_counted_and_not_looked_up(dns_server: DNSServer) -> None:
    publish(dns_server, tea="v=spf1 exists:%{i}._spf.example include:%{d}.post.example a:%{d} -all")
    permission = read("tea.example")
    assert permission is not None
    assert permission.lookups == 3
    assert all("%" not in name for name, _kind, _transport in dns_server.asked)


def test_servers_that_do_not_answer_are_no_verdict(dns_server: DNSServer) -> None:
    publish(dns_server, tea="v=spf1 include:post.example -all")
    dns_server.fail("post.example")
    with pytest.raises(dns.Unanswered):
        read("tea.example")
