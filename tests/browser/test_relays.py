"""From nothing to mail that is trusted, watched, and goes round a relay that fails: what an administrator does in the first week.

`make walk`; SCREENSHOTS=FOLDER keeps a picture of each station, in English and in Japanese."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dkim
import dns.name
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import connection
from playwright.sync_api import Browser, Page, expect

from mailhub.demo import sample
from tests.browser.conftest import CONTACTS, Site, logged_in, running
from tests.certificates import Authority
from tests.dns_server import DNSServer
from tests.installation import LONG, installed, until
from tests.smtp_server import SMTPServer

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(connection.vendor == "postgresql", reason="pages are the same on both, and what they start is tested on both"),
]

DOMAIN = "shop.example.com"
OWN_IP, EHLO = "127.0.0.7", "mta1.shop.example.com"
Picture = Callable[[Page, str], None]


@pytest.fixture(scope="package")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="package")
def names() -> Iterator[DNSServer]:
    """The DNS, in which the domains of the sample people take mail on this machine."""
    with DNSServer() as server:
        for domain in ("example.com", "example.jp", "example.org"):
            server.add(domain, "MX", "10 mx.example.com.")
        server.add("mx.example.com", "A", "127.0.0.1")
        yield server


@pytest.fixture(scope="package")
def house(
    authority: Authority, names: DNSServer, django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A MailHub that asks that DNS, and believes that authority."""
    folder = tmp_path_factory.mktemp("house")
    trusted = folder / "authority.pem"
    trusted.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    own = {
        "MAILHUB_DNS_SERVERS": "{}:{}".format(*names.address),
        "MAILHUB_ALLOW_PRIVATE_ADDRESSES": "127.0.0.0/8",
        "SSL_CERT_FILE": str(trusted),
    }
    with installed("house", folder, django_db_blocker) as installation:
        installation = replace(installation, environment={**installation.environment, **own})
        with running(installation) as site:
            yield site


@pytest.fixture
def staff(house: Site, browser: Browser, complaints: list[str]) -> Iterator[Page]:
    with logged_in(house, browser, complaints) as page:
        yield page


@pytest.fixture
def picture(house: Site, browser: Browser, staff: Page) -> Iterator[Picture]:
    """Keep a picture of the page that staff see, in both languages, where SCREENSHOTS says so."""
    folder = os.environ.get("SCREENSHOTS")
    japanese = browser.new_context(base_url=house.address, locale="ja-JP", viewport={"width": 1280, "height": 900})
    japanese.add_cookies(staff.context.cookies())

    def take(page: Page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=f"{folder}/{name}-en.png", full_page=True)
            other = japanese.new_page()
            other.goto(page.url)
            other.screenshot(path=f"{folder}/{name}-ja.png", full_page=True)
            other.close()

    yield take
    japanese.close()


def add_relay(page: Page, service: str, name: str, port: int, password: str) -> None:
    """From the picker, as the service's preset has it, but for where the server is."""
    page.goto("/admin/relays/relay/add/")
    page.get_by_role("link", name=re.compile(service)).first.click()
    page.locator("#id_name").fill(name)
    page.locator("#id_host").fill("localhost")
    page.locator("#id_port").fill(str(port))
    page.locator("#id_username").fill(f"{name}@example.com")
    page.locator("#id_password").fill(password)
    page.get_by_role("button", name="Save and continue editing").click()


def try_connection(page: Page) -> None:
    page.get_by_role("link", name="Test the connection…").click()
    page.get_by_role("button", name="Test the connection").click()


def lead(page: Page, house: Site, *relays: str) -> None:
    """Have campaigns leave through these, the first first."""
    page.goto("/admin/relays/route/")
    page.get_by_role("link", name="Demo: campaigns").first.click()
    for place in range(2):
        row = page.locator(f"#members-{place}")
        if place < len(relays):
            if not row.count():
                page.get_by_text(re.compile("^Add another")).first.click()
            row.locator(f"#id_members-{place}-relay").select_option(label=relays[place])
            row.locator(f"#id_members-{place}-position").fill(str(place + 1))
        elif row.count():
            row.locator("input[type=checkbox][name$=DELETE]").check()
    page.get_by_role("button", name="Save and continue editing").click()


def send_campaign(page: Page, name: str) -> None:
    page.goto("/admin/campaigns/campaign/add/")
    page.get_by_label(re.compile("^Name")).fill(name)
    sender = page.get_by_label(re.compile("^Sender"))
    sender.select_option(value=sender.locator("option", has_text=sample.NEWS).get_attribute("value"))
    for each in sample.LISTS.values():
        page.get_by_label(each).check()
    page.get_by_label(re.compile("^Subject")).fill("For {{ name }}")
    page.get_by_label(re.compile("^HTML")).fill("<p>Dear {{ name }}, the first flush is here.</p>")
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_role("link", name="Send or schedule…").click()
    page.get_by_role("button", name=re.compile("Send now to")).click()


def new_key(page: Page, names: DNSServer) -> str:
    """Have one made, put the record that the domain's page asks for into the DNS, and have it looked up; returns the selector."""
    page.get_by_role("button", name=re.compile("^Make a key: RSA")).click()
    page.get_by_role("button", name="Look the records up now").click()
    line = page.locator(".findings .records > li", has_text="_domainkey").filter(has=page.locator(".badge.missing"))
    name, record = line.locator(".state strong").inner_text(), line.locator("pre.copy").first.inner_text()
    strings = " ".join(f'"{record[start : start + 255]}"' for start in range(0, len(record), 255))
    names.add(name, "TXT", strings)
    page.get_by_role("button", name="Look the records up now").click()
    return name.partition(".")[0]


