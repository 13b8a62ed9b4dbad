from __future__ import annotations

import pytest
from django.test import Client, override_settings
from django.utils import timezone

from campaigns import audience, launch, subscriptions
from campaigns.models import Campaign, Consent, Contact, MailingList, Subscription
from campaigns.subscriptions import Circumstances
from mailhub.delivery import events, queue
from mailhub.delivery.models import Batch, Event, Lease, Message, Suppression
from mailhub.lib import clock, tokens
from mailhub.relays.models import Relay
from tests.campaigns.conftest import FORM, Join


@pytest.fixture
def message(campaign: Campaign, news: MailingList, join: Join) -> Message:
    """A mail of a running campaign."""
    join("hana@example.net", news, name="花")
    batch = launch.launch(campaign, None)
    audience.expand(batch.pk)
    return batch.messages.select_related("content").get()


@pytest.fixture
def path(message: Message) -> str:
    return message.unsubscribe_url.removeprefix("http://127.0.0.1:8000")


def status(email: str = "hana@example.net", name: str = "News") -> str:
    return Subscription.objects.get(contact__email=email, list__name=name).status


# ------------------------------------------------------------------------------------------------------------------- deeds


def test_to_unsubscribe_leaves_a_record_and_no_consent(news: MailingList, join: Join) -> None:
    contact = join("hana@example.net", news)
    assert subscriptions.unsubscribe(contact, [news], FORM) == [news]
    subscription = Subscription.objects.get()
    assert (subscription.status, subscription.consent) == ("unsubscribed", None)
    assert [consent.basis for consent in Consent.objects.order_by("id")] == ["opt_in", "withdrawn"]
    assert subscriptions.unsubscribe(contact, [news], FORM) == []
    assert Consent.objects.count() == 2


def test_waiting_mail_of_every_campaign_to_the_list_is_kept_back(
    campaign: Campaign, news: MailingList, offers: MailingList, message: Message, join: Join
) -> None:
    second = campaign.copy()
    unrelated = campaign.copy()
    unrelated.lists.set([offers])
    contact = join("hana@example.net", offers)
    for each in (second, unrelated):
        audience.expand(launch.launch(each, None).pk)
    second.pause()
    subscriptions.unsubscribe(contact, [news], FORM)
    assert dict(Message.objects.values_list("batch__campaign", "status")) == {
        campaign.pk: "suppressed", second.pk: "suppressed", unrelated.pk: "queued",
    }  # fmt: skip
    batch = Batch.objects.get(campaign=campaign)
    assert (batch.waiting, batch.suppressed) == (0, 1)


def test_mail_that_another_list_gets_too_still_goes(campaign: Campaign, news: MailingList, offers: MailingList, join: Join) -> None:
    campaign.lists.add(offers)
    contact = join("hana@example.net", news, offers)
    audience.expand(launch.launch(campaign, None).pk)
    subscriptions.unsubscribe(contact, [news], FORM)
    assert Message.objects.get().status == "queued"
    subscriptions.unsubscribe(contact, [offers], FORM)
    assert Message.objects.get().status == "suppressed"


@pytest.mark.parametrize("state", ["claimed", "failed", "unknown"])
def test_mail_that_may_come_back_bears_a_note(message: Message, news: MailingList, state: str) -> None:
    held = {
        "lease": Lease.objects.create(
            relay=Relay.objects.get(), node="x", connections=1, started_at=timezone.now(), expires_at=timezone.now()
        )
    }
    Message.objects.update(status=state, **(held if state == "claimed" else {}))
    contact = Contact.objects.get()
    subscriptions.unsubscribe(contact, [news], FORM)
    subscriptions.subscribe(contact, [news], "opt_in", FORM)
    subscriptions.unsubscribe(contact, [news], FORM)
    assert [event.type for event in message.events.all()] == ["unsubscribed"]
    message.refresh_from_db()
    assert message.status == state


def test_who_is_forgotten_gets_nothing_that_waits_and_does_not_return_once_unsubscribed(
    message: Message, news: MailingList, offers: MailingList, join: Join
) -> None:
    hana, gone = Contact.objects.get(), join("gone@example.net", news)
    subscriptions.unsubscribe(gone, [news], FORM)
    for contact in (hana, gone):
        subscriptions.forget(contact)
    message.refresh_from_db()
    assert message.status == "suppressed"
    assert not Contact.objects.exists() and not Consent.objects.exists()
    assert list(Suppression.objects.values_list("address", "scope", "reason")) == [("gone@example.net", "campaign", "unsubscribe")]


