from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import translation
from pytest_django.fixtures import Settings

from mailhub.relays.models import DedicatedIP, IPPool, Relay, Route, RouteMember
from mailhub.senders import records, verdicts
from mailhub.senders.models import DKIMKey, Domain, Finding, Kind, Sender, Verdict
from mailhub.senders.records import Seen
from tests.dns_server import DNSServer

pytestmark = pytest.mark.django_db


@pytest.fixture
def domain(settings: Settings) -> Domain:
    settings.MAILHUB_PUBLIC_URL = "https://hub.tea.example"
    return Sender.objects.create(email="shop@tea.example", name="緑茶堂").domain


def check(domain: Domain) -> dict[Kind, list[Seen]]:
    found: dict[Kind, list[Seen]] = {}
    for one in async_to_sync(records.check)(domain):
        found.setdefault(one.kind, []).append(one)
    return found


def one(domain: Domain, kind: Kind) -> Seen:
    [seen] = check(domain)[kind]
    return seen


def way(name: str = "Post", **fields: Any) -> Relay:
    """A relay that campaigns leave by."""
    relay = Relay.objects.create(name=name, kind=fields.pop("kind", "memory"), **fields)
    route, _made = Route.objects.get_or_create(name="Campaigns", default_for="campaign")
    RouteMember.objects.create(route=route, relay=relay)
    return relay


def txt(server: DNSServer, name: str, *values: str) -> None:
    server.remove(name, "TXT")
    for value in values:
        server.add(name, "TXT", " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255)))


def test_an_empty_zone_is_told_what_to_publish(domain: Domain, dns_server: DNSServer) -> None:
    way(spf="include:spf.post.example ip4:192.0.2.1")
    found = {kind: seen[0] for kind, seen in check(domain).items()}
    assert {kind: seen.verdict for kind, seen in found.items()} == {
        Kind.OWNERSHIP: Verdict.ADVICE,
        Kind.SPF: Verdict.MISSING,
        Kind.DKIM: Verdict.MISSING,
        Kind.DMARC: Verdict.MISSING,
        Kind.EXISTENCE: Verdict.WRONG,
        Kind.LINKS: Verdict.WRONG,
        Kind.MTA_STS: Verdict.ADVICE,
        Kind.TLS_RPT: Verdict.ADVICE,
    }
    assert found[Kind.SPF].wanted == "v=spf1 include:spf.post.example ip4:192.0.2.1 ~all"
    assert found[Kind.DMARC].wanted == "v=DMARC1; p=none"
    assert found[Kind.OWNERSHIP].wanted == records.ownership_token("tea.example")


def test_a_zone_in_order_passes(domain: Domain, dns_server: DNSServer) -> None:
    way(spf="include:spf.post.example")
    key = DKIMKey.make(domain)
    key.sign_from_now_on()
    txt(dns_server, "_mailhub.tea.example", records.ownership_token("tea.example"))
    txt(dns_server, "tea.example", "v=spf1 include:all.example -all")
    txt(dns_server, "all.example", "v=spf1 include:spf.post.example -all")
    txt(dns_server, "spf.post.example", "v=spf1 ip4:192.0.2.0/24 -all")
    txt(dns_server, str(key), key.record().value)
    txt(dns_server, "_dmarc.tea.example", "v=DMARC1; p=quarantine; rua=mailto:d@tea.example")
    txt(dns_server, "_smtp._tls.tea.example", "v=TLSRPTv1; rua=mailto:t@tea.example")
    dns_server.add("tea.example", "MX", "10 in.tea.example.")
    dns_server.add("hub.tea.example", "A", "192.0.2.80")
    found = check(domain)
    assert {kind for kind, seen in found.items() if seen[0].verdict == Verdict.PASS} == set(found) - {Kind.MTA_STS}


def test_the_record_is_extended_by_what_each_relay_lacks(domain: Domain, dns_server: DNSServer) -> None:
    way("Post", spf="include:spf.post.example")
    way("Mass", spf="include:mass.example ip4:192.0.2.9")
    txt(dns_server, "tea.example", "v=spf1 include:mass.example -all")
    txt(dns_server, "mass.example", "v=spf1 ip4:198.51.100.0/24 -all")
    seen = one(domain, Kind.SPF)
    assert seen.verdict == Verdict.MISSING
    assert seen.wanted == "v=spf1 include:mass.example ip4:192.0.2.9 include:spf.post.example -all"
    assert (seen.about["terms"], seen.about["relays"]) == ("ip4:192.0.2.9 include:spf.post.example", "Mass, Post")
    assert seen.about["has"] == ["include:mass.example"]


def test_addresses_of_our_own_are_wanted_without_being_entered(domain: Domain, dns_server: DNSServer) -> None:
    pool = IPPool.objects.create(name="Ours")
    DedicatedIP.objects.create(pool=pool, address="192.0.2.25", ehlo_name="m1.tea.example")
    DedicatedIP.objects.create(pool=pool, address="2001:db8::25", ehlo_name="m2.tea.example")
    way(kind="mx", pool=pool)
    txt(dns_server, "tea.example", "v=spf1 ip4:192.0.2.0/24 ~all")
    assert one(domain, Kind.SPF).wanted == "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::25 ~all"


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("v=spf1 +all", "spf_open"),
        ("v=spf1 all", "spf_open"),
        ("v=spf1 nonsense -all", "spf_syntax"),
        ("v=spf1 include:gone.example", "spf_include"),
    ],
)
def test_a_record_that_does_harm_is_wrong(domain: Domain, dns_server: DNSServer, record: str, problem: str) -> None:
    txt(dns_server, "tea.example", record)
    seen = one(domain, Kind.SPF)
    assert (seen.verdict, seen.problem, seen.found) == (Verdict.WRONG, problem, record)


