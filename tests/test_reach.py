"""Pages that know of all packages: why mail does not reach somebody, and what is tracked."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from campaigns import audience, launch, subscriptions
from campaigns.models import Campaign, Consent, Contact, MailingList
from campaigns.subscriptions import Circumstances
from mailhub.delivery import hits, suppressions
from mailhub.delivery.models import Batch, LinkCount, Message, Suppression
from mailhub.lib import clock
from tests.delivery.world import make_relay, make_route, make_sender, post
from transactional.models import Project

pytestmark = pytest.mark.django_db

FORM = Circumstances(source="sign-up form")


@pytest.fixture
def news() -> MailingList:
    return MailingList.objects.create(name="News")


@pytest.fixture
def campaign(news: MailingList) -> Campaign:
    make_route(make_relay(), default_for="campaign")
    sender = make_sender("news@tea.example", organisation="Tea", postal_address="Uji", contact_point="+81")
    campaign = Campaign.objects.create(
        name="Spring", sender=sender, language="en", subject="Tea", html='<a href="https://tea.example/">T</a>'
    )
    campaign.lists.add(news)
    return campaign


def join(email: str, news: MailingList) -> Contact:
    contact = Contact.objects.create(email=email)
    subscriptions.subscribe(contact, [news], Consent.Basis.OPT_IN, FORM)
    return contact


def page(client: Client, address: str = "hana@example.net") -> str:
    answer = client.get(reverse("admin:reach"), {"address": address})
    assert answer.status_code == 200
    return answer.content.decode()


# -------------------------------------------------------------------------------------------------------------------- reaching


def test_nothing_is_asked_yet_and_what_is_no_address_is_told(admin_client: Client) -> None:
    assert "Enter an address" in page(admin_client, "")
    assert 'class="obstacle bad"' in page(admin_client, "hana at home")


def test_a_stranger_gets_transactional_mail_alone(admin_client: Client) -> None:
    said = page(admin_client)
    assert "nothing keeps it back" in said and "Nobody of that address is among the contacts." in said
    assert "Nothing is known of mail to this address yet." in said


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("subscribed", "nothing keeps it back"),
        ("unsubscribed", "They have unsubscribed."),
        ("no consent", "no consent is on record."),
        ("no list", "They are on no list."),
    ],
)
def test_campaigns_want_a_consent(admin_client: Client, news: MailingList, what: str, words: str) -> None:
    contact = join("hana@example.net", news)
    if what == "unsubscribed":
        subscriptions.unsubscribe(contact, [news], FORM)
    elif what == "no consent":
        contact.subscriptions.update(consent=None)
    elif what == "no list":
        contact.subscriptions.all().delete()
    said = page(admin_client, "Hana@Example.net")
    assert words in said
    assert said.count("nothing keeps it back") == 1 + (what == "subscribed")


def test_suppressions_of_all_kinds_are_told_with_what_to_do(admin_client: Client) -> None:
    project = Project.objects.create(name="Shop")
    Suppression.objects.create(address="hana@example.net", reason="soft", detail="552 full", expires_at=clock.now() + timedelta(days=5))
    Suppression.objects.create(address="hana@example.net", project=project.pk)
    said = page(admin_client)
    assert "552 full" in said and "It ends by itself." in said and "Mail of the project “Shop”" in said
    Suppression.objects.update(expires_at=clock.now() - timedelta(days=5))
    said = page(admin_client)
    assert "has run out" in said and "It ends by itself." not in said


def test_what_staff_have_lifted_is_told_with_their_reason(admin_client: Client) -> None:
    row = Suppression.objects.create(address="hana@example.net", reason="bounce")
    admin_client.post(reverse("admin:delivery_suppression_delete", args=[row.pk]), {"post": "yes", "because": "she wrote from it"})
    assert "she wrote from it" in page(admin_client)


def test_who_may_not_look_at_contacts_does_not_see_them(client: Client, news: MailingList) -> None:
    join("hana@example.net", news)
    user = User.objects.create_user("jun", password="x", is_staff=True)
    client.force_login(user)
    assert client.get(reverse("admin:reach")).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_suppression"))
    said = page(client)
    assert "News" not in said and "Erase" not in said
    assert client.post(reverse("admin:reach_erase"), {"address": "hana@example.net", "confirmed": "yes"}).status_code == 403
    assert client.get(reverse("admin:tracked")).status_code == 403
    assert Contact.objects.exists()


def test_a_person_is_erased_after_a_question(admin_client: Client, campaign: Campaign, news: MailingList) -> None:
    hana, path = join("hana@example.net", news), reverse("admin:reach_erase")
    launch.launch(campaign, None)
    audience.expand(campaign.batch_id)
    subscriptions.unsubscribe(hana, [news], FORM)
    asked = admin_client.post(path, {"address": "hana@example.net"}).content.decode()
    assert "in 1 mail " in asked and Contact.objects.exists()
    admin_client.post(path, {"address": "hana@example.net", "confirmed": "yes"})
    assert not Contact.objects.exists()
    assert Message.objects.get().address.endswith("@erased.invalid")
    row = Suppression.objects.get()
    assert (row.erased, row.scope, row.reason) == (True, "campaign", "unsubscribe")
    # An import brings the address back: still no campaign, and the page knows why.
    assert suppressions.blocked("campaign", {("hana@example.net", 0)}) and not suppressions.blocked(
        "transactional", {("hana@example.net", 0)}
    )
    assert "unsubscribed from everything" in page(admin_client)
    assert "an erased address" in admin_client.get(reverse("admin:delivery_suppression_changelist")).content.decode()
    assert not LogEntry.objects.filter(object_repr__contains="hana").exists()


# ------------------------------------------------------------------------------------------------------------------- tracking


def test_a_campaigns_page_tells_opens_and_clicks_by_people_and_machines(
    admin_client: Client, campaign: Campaign, news: MailingList
) -> None:
    contact = join("hana@example.net", news)
    url = reverse("admin:campaigns_campaign_change", args=[campaign.pk])
    assert "Opens and clicks" in admin_client.get(url).content.decode()
    launch.launch(campaign, None)
    audience.expand(campaign.batch_id)
    message = Message.objects.get()
    Message.objects.update(status="sent", settled_at=clock.now() - timedelta(hours=1))
    Batch.objects.update(waiting=0, sent=1)
    for number, sign in ((0, "proxy"), (1, ""), (1, "scanner")):
        hits.take(message.content_id, message.pk, number, sign)
    hits.Hit.objects.update(at=clock.now() - timedelta(minutes=1))
    assert hits.work_off() == 3
    for shown in (url, reverse("admin:delivery_batch_change", args=[campaign.batch_id])):
        said = admin_client.get(shown).content.decode()
        assert "by 1 of 1 (100.0 %)" in said and "1 times, and 1 times by machines" in said and "https://tea.example/" in said
    history = admin_client.get(reverse("admin:campaigns_contact_change", args=[contact.pk])).content.decode()
    assert "by a machine" in history and "What became of their mail" in history
    assert LinkCount.objects.get(number=0).proxied == 1


def test_one_page_tells_what_each_stream_tracks(admin_client: Client, campaign: Campaign, news: MailingList, settings: Settings) -> None:
    Project.objects.create(name="Shop", tracks_clicks=True)
    said = admin_client.get(reverse("admin:tracked")).content.decode()
    assert said.count("tracked</td>") == 3 and "may track, as each says" in said
    MailingList.objects.update(may_track=False)
    assert admin_client.get(reverse("admin:tracked")).content.decode().count("tracked</td>") == 1
    settings.MAILHUB_TRACKING = "off"
    said = admin_client.get(reverse("admin:tracked")).content.decode()
    assert "tracks nothing" in said and said.count("tracked</td>") == 0


def test_what_a_list_forbids_no_campaign_does(campaign: Campaign, news: MailingList) -> None:
    from campaigns import contents

    assert contents.freeze(campaign).links == ["https://tea.example/"]
    MailingList.objects.update(may_track=False)
    assert contents.freeze(campaign).tracking_base == ""


def test_mail_to_strangers_is_shown_to_who_asks(admin_client: Client) -> None:
    make_route(make_relay(), default_for="transactional")
    post(make_sender(), "hana@example.net")
    assert "What became of their mail" in page(admin_client)
