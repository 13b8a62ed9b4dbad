from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from mailhub.delivery import engine
from mailhub.relays.models import InboxMail, IPPool, Relay
from mailhub.relays.providers import memory
from mailhub.senders.models import Sender
from tests.delivery.world import books, post

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_relay_that_sends_nothing_keeps_its_mail_here(relay: Relay, sender: Sender) -> None:
    Relay.objects.update(do_not_send=True)
    relay.refresh_from_db()
    post(sender, 3)
    engine.drain(relay, "transactional")
    assert books() == {"sent": 3}
    assert InboxMail.objects.filter(relay=relay).count() == 3
    assert not memory.taken[relay.pk]


def test_a_whole_installation_sends_nothing_whatever_its_relays_are(relay: Relay, sender: Sender, settings: Settings) -> None:
    settings.MAILHUB_DO_NOT_SEND = True
    # Its addresses are the original's, and not here.
    pool = IPPool.objects.create(name="Ours")
    pool.ips.create(address="192.0.2.25", ehlo_name="m1.tea.example", node="elsewhere")
    Relay.objects.update(kind="mx", pool=pool)
    relay.refresh_from_db()
    post(sender, 2)
    engine.drain(relay, "transactional")
    assert books() == {"sent": 2}
    assert InboxMail.objects.count() == 2


def test_every_page_says_that_nothing_is_sent(admin_client: Client, settings: Settings, relay: Relay) -> None:
    words = "All mail is kept in the inbox (MAILHUB_DO_NOT_SEND)."
    index = reverse("admin:index")
    assert words not in admin_client.get(index).content.decode()
    settings.MAILHUB_DO_NOT_SEND = True
    for url in (index, reverse("admin:relays_relay_changelist"), reverse("admin:relays_relay_change", args=[relay.pk])):
        assert words in admin_client.get(url).content.decode()


def test_a_relays_page_and_the_list_say_that_it_sends_nothing(admin_client: Client, relay: Relay) -> None:
    Relay.objects.update(do_not_send=True)
    assert "its mail is kept in the inbox." in admin_client.get(reverse("admin:relays_relay_change", args=[relay.pk])).content.decode()
    assert "sends nothing: its mail is kept here" in admin_client.get(reverse("admin:relays_relay_changelist")).content.decode()