def test_everybody_is_shut_out_again_in_the_record_shown(domain: Domain, dns_server: DNSServer) -> None:
    txt(dns_server, "tea.example", "v=spf1 ip4:192.0.2.1 all")
    assert one(domain, Kind.SPF).wanted == "v=spf1 ip4:192.0.2.1 ~all"


# -------------------------------------------------------------------------------------------------------------------- DKIM


def test_a_key_without_its_record_fails_every_signature(domain: Domain, dns_server: DNSServer) -> None:
    key = DKIMKey.make(domain)
    assert (one(domain, Kind.DKIM).verdict, one(domain, Kind.DKIM).problem) == (Verdict.MISSING, "dkim_missing")
    key.sign_from_now_on()
    assert (one(domain, Kind.DKIM).verdict, one(domain, Kind.DKIM).problem) == (Verdict.WRONG, "dkim_missing_signing")


@pytest.mark.parametrize(
    ("published", "problem"),
    [
        (["{record}", "v=DKIM1; p=abc"], "dkim_several"),
        (["v=DKIM1; k=rsa; p="], "dkim_revoked"),
        (["v=DKIM1; k=rsa; p=MIIBIjANBgkq"], "dkim_mismatch"),
        (["hello"], "dkim_mismatch"),
        (["{record}; t=y"], "dkim_testing"),
    ],
)
def test_a_key_record_that_does_not_fit_says_why(domain: Domain, dns_server: DNSServer, published: list[str], problem: str) -> None:
    key = DKIMKey.make(domain)
    txt(dns_server, str(key), *(record.format(record=key.record().value) for record in published))
    seen = one(domain, Kind.DKIM)
    assert (seen.verdict, seen.problem) == (Verdict.WRONG, problem)


def test_a_key_record_may_be_broken_by_white_space(domain: Domain, dns_server: DNSServer) -> None:
    key = DKIMKey.make(domain)
    record = key.record().value
    txt(dns_server, str(key), record[:60] + "  " + record[60:])
    assert one(domain, Kind.DKIM).verdict == Verdict.PASS


def test_the_key_of_a_domain_above_signs_and_may_not_forbid_it(domain: Domain, dns_server: DNSServer) -> None:
    key = DKIMKey.make(domain)
    below = Sender.objects.create(email="news@mail.tea.example").domain
    txt(dns_server, str(key), key.record().value)
    assert one(below, Kind.DKIM).verdict == Verdict.PASS
    txt(dns_server, str(key), key.record().value + "; t=s")
    verdicts.dns.forget()
    assert one(below, Kind.DKIM).problem == "dkim_strict"
    assert one(domain, Kind.DKIM).verdict == Verdict.PASS


# ------------------------------------------------------------------------------------------------------------------- DMARC


