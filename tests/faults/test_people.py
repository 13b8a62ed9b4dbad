"""F18, F19, F23: what people do while a campaign is sent: they unsubscribe, are suppressed, pause, edit, delete, and change keys."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import ProtectedError

from campaigns import audience, imports, launch, subscriptions
from campaigns.imports import Terms
from campaigns.models import Campaign, Consent, Contact, MailingList, Template
from campaigns.subscriptions import Circumstances
from mailhub.bench.memory import Peak, Watch
from mailhub.delivery import batches, engine, suppressions
from mailhub.delivery.models import Batch, Message
from mailhub.relays.models import Relay
from mailhub.senders.models import DKIMKey, Sender
from tests.delivery import world
from tests.faults.world import Hub
from tests.installation import until
from tests.smtp_server import Delay

HTML = "<p>Dear {{ name }}, the first flush is here.</p>"


def campaign(hub: Hub, shop: Sender, readers: int) -> Campaign:
    """Launched, and with all its recipients in."""
    Sender.objects.filter(pk=shop.pk).update(organisation="Tea Ltd.", postal_address="1 Mihoncho", contact_point="shop@tea.example")
    shop.refresh_from_db()
    everyone = MailingList.objects.create(name="Everyone")
    file = io.BytesIO(b"email,name\n" + b"".join(b"reader%d@example.net,Reader %d\n" % (number, number) for number in range(readers)))
    imports.read(file, "readers.csv", Terms(everyone, Consent.Basis.OPT_IN, "test", "Yes.", None))
    template = Template.objects.create(name="Letter", subject="News for {{ name }}", html=HTML)
    draft = Campaign.objects.create(name="First flush", sender=shop, subject=template.subject, html=template.html, language="en")
    draft.lists.add(everyone)
    launch.launch(draft, User.objects.create(username="taro"))
    assert draft.batch
    audience.expand(draft.batch.pk)
    draft.batch.refresh_from_db()
    assert draft.batch.total == readers
    return draft


def free(addresses: list[str]) -> set[str]:
    """Those whose message nobody has claimed, or is just claiming: they must not get it any more."""
    with transaction.atomic():
        waiting = Message.objects.filter(address__in=addresses, status__in=["queued", "deferred"])
        kept = Message.objects.filter(address__in=addresses, status="suppressed")
        locked = waiting.select_for_update(skip_locked=True, no_key=True)
        return {message.address for message in itertools.chain(list(locked), kept)}


def suppress(addresses: list[str]) -> None:
    suppressions.add(addresses, "all", "asked by telephone")


def unsubscribe(addresses: list[str]) -> None:
    for contact in Contact.objects.filter(email__in=addresses):
        subscriptions.unsubscribe(contact, list(contact.lists.all()), Circumstances("test"))


@pytest.mark.parametrize("leave", [suppress, unsubscribe])
def test_who_leaves_while_it_is_sent_gets_it_only_if_a_worker_had_it_already(hub: Hub, leave: Callable[[list[str]], None]) -> None:
    server = hub.server()
    server.answers("dot", Delay(0.01))
    campaign(hub, hub.shop(hub.relay(server)), 200)
    hub.start()
    readers = [f"reader{number}@example.net" for number in range(200)]
    hub.chance.shuffle(readers)
    barred: set[str] = set()
    for start in range(0, 100, 20):
        until(lambda start=start: len(server.mails) >= start)
        some = readers[start : start + 20]
        leave(some)
        barred |= free(some)
    hub.finish()
    hub.reckon()
    got = set(server.by_recipient())
    assert barred, "everybody was claimed already"
    assert not barred & got
    # What a worker had claimed: no more than one claim each time.
    assert len(got & set(readers[:100])) <= 5 * engine.CLAIM_MOST
    assert set(readers[100:]) <= got


def test_a_pause_takes_effect_within_a_claim_and_nothing_is_lost_by_it(hub: Hub) -> None:
    server = hub.server()
    server.answers("dot", Delay(0.01))
    batch = world.make_batch(hub.shop(hub.relay(server)), 1500)
    hub.start()
    until(lambda: len(server.mails) > 50)
    batch.pause()
    until(lambda: not Message.objects.filter(status="claimed").exists())
    paused_at = len(server.mails)
    waiting = Message.objects.filter(status="queued").count()
    assert waiting
    batch.refresh_from_db()
    batches.resume(batch)
    hub.finish()
    hub.reckon()
    assert paused_at + waiting == len(server.mails) == 1500


def test_a_cancelled_campaign_ends_and_what_has_left_is_counted(hub: Hub) -> None:
    server = hub.server()
    server.answers("dot", Delay(0.02))
    # More than a drain claims in a second.
    batch = world.make_batch(hub.shop(hub.relay(server)), 1_500)
    hub.start()
    until(lambda: len(server.mails) > 50)
    batches.cancel(batch)
    withdraw(batch)
    until(hub.settled)
    hub.dismiss()
    hub.reckon()
    batch.refresh_from_db()
    assert batch.sent == len(server.mails)
    assert batch.canceled == 1_500 - batch.sent > 0


def withdraw(batch: Batch) -> None:
    """What the task does that batches.cancel() asks for; what comes back later is the tick's."""
    from mailhub.delivery import tasks

    until(lambda: tasks.withdraw(batch.pk) == 0 and not batch.messages.filter(status="claimed").exists())
    tasks.tick()