@pytest.mark.parametrize("back", ["deferred", "queued", "resent"])
def test_mail_that_comes_back_to_who_has_unsubscribed_is_not_claimed(message: Message, news: MailingList, back: str) -> None:
    Message.objects.update(status="failed")
    subscriptions.unsubscribe(Contact.objects.get(), [news], FORM)
    if back == "resent":
        Batch.objects.update(failed=1, waiting=0)
        queue.resend(Message.objects.all())
    else:
        Message.objects.update(status=back)
        Batch.objects.update(**{"queued": {}, "deferred": {"deferred": 1, "waiting": 0}}[back])
    lease = queue.take_lease(Relay.objects.get(), "bulk")
    assert lease and queue.claim(lease, 10) == []
    message.refresh_from_db()
    assert (message.status, message.reply) == ("suppressed", "The recipient unsubscribed.")
    assert Batch.objects.get().suppressed == 1


# -------------------------------------------------------------------------------------------------------------------- page


def test_to_look_changes_nothing(client: Client, path: str) -> None:
    for look in (client.get, client.head):
        response = look(path)
        assert response.status_code == 200
        assert not response.cookies
    assert b"h\xe2\x80\xa6@example.net" in client.get(path).content
    assert b"hana@" not in client.get(path).content
    assert b"News" in client.get(path).content
    assert client.put(path).status_code == client.delete(path).status_code == 405
    assert client.get(path + "/subscribe").status_code == 405
    assert status() == "subscribed"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        ('--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n', "multipart/form-data; boundary=b"),
        ("--broken", "multipart/form-data"),
        ("", ""),
        ("{}", "application/json"),
    ],
)
def test_a_post_unsubscribes_whatever_its_body_says(path: str, body: str, kind: str, message: Message) -> None:
    client = Client(enforce_csrf_checks=True)
    for _time in range(2):
        response = client.post(path, body, content_type=kind, headers={"Origin": "https://mail.example"}, REMOTE_ADDR="192.0.2.7")
        assert response.status_code == 200
        assert not response.cookies and "Location" not in response
    assert status() == "unsubscribed"
    (consent,) = Consent.objects.filter(basis="withdrawn")
    assert (consent.ip_address, consent.source) == ("192.0.2.7", "unsubscribe link of the campaign “Spring”")
    message.refresh_from_db()
    assert message.status == "suppressed"
    assert sorted(event.type for event in message.events.all()) == ["rejected", "unsubscribed"]
    assert b"You are unsubscribed" in client.get(path).content


def test_it_is_effective_before_the_next_claim(client: Client, path: str) -> None:
    client.post(path)
    lease = queue.take_lease(Relay.objects.get(), "bulk")
    assert lease and queue.claim(lease, 10) == []


def test_all_lists_of_the_campaign_are_left_at_once(
    campaign: Campaign, news: MailingList, offers: MailingList, join: Join, client: Client
) -> None:
    campaign.lists.add(offers)
    other = MailingList.objects.create(name="Other")
    join("hana@example.net", news, offers, other)
    audience.expand(launch.launch(campaign, None).pk)
    path = Message.objects.get().unsubscribe_url.removeprefix("http://127.0.0.1:8000")
    assert b"News" in client.get(path).content and b"Offers" in client.get(path).content and b"Other" not in client.get(path).content
    client.post(path)
    assert (status(name="News"), status(name="Offers"), status(name="Other")) == ("unsubscribed", "unsubscribed", "subscribed")


def test_a_mistake_can_be_undone(client: Client, path: str) -> None:
    client.post(path)
    response = client.post(path + "/subscribe")
    assert b"You are subscribed" in response.content
    assert status() == "subscribed"
    subscription = Subscription.objects.get()
    assert subscription.consent and subscription.consent.basis == "opt_in"
    client.post(path + "/subscribe")
    assert Consent.objects.count() == 3


@pytest.mark.parametrize(
    "damage", [lambda path: path[:-1], lambda path: path.replace(".", "9."), lambda path: "/u/x", lambda path: "/u/1.1~x"]
)
def test_a_damaged_link_says_what_to_do(client: Client, path: str, damage: object) -> None:
    for response in (client.get(damage(path)), client.post(damage(path)), client.post(damage(path) + "/subscribe")):  # type: ignore[operator]
        assert response.status_code == 404
        assert b"This link does not work" in response.content
    assert status() == "subscribed"