def test_a_strict_policy_does_not_take_the_signature_of_the_domain_above(domain: Domain, dns_server: DNSServer) -> None:
    DKIMKey.make(domain).sign_from_now_on()
    below = Sender.objects.create(email="news@mail.tea.example").domain
    txt(dns_server, "_dmarc.tea.example", "v=DMARC1; p=reject; adkim=s; rua=mailto:d@tea.example")
    assert one(domain, Kind.DMARC).verdict == Verdict.PASS
    seen = one(below, Kind.DMARC)
    assert (seen.verdict, seen.problem) == (Verdict.WRONG, "dmarc_alignment")
    assert seen.about == {"domain": "mail.tea.example", "signer": "tea.example"}


@pytest.mark.parametrize(
    ("record", "verdict", "problem"),
    [
        ("v=DMARC1; p=reject", Verdict.ADVICE, "dmarc_no_reports"),
        ("v=DMARC1; p=none; rua=mailto:d@tea.example", Verdict.ADVICE, "dmarc_none"),
        ("v=DMARC1; fo=1", Verdict.WRONG, "dmarc_empty"),
        ("v=DMARC1; p reject", Verdict.WRONG, "dmarc_syntax"),
    ],
)
def test_a_policy_is_weighed(domain: Domain, dns_server: DNSServer, record: str, verdict: Verdict, problem: str) -> None:
    txt(dns_server, "_dmarc.tea.example", record)
    seen = one(domain, Kind.DMARC)
    assert (seen.verdict, seen.problem) == (verdict, problem)


# --------------------------------------------------------------------------------------------------------- hosts and addresses


def test_a_domain_that_takes_no_mail_is_wrong_as_a_sender(domain: Domain, dns_server: DNSServer) -> None:
    dns_server.add("tea.example", "MX", "0 .")
    assert one(domain, Kind.EXISTENCE).problem == "existence_null"


def test_an_address_record_stands_for_an_exchanger(domain: Domain, dns_server: DNSServer) -> None:
    dns_server.add("tea.example", "A", "192.0.2.1")
    assert one(domain, Kind.EXISTENCE).verdict == Verdict.PASS


@pytest.mark.parametrize(
    ("names", "back", "verdict", "problem"),
    [
        ([], {}, Verdict.MISSING, "ptr_missing"),
        (["m1.tea.example."], {}, Verdict.WRONG, "ptr_unconfirmed"),
        (["m1.tea.example."], {"m1.tea.example": "192.0.2.26"}, Verdict.WRONG, "ptr_unconfirmed"),
        (["host25.provider.example."], {"host25.provider.example": "192.0.2.25"}, Verdict.WRONG, "ptr_other"),
        (["m1.tea.example."], {"m1.tea.example": "192.0.2.25"}, Verdict.PASS, ""),
    ],
)
def test_an_address_leads_to_its_name_and_back(
    domain: Domain, dns_server: DNSServer, names: list[str], back: dict[str, str], verdict: Verdict, problem: str
) -> None:
    pool = IPPool.objects.create(name="Ours")
    DedicatedIP.objects.create(pool=pool, address="192.0.2.25", ehlo_name="m1.tea.example")
    way(kind="mx", pool=pool)
    for name in names:
        dns_server.add("25.2.0.192.in-addr.arpa", "PTR", name)
    for name, address in back.items():
        dns_server.add(name, "A", address)
    seen = one(domain, Kind.PTR)
    assert (seen.verdict, seen.problem) == (verdict, problem)


def test_bounces_find_their_way_to_a_domain_of_the_same_organisation(domain: Domain, dns_server: DNSServer) -> None:
    assert Kind.BOUNCES not in check(domain)
    domain.bounce_address = "bounces@bounce.tea.example"
    assert one(domain, Kind.BOUNCES).problem == "bounces_missing"
    dns_server.add("bounce.tea.example", "MX", "10 in.tea.example.")
    verdicts.dns.forget()
    assert one(domain, Kind.BOUNCES).problem == "bounces_alignment"
    txt(dns_server, "_dmarc.tea.example", "v=DMARC1; p=reject")
    verdicts.dns.forget()
    assert one(domain, Kind.BOUNCES).verdict == Verdict.PASS


def test_a_policy_that_is_announced_and_not_there_is_wrong(domain: Domain, dns_server: DNSServer) -> None:
    txt(dns_server, "_mta-sts.tea.example", "v=STSv1; id=1")
    seen = one(domain, Kind.MTA_STS)
    assert (seen.verdict, seen.problem) == (Verdict.WRONG, "mta_sts_wrong")


def test_servers_that_fail_are_no_verdict(domain: Domain, dns_server: DNSServer) -> None:
    dns_server.fail("_dmarc.tea.example")
    seen = one(domain, Kind.DMARC)
    assert (seen.verdict, seen.problem) == (Verdict.UNKNOWN, "unanswered")
    assert one(domain, Kind.SPF).verdict == Verdict.MISSING