def test_what_is_edited_or_deleted_meanwhile_changes_nothing_of_what_was_launched(hub: Hub) -> None:
    server = hub.server()
    server.answers("dot", Delay(0.01))
    relay = hub.relay(server)
    shop = hub.shop(relay)
    key = DKIMKey.make(shop.domain, selector="first")
    key.sign_from_now_on()
    launched = campaign(hub, shop, 200)
    assert launched.batch
    hub.start()
    until(lambda: len(server.mails) > 50)
    Campaign.objects.update(subject="Changed", html="<p>Changed</p>", text="Changed")
    Template.objects.all().delete()
    Contact.objects.update(name="Changed")
    Sender.objects.update(name="Changed", organisation="Changed", reply_to="changed@tea.example")
    for needed in (relay, launched.batch.content, shop):
        with pytest.raises(ProtectedError):
            needed.delete()
    DKIMKey.make(shop.domain, selector="second").sign_from_now_on()
    until(lambda: len(server.mails) > 120)
    hub.finish()
    hub.reckon()
    assert len(server.mails) == 200
    assert not any(b"Changed" in mail.data or b"changed" in mail.data for mail in server.mails)
    signed = {selector for mail in server.mails for selector in (b"s=first", b"s=second") if selector in mail.data}
    assert signed and all(mail.data.startswith(b"DKIM-Signature") for mail in server.mails)


@pytest.mark.long
def test_a_password_that_changes_at_the_relay_first_costs_no_mail(hub: Hub) -> None:
    server = hub.server(users={"shop": "old"}, auth_needs_tls=False)
    server.answers("dot", Delay(0.01))
    relay = hub.relay(server, username="shop", password="old", messages_per_connection=10)
    world.make_batch(hub.shop(relay), 300)
    hub.start()
    until(lambda: len(server.mails) > 50)
    assert server.users
    server.users["shop"] = "new"
    until(lambda: Relay.objects.get().failures)
    Relay.objects.update(secrets={"password": "new"})
    hub.finish()
    assert hub.reckon().unknown == 0
    assert len(server.mails) == 300


@pytest.mark.long
def test_a_large_campaign_is_paused_and_goes_on_in_little_memory(hub: Hub) -> None:
    """F18, as far as it does not need ten million rows: through real doors and real workers."""
    server = hub.server()
    shop = hub.shop(hub.relay(server, connections=10))
    supervised = hub.supervised()
    peak = Peak()
    with Watch([supervised.process.pid], peak):
        launched = campaign(hub, shop, 10_000)
        assert launched.batch
        until(lambda: len(server.mails) > 3_000, seconds=300)
        launched.pause()
        until(lambda: not Message.objects.filter(status="claimed").exists())
        # Two drains, each with a claim and the half of another; and what left until the pause was noticed.
        assert Message.objects.filter(status="queued").count() > 10_000 - 3_000 - 3 * engine.CLAIM_MOST - engine.WINDOW
        launched.resume()
        until(hub.settled, seconds=300)
    hub.reckon()
    assert len(server.mails) == 10_000
    assert peak.single < 200