def signed_by(data: bytes, names: DNSServer) -> str:
    """The selector of a signature that holds."""

    def look_up(name: bytes, timeout: int = 0) -> bytes:
        found = names.records[dns.name.from_text(name.decode()), "TXT"]
        return b"".join(found[0].strings)

    assert dkim.verify(data, dnsfunc=look_up)
    found = re.search(rb"\bs=([^;\s]+)", data)
    assert found
    return found[1].decode()


def test_relays_and_a_domain_are_set_up_a_key_is_rotated_and_a_relay_that_fails_is_gone_round(
    house: Site, staff: Page, picture: Picture, names: DNSServer, authority: Authority, complaints: list[str]
) -> None:
    page = staff
    tls = authority.issue("localhost").context()
    with (
        SMTPServer(tls=tls, users={"first@example.com": "app password"}) as first,
        SMTPServer(tls=tls, users={"second@example.com": "made"}) as second,
        SMTPServer() as receiver,
    ):
        # An account like Gmail's. Its password is wrong at first.
        add_relay(page, "Gmail", "first", first.port, "my usual one")
        picture(page, "1-relay")
        try_connection(page)
        expect(page.locator("main, #content").first).to_contain_text("does not work")
        expect(page.locator(".obstacle.bad")).to_have_count(1)
        picture(page, "2-wrong-password")
        page.get_by_role("link", name="Back").click()
        page.locator("#id_password").fill("app password")
        page.get_by_role("button", name="Save and continue editing").click()
        try_connection(page)
        expect(page.locator("main, #content").first).to_contain_text("The server lets us in")
        add_relay(page, "Amazon SES", "second", second.port, "made")
        lead(page, house, "first", "second")
        picture(page, "3-route")

        # The domain, and its first key.
        page.goto("/admin/senders/domain/")
        page.get_by_role("link", name=DOMAIN).first.click()
        domain = page.url
        names.add(DOMAIN, "TXT", '"v=spf1 include:_spf.google.com include:amazonses.com -all"')
        for include in ("_spf.google.com", "amazonses.com"):
            names.add(include, "TXT", '"v=spf1 ip4:127.0.0.0/8 -all"')
        names.add(f"_dmarc.{DOMAIN}", "TXT", '"v=DMARC1; p=none"')
        older = new_key(page, names)
        expect(page.locator(".records .badge.pass").first).to_be_visible()
        expect(page.locator("main, #content").first).to_contain_text("signing")
        picture(page, "4-domain")

        # The next key, while mail flows.
        send_campaign(page, "While the key changes")
        until(lambda: first.mails)
        page.goto(domain)
        newer = new_key(page, names)
        until(lambda: len(first.mails) == CONTACTS)
        send_campaign(page, "With the new key")
        until(lambda: len(first.mails) == 2 * CONTACTS)
        selectors = [signed_by(mail.data, names) for mail in first.mails]
        assert (selectors[0], set(selectors[CONTACTS:])) == (older, {newer})
        picture(page, "5-sent")

        # An address of our own, to which a route is pinned.
        page.goto("/admin/relays/ippool/add/")
        page.locator("#id_name").fill("Own addresses")
        page.get_by_text(re.compile("^Add another")).first.click()
        page.locator("#id_ips-0-address").fill(OWN_IP)
        page.locator("#id_ips-0-ehlo_name").fill(EHLO)
        page.get_by_role("button", name="Save", exact=True).click()
        page.goto("/admin/relays/relay/add/?kind=mx")
        page.locator("#id_name").fill("direct")
        page.locator("#id_pool").select_option(label="Own addresses")
        page.locator("details", has=page.locator("#id_port")).locator("summary").first.click()
        page.locator("#id_port").fill(str(receiver.port))
        page.get_by_role("button", name="Save and continue editing").click()
        lead(page, house, "direct")
        send_campaign(page, "From our own address")
        until(lambda: len(receiver.mails) == CONTACTS)
        assert {(mail.peer[0], mail.ehlo) for mail in receiver.mails} == {(OWN_IP, EHLO)}
        page.goto("/admin/relays/dedicatedip/")
        page.get_by_role("link", name=OWN_IP).first.click()
        picture(page, "6-own-address")

        # The first relay dies: the second takes over, somebody is told, and it goes on when it is back.
        lead(page, house, "first", "second")
        first.stop()
        send_campaign(page, "Round the relay that fails")
        until(lambda: len(second.mails) == CONTACTS)
        page.goto("/admin/watching/trouble/")
        until(lambda: page.reload() and page.locator("#result_list").count() and "first" in page.locator("#result_list").inner_text())
        picture(page, "7-troubles")
        with SMTPServer(tls=tls, users={"first@example.com": "app password"}, port=first.port) as again:
            page.goto("/admin/relays/relay/")
            page.locator("#result_list").get_by_role("link", name=re.compile("^first")).first.click()
            page.get_by_role("button", name="Try again now").click()
            picture(page, "8-resumed")
            send_campaign(page, "And on")
            until(lambda: len(again.mails) == CONTACTS, LONG)
    assert complaints == []