def test_a_name_server_that_hangs_holds_the_page_up_no_longer_than_it_may(
    domain: Domain, dns_server: DNSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PATIENCE", 0.05)
    dns_server.silence("_dmarc.tea.example")
    assert one(domain, Kind.DMARC).problem == "slow"


# ------------------------------------------------------------------------------------------------------------------ verdicts


def seen(verdict: Verdict, kind: Kind = Kind.SPF, name: str = "tea.example", **fields: Any) -> Seen:
    return Seen(kind, verdict, name, "TXT", **fields)


def test_only_what_got_worse_is_told(domain: Domain) -> None:
    assert verdicts.keep(domain, [seen(Verdict.PASS), seen(Verdict.ADVICE, Kind.DMARC)]) == []
    [worse] = verdicts.keep(domain, [seen(Verdict.MISSING, problem="spf_missing"), seen(Verdict.ADVICE, Kind.DMARC)])
    assert (worse.kind, worse.verdict) == (Kind.SPF, Verdict.MISSING)
    assert verdicts.keep(domain, [seen(Verdict.WRONG, problem="spf_open"), seen(Verdict.PASS, Kind.DMARC)]) == []
    domain.refresh_from_db()
    assert domain.checked_at is not None
    assert {(finding.kind, finding.verdict) for finding in domain.findings.all()} == {("spf", "wrong"), ("dmarc", "pass")}


def test_name_servers_that_are_away_undo_nothing(domain: Domain) -> None:
    verdicts.keep(domain, [seen(Verdict.PASS, found="v=spf1 -all"), seen(Verdict.PASS, Kind.PTR, "192.0.2.1")])
    assert verdicts.keep(domain, [seen(Verdict.UNKNOWN), seen(Verdict.UNKNOWN, Kind.PTR, "tea.example")]) == []
    finding = Finding.objects.get(kind=Kind.SPF)
    assert (finding.verdict, finding.found, finding.stale) == ("pass", "v=spf1 -all", True)
    assert Finding.objects.get(name="192.0.2.1").stale
    verdicts.keep(domain, [seen(Verdict.PASS)])
    assert not Finding.objects.get(kind=Kind.SPF).stale
    assert not Finding.objects.filter(name="192.0.2.1").exists()


def test_a_new_key_signs_once_its_record_is_seen_and_the_old_one_retires(domain: Domain, dns_server: DNSServer) -> None:
    old = DKIMKey.make(domain)
    old.sign_from_now_on()
    new = DKIMKey.make(domain)
    verdicts.look(domain)
    new.refresh_from_db()
    assert new.status == DKIMKey.Status.NEW
    txt(dns_server, str(new), new.record().value)
    verdicts.look(domain)
    old.refresh_from_db()
    new.refresh_from_db()
    assert (old.status, new.status) == (DKIMKey.Status.RETIRED, DKIMKey.Status.SIGNING)


def test_a_domain_that_shows_it_is_ours_confirms_its_senders(domain: Domain, dns_server: DNSServer) -> None:
    other = Sender.objects.create(email="info@tea.example")
    other.disable()
    verdicts.look(domain)
    assert Sender.objects.get(email="shop@tea.example").status == Sender.Status.UNCONFIRMED
    txt(dns_server, "_mailhub.tea.example", records.ownership_token("tea.example"))
    verdicts.look(domain)
    domain.refresh_from_db()
    assert domain.verified_at is not None
    assert Sender.objects.get(email="shop@tea.example").status == Sender.Status.CONFIRMED
    assert Sender.objects.get(email="info@tea.example").status == Sender.Status.DISABLED


def test_another_domains_token_shows_nothing(domain: Domain, dns_server: DNSServer) -> None:
    txt(dns_server, "_mailhub.tea.example", records.ownership_token("coffee.example"))
    assert one(domain, Kind.OWNERSHIP).verdict == Verdict.ADVICE


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_problem_has_words_and_a_remedy(language: str) -> None:
    about = dict.fromkeys(["address", "domain", "found", "most", "name", "reason", "relay", "relays", "signer", "term", "terms"], "X")
    with translation.override(language):
        for problem in records.PROBLEMS:
            wrong, remedy = records.words(problem, about)
            assert wrong, problem
            assert remedy, problem
            assert "%" not in wrong + remedy, problem