def test_a_link_for_another_purpose_is_no_link(client: Client, path: str, message: Message) -> None:
    forged = tokens.sign("click", f"{message.batch_id}.{message.recipient_ref}")
    assert client.post(f"/u/{forged}").status_code == 404


def test_links_outlive_the_secret_key(client: Client, path: str, settings: object) -> None:
    old = settings.SECRET_KEY  # type: ignore[attr-defined]
    with override_settings(SECRET_KEY="x" * 50, SECRET_KEY_FALLBACKS=[old]):
        assert client.post(path).status_code == 200
    assert status() == "unsubscribed"


def test_links_outlive_the_message_and_the_contact(client: Client, path: str, message: Message) -> None:
    Message.objects.all().delete()
    client.post(path)
    assert status() == "unsubscribed"
    Contact.objects.all().delete()
    for response in (client.get(path), client.post(path), client.post(path + "/subscribe")):
        assert response.status_code == 200


def test_a_link_in_a_test_mail_unsubscribes_nobody(client: Client, campaign: Campaign, news: MailingList, join: Join) -> None:
    join("hana@example.net", news)
    path = launch.send_test(campaign, "hana@example.net").unsubscribe_url.removeprefix("http://127.0.0.1:8000")
    for response in (client.get(path), client.post(path), client.post(path + "/subscribe")):
        assert response.status_code == 200
        assert b"A test mail" in response.content
    assert status() == "subscribed"


@pytest.mark.parametrize(("reader", "mail", "page"), [("", "ja", "ja"), ("en", "ja", "en"), ("ja", "en", "ja")])
def test_the_page_speaks_the_readers_language_or_that_of_the_mail(
    client: Client, path: str, campaign: Campaign, reader: str, mail: str, page: str
) -> None:
    Contact.objects.update(language=reader)
    Campaign.objects.filter(pk=campaign.pk).update(language=mail)
    response = client.get(path, headers={"Accept-Language": "en"})
    assert f'<html lang="{page}">'.encode() in response.content
    assert response["Content-Language"] == page


def test_without_a_mail_the_page_speaks_the_browsers_language(client: Client) -> None:
    bad = client.get("/u/nonsense", headers={"Accept-Language": "ja"})
    assert bad.status_code == 404 and b'<html lang="ja">' in bad.content


def test_the_page_stands_under_our_policy(client: Client, path: str) -> None:
    response = client.get(path)
    assert response["Content-Security-Policy"].startswith("default-src 'self'")
    assert "Accept-Language" in response["Vary"]
    for inline in (b"<script", b"<style", b"style=", b"onclick"):
        assert inline not in response.content


def test_who_unsubscribed_by_mail_leaves_the_lists_and_may_come_back(campaign: Campaign, news: MailingList, join: Join) -> None:
    hana, taro = join("hana@example.net", news), join("taro@example.net", news)
    launch.launch(campaign, None)
    audience.expand(campaign.batch_id)
    message = Message.objects.get(address="hana@example.net")
    for type, source in (("unsubscribed", "mail x"), ("opened", "mail y")):
        events.record(message, type, at=clock.now(), source=source)
    assert subscriptions.follow() == 1
    assert subscriptions.follow() == 0
    assert Subscription.objects.get(contact=hana).status == "unsubscribed"
    assert Subscription.objects.get(contact=taro).status == "subscribed"
    assert Consent.objects.filter(contact=hana, basis="withdrawn").get().source.startswith("by mail")
    # It was for them to say, and what they say later counts.
    subscriptions.subscribe(hana, [news], Consent.Basis.OPT_IN, Circumstances(source="form"))
    assert subscriptions.follow() == 0
    assert Subscription.objects.get(contact=hana).status == "subscribed"


def test_an_event_of_our_own_is_not_followed(campaign: Campaign, news: MailingList, join: Join) -> None:
    join("hana@example.net", news)
    launch.launch(campaign, None)
    audience.expand(campaign.batch_id)
    Event.objects.create(message=Message.objects.get(), type="unsubscribed", at=clock.now())
    assert subscriptions.follow() == 0
