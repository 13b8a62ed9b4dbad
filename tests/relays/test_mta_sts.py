"""Policies from a web server on this machine, announced by a name server on this machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.db import DatabaseError
from django.utils import timezone
from pytest_django.fixtures import Settings

from mailhub.lib import dns, http
from mailhub.relays import mta_sts
from mailhub.relays.models import MTASTSPolicy
from mailhub.relays.mta_sts import Malformed, Mode, Policies, Policy
from tests.certificates import Authority
from tests.dns_server import DNSServer
from tests.https_server import HTTPSServer, page

AUTHORITY = Authority()
DOMAIN, HOST, PATH = "example.test", "mta-sts.example.test", "/.well-known/mta-sts.txt"
TEXT = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.test\r\nmx: *.mail.test\r\nmax_age: 604800\r\n"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    mta_sts.forget()
    yield
    mta_sts.forget()


@pytest.fixture
def web() -> Iterator[HTTPSServer]:
    with HTTPSServer(AUTHORITY.issue(HOST)) as server:
        yield server


@pytest.fixture
def domain(dns_server: DNSServer, web: HTTPSServer) -> DNSServer:
    """It announces and shows a policy."""
    announce(dns_server, "one")
    web.say(HOST, PATH, page(TEXT))
    return dns_server


def announce(dns_server: DNSServer, identifier: str) -> None:
    dns_server.remove(f"_mta-sts.{DOMAIN}", "TXT")
    dns_server.add(f"_mta-sts.{DOMAIN}", "TXT", f'"v=STSv1; id={identifier};"', ttl=1)
    dns.forget()


def policy(web: HTTPSServer) -> Policy | None:
    return async_to_sync(Policies(web.connect, AUTHORITY.trust).policy)(DOMAIN)


# ---------------------------------------------------------------------------------------------------------------- reading


def test_a_policy_is_read() -> None:
    assert mta_sts.parse(TEXT) == Policy(Mode.ENFORCE, ("mx.example.test", "*.mail.test"), timedelta(days=7))


def test_line_ends_spaces_unknown_fields_and_doubles_are_borne() -> None:
    text = "version:STSv1\nmode:  testing \nmode: enforce\nfuture: thing\nmx:MX.example.test\nmax_age: 99999999999"
    with pytest.raises(Malformed):
        mta_sts.parse(text)
    assert mta_sts.parse(text[:-1]) == Policy(Mode.TESTING, ("mx.example.test",), mta_sts.LONGEST)


def test_only_a_policy_of_none_may_name_no_host() -> None:
    assert mta_sts.parse("version: STSv1\nmode: none\nmax_age: 86400\n").mode == Mode.NONE
    with pytest.raises(Malformed, match="no mx"):
        mta_sts.parse("version: STSv1\nmode: enforce\nmax_age: 86400\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        TEXT.replace("STSv1", "STSv2"),
        TEXT.replace("enforce", "maybe"),
        TEXT.replace("604800", "-1"),
        TEXT.replace("604800", "1e5"),
        TEXT.replace("604800", "²"),
        TEXT.replace("version: STSv1\r\n", ""),
        TEXT.replace("max_age: 604800\r\n", ""),
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        mta_sts.parse(text)


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("mx.example.test", True),
        ("mx2.example.test", False),
        ("a.mail.test", True),
        ("a.b.mail.test", False),
        ("mail.test", False),
        ("amail.test", False),
        ("mx.example.test.evil.test", False),
    ],
)
def test_a_pattern_stands_for_one_label(host: str, named: bool) -> None:
    assert mta_sts.parse(TEXT).names(host) is named


@pytest.mark.parametrize(
    ("texts", "identifier"),
    [
        (("v=STSv1; id=20261125T010000;",), "20261125T010000"),
        (("v=spf1 -all", "v=STSv1;id=a"), "a"),
        ((), None),
        (("v=STSv1; id=a", "v=STSv1; id=b"), None),
        (("v=STSv1;",), None),
        (("v=STSv1; id=not-alphanumeric",), None),
        (("v=STSv1; id=" + "a" * 33,), None),
        (("v=STSv10; id=a",), None),
    ],
)
def test_an_announcement_is_read(texts: tuple[str, ...], identifier: str | None) -> None:
    assert mta_sts.identifier(texts) == identifier


# ---------------------------------------------------------------------------------------------------------------- fetching


def test_an_announced_policy_is_fetched_once_and_kept(domain: DNSServer, web: HTTPSServer) -> None:
    assert policy(web) == policy(web) == mta_sts.parse(TEXT)
    assert web.asked == [(HOST, PATH)]
    assert MTASTSPolicy.objects.get().domain == DOMAIN


def test_nothing_announced_is_nothing_fetched(dns_server: DNSServer, web: HTTPSServer) -> None:
    web.say(HOST, PATH, page(TEXT))
    assert policy(web) is None
    assert web.asked == []


def test_another_identifier_means_another_policy(domain: DNSServer, web: HTTPSServer) -> None:
    policy(web)
    announce(domain, "two")
    web.say(HOST, PATH, page(TEXT.replace("enforce", "testing")))
    assert policy(web).mode == Mode.TESTING
    assert MTASTSPolicy.objects.get().identifier == "two"


def test_a_policy_of_none_ends_the_one_before(domain: DNSServer, web: HTTPSServer) -> None:
    policy(web)
    announce(domain, "two")
    web.say(HOST, PATH, page("version: STSv1\nmode: none\nmax_age: 86400\n"))
    assert policy(web) is None


@pytest.mark.parametrize(
    "answer",
    [
        page(TEXT, 404),
        page("", 301, Location=f"https://{HOST}/moved.txt"),
        page(TEXT, media_type="text/html"),
        page("nonsense"),
        page(TEXT + "x" * 65_536),
        b"",
    ],
    ids=["missing", "moved", "no text", "nonsense", "too long", "no answer"],
)
def test_without_a_policy_mail_goes_as_if_there_were_none(
    domain: DNSServer, web: HTTPSServer, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    web.say(HOST, PATH, answer)
    web.say(HOST, "/moved.txt", page(TEXT))
    assert policy(web) is None
    assert "could not be fetched" in caplog.text
    assert web.asked == [(HOST, PATH)]


def test_a_host_with_a_wrong_certificate_is_not_believed(domain: DNSServer) -> None:
    with HTTPSServer(AUTHORITY.issue("www.example.test")) as impostor:
        impostor.say(HOST, PATH, page(TEXT))
        assert policy(impostor) is None


def test_after_a_failure_the_host_is_left_alone_for_a_while(domain: DNSServer, web: HTTPSServer) -> None:
    web.say(HOST, PATH, page("", 500))
    assert policy(web) is policy(web) is None
    assert len(web.asked) == 1
    web.say(HOST, PATH, page(TEXT))
    with time_machine.travel(mta_sts.RETRY + timedelta(seconds=1)):
        assert policy(web) is not None


def test_mails_that_wait_for_one_policy_fetch_it_once(domain: DNSServer, web: HTTPSServer) -> None:
    async def together() -> list[Policy | None]:
        policies = Policies(web.connect, AUTHORITY.trust)
        return list(await asyncio.gather(*(policies.policy(DOMAIN) for _ in range(10))))

    assert async_to_sync(together)() == [mta_sts.parse(TEXT)] * 10
    assert len(web.asked) == 1


# ---------------------------------------------------------------------------------------------------------------- remembering


def test_a_known_policy_holds_when_the_announcement_vanishes(domain: DNSServer, web: HTTPSServer) -> None:
    policy(web)
    for spoil in (lambda: domain.remove(f"_mta-sts.{DOMAIN}", "TXT"), lambda: domain.fail(f"_mta-sts.{DOMAIN}")):
        spoil()
        dns.forget()
        assert policy(web) == mta_sts.parse(TEXT)


def test_a_known_policy_holds_when_its_host_is_blocked(domain: DNSServer, web: HTTPSServer) -> None:
    policy(web)
    announce(domain, "two")
    web.say(HOST, PATH, page("", 503))
    assert policy(web) == mta_sts.parse(TEXT)


def test_a_known_policy_survives_a_restart(domain: DNSServer, web: HTTPSServer) -> None:
    policy(web)
    mta_sts.forget()
    domain.remove(f"_mta-sts.{DOMAIN}", "TXT")
    dns.forget()
    assert policy(web) == mta_sts.parse(TEXT)
    assert len(web.asked) == 1


def test_it_is_fetched_anew_before_it_runs_out_and_kept_when_that_fails(domain: DNSServer, web: HTTPSServer) -> None:
    policy(web)
    with time_machine.travel(mta_sts.REFRESH - timedelta(minutes=1)):
        policy(web)
    assert len(web.asked) == 1
    web.say(HOST, PATH, page("", 503))
    with time_machine.travel(mta_sts.REFRESH + timedelta(minutes=1)):
        assert policy(web) == mta_sts.parse(TEXT)
        assert len(web.asked) == 2
    web.say(HOST, PATH, page(TEXT.replace("enforce", "testing")))
    with time_machine.travel(mta_sts.REFRESH + timedelta(minutes=10)):
        assert policy(web).mode == Mode.TESTING


def test_it_ends_when_it_said(domain: DNSServer, web: HTTPSServer) -> None:
    policy(web)
    domain.remove(f"_mta-sts.{DOMAIN}", "TXT")
    dns.forget()
    with time_machine.travel(timedelta(days=7) - timedelta(minutes=1)):
        assert policy(web) is not None
    with time_machine.travel(timedelta(days=7) + timedelta(minutes=1)):
        assert policy(web) is None


def test_rows_that_have_run_out_are_cleared_away(domain: DNSServer, web: HTTPSServer) -> None:
    long_ago = timezone.now() - timedelta(days=9)
    MTASTSPolicy.objects.create(domain="old.test", identifier="x", text=TEXT, fetched_at=long_ago, expires_at=long_ago + timedelta(days=7))
    policy(web)
    assert [row.domain for row in MTASTSPolicy.objects.all()] == [DOMAIN]


def test_a_database_that_is_away_costs_no_mail(
    domain: DNSServer, web: HTTPSServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: object) -> None:
        raise DatabaseError

    monkeypatch.setattr(mta_sts, "_load", away)
    monkeypatch.setattr(mta_sts, "_keep", away)
    with caplog.at_level(logging.ERROR):
        assert policy(web) == policy(web) == mta_sts.parse(TEXT)
    assert "could not be kept" in caplog.text


def test_by_default_the_host_is_found_through_the_dns_and_the_guarded_dialer(
    domain: DNSServer, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = []
    domain.add(HOST, "A", "127.0.0.1")
    assert Policies().connect is http.connect
    assert async_to_sync(Policies().policy)(DOMAIN) is None
    assert "127.0.0.1 is not a public address" in caplog.text
