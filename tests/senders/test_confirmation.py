from __future__ import annotations

import re
from datetime import timedelta
from email import message_from_bytes
from email.policy import default

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from mailhub.lib import clock
from mailhub.relays.base import Fault, Refused, Reply
from mailhub.relays.models import Relay, Route, RouteMember
from mailhub.relays.providers import memory
from mailhub.senders import confirmation
from mailhub.senders.models import Sender

pytestmark = pytest.mark.django_db


@pytest.fixture
def sender(settings: Settings) -> Sender:
    settings.MAILHUB_PUBLIC_URL = "https://hub.tea.example"
    settings.PUBLIC_HOST = "hub.tea.example"
    return Sender.objects.create(email="shop@tea.example", name="緑茶堂")


@pytest.fixture
def relay() -> Relay:
    relay = Relay.objects.create(name="Post", kind="memory")
    RouteMember.objects.create(route=Route.objects.create(name="All", default_for="transactional"), relay=relay)
    return relay


def mailed(relay: Relay) -> str:
    """The path that the one mail names."""
    [envelope] = memory.taken[relay.pk]
    mail = message_from_bytes(envelope.data, policy=default)
    assert envelope.rcpt_to == "shop@tea.example"
    assert "shop@tea.example" in mail["Subject"]
    [path] = re.findall(r"https://hub\.tea\.example(/confirm/\S+)", mail.get_content())
    return str(path)


def test_whoever_reads_the_address_confirms_it(client: Client, admin_client: Client, sender: Sender, relay: Relay) -> None:
    page = admin_client.post(reverse("admin:senders_sender_mail_link", args=[sender.pk]), follow=True)
    assert "A mail is on its way to shop@tea.example" in page.content.decode()
    path = mailed(relay)
    assert "Is this address yours?" in client.get(path).content.decode()
    sender.refresh_from_db()
    assert sender.status == Sender.Status.UNCONFIRMED
    assert "The address is confirmed" in client.post(path).content.decode()
    sender.refresh_from_db()
    assert sender.status == Sender.Status.CONFIRMED
    assert "The address is confirmed" in client.post(path).content.decode()


def test_a_link_that_was_changed_or_is_too_old_confirms_nothing(client: Client, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    path = confirmation.link(sender).removeprefix("https://hub.tea.example")
    assert client.post(path[:-1]).status_code == 404
    assert client.post(reverse("confirm-sender", args=["hello"])).status_code == 404
    later = clock.now() + confirmation.HOLDS + timedelta(seconds=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    response = client.post(path)
    assert response.status_code == 410
    assert "have its staff send a new one" in response.content.decode()
    sender.refresh_from_db()
    assert sender.status == Sender.Status.UNCONFIRMED


def test_a_sender_that_staff_disabled_stays_so(client: Client, sender: Sender) -> None:
    path = confirmation.link(sender).removeprefix("https://hub.tea.example")
    sender.disable()
    assert "no longer good" in client.post(path).content.decode()
    sender.refresh_from_db()
    assert sender.status == Sender.Status.DISABLED


def test_without_a_way_out_staff_are_told_what_to_do(admin_client: Client, sender: Sender) -> None:
    page = admin_client.post(reverse("admin:senders_sender_mail_link", args=[sender.pk]), follow=True)
    assert "Give it a route, or make one the default." in page.content.decode()


def test_what_the_relay_says_against_it_is_shown(admin_client: Client, sender: Sender, relay: Relay) -> None:
    memory.script[relay.pk].append(Refused(Reply(550, "5.7.1", "Sender not allowed"), Fault.SENDER))
    page = admin_client.post(reverse("admin:senders_sender_mail_link", args=[sender.pk]), follow=True)
    assert "550 5.7.1 Sender not allowed" in page.content.decode()
