from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from campaigns import admin as campaigns_admin
from campaigns import audience, launch, subscriptions
from campaigns import progress as campaign_progress
from campaigns.admin import ContactList
from campaigns.forms import ContactForm
from campaigns.models import Campaign, Consent, Contact, Growth, Import, LeftOut, MailingList, Subscription, Template
from campaigns.subscriptions import Circumstances
from mailhub.delivery import admin as delivery_admin
from mailhub.delivery import progress
from mailhub.delivery.models import Batch, Event, Message, Suppression, Worker
from mailhub.delivery.progress import Progress, Sample
from mailhub.relays.models import Relay
from tests.campaigns.conftest import FORM, Join


@pytest.fixture
def contact(news: MailingList, join: Join) -> Contact:
    return join("hana@example.net", news, name="花", city="京都")


@pytest.fixture
def staff(client: Client) -> User:
    """May look and write, but not send."""
    user = User.objects.create_user("staff", "staff@tea.example", is_staff=True)
    models = ["campaign", "contact", "mailinglist", "template", "import"]
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="campaigns", content_type__model__in=models).exclude(codename="send_campaign")
    )
    client.force_login(user)
    return user


def url(campaign: Campaign, name: str) -> str:
    return reverse(f"admin:campaigns_campaign_{name}", args=[campaign.pk])


def text(response: Any) -> str:
    return response.content.decode()  # type: ignore[no-any-return]


# ----------------------------------------------------------------------------------------------------------------- campaigns


@pytest.mark.usefixtures("contact")
def test_a_campaign_is_written_checked_and_sent(admin_client: Client, sender: Any, route: Any, news: MailingList) -> None:
    fields = {
        "name": "Spring",
        "sender": sender.pk,
        "lists": [news.pk],
        "language": "en",
        "subject": "Hi {{ name }}",
        "html": "<p>Hi</p>",
        "text": "",
    }
    broken = admin_client.post(reverse("admin:campaigns_campaign_add"), {**fields, "html": "{% if %}"})
    assert broken.status_code == 200 and "Line 1" in text(broken)
    admin_client.post(reverse("admin:campaigns_campaign_add"), fields)
    campaign = Campaign.objects.get()
    page = text(admin_client.get(url(campaign, "send")))
    for shown in ("Hi 花", "news@tea.example", "News", "Campaigns", "Dry run", "Send now to 1 recipient"):
        assert shown in page, shown
    assert not Batch.objects.exists()
    response = admin_client.post(url(campaign, "send"), {"now": "1"})
    assert response["Location"] == url(campaign, "change")
    campaign.refresh_from_db()
    assert campaign.batch and campaign.launched_by and campaign.launched_by.username == "admin"
    again = admin_client.post(url(campaign, "send"), {"now": "1"}, follow=True)
    assert "Nothing was done" in text(again)
    assert Batch.objects.count() == 1


def test_what_speaks_against_sending_is_shown_and_there_is_no_button(admin_client: Client, campaign: Campaign) -> None:
    page = text(admin_client.get(url(campaign, "send")))
    assert "Nobody on these lists may get this campaign." in page
    assert 'name="now"' not in page
    response = admin_client.post(url(campaign, "send"), {"now": "1"})
    assert response.status_code == 200 and "Nobody on these lists" in text(response)
    assert not Batch.objects.exists()


@pytest.mark.usefixtures("contact")
def test_a_campaign_is_scheduled_and_unscheduled(admin_client: Client, campaign: Campaign) -> None:
    past = {"schedule": "1", "at_0": "2020-01-01", "at_1": "10:00"}
    assert "This time has passed." in text(admin_client.post(url(campaign, "send"), past))
    assert "Enter a valid date" in text(admin_client.post(url(campaign, "send"), {**past, "at_0": "soon"}))
    soon = timezone.localtime() + timedelta(days=1)
    admin_client.post(url(campaign, "send"), {"schedule": "1", "at_0": f"{soon:%Y-%m-%d}", "at_1": "10:00"})
    campaign.refresh_from_db()
    assert campaign.scheduled_at and timezone.localtime(campaign.scheduled_at).strftime("%Y-%m-%d %H:%M") == f"{soon:%Y-%m-%d} 10:00"
    assert "It will be sent on" in text(admin_client.get(url(campaign, "change")))
    admin_client.post(url(campaign, "unschedule"))
    campaign.refresh_from_db()
    assert campaign.status == "draft"


OFFERED = {
    "draft": {"send", "test", "copy"},
    "scheduled": {"unschedule", "test", "copy"},
    "running": {"pause", "cancel", "test", "copy"},
    "paused": {"resume", "cancel", "test", "copy"},
    "canceled": {"test", "copy"},
    "done": {"test", "copy"},
}


@pytest.mark.usefixtures("contact")
@pytest.mark.parametrize("state", OFFERED)
def test_the_page_offers_only_what_is_possible(admin_client: Client, campaign: Campaign, state: str) -> None:
    if state == "scheduled":
        campaign.schedule(timezone.now() + timedelta(hours=1))
    elif state != "draft":
        Batch.objects.filter(pk=launch.launch(campaign, None).pk).update(status=state, finished_at=timezone.now())
    page = text(admin_client.get(url(campaign, "change")))
    deeds = {"send", "test", "copy", "cancel", "pause", "resume", "unschedule"}
    assert {deed for deed in deeds if f'"{url(campaign, deed)}"' in page} == OFFERED[state]
    assert ('name="_save"' in page) == (state == "draft")
    assert (reverse("admin:campaigns_campaign_delete", args=[campaign.pk]) in page) == (state == "draft")


@pytest.mark.usefixtures("contact")
def test_pause_resume_and_withdraw(admin_client: Client, campaign: Campaign) -> None:
    batch = launch.launch(campaign, None)
    audience.expand(batch.pk)
    for deed, state in (("pause", "paused"), ("resume", "running")):
        assert admin_client.get(url(campaign, deed)).status_code == 405
        admin_client.post(url(campaign, deed))
        batch.refresh_from_db()
        assert batch.status == state
    assert "Nothing was done" in text(admin_client.post(url(campaign, "resume"), follow=True))
    assert "<strong>1 mail</strong> that waits will never be sent." in text(admin_client.get(url(campaign, "cancel")))
    batch.refresh_from_db()
    assert batch.status == "running"
    admin_client.post(url(campaign, "cancel"))
    batch.refresh_from_db()
    assert batch.status == "canceled"
    assert "Nothing was done" in text(admin_client.post(url(campaign, "cancel"), follow=True))


@pytest.mark.usefixtures("contact")
def test_a_sent_campaign_stays_as_it_is(admin_client: Client, campaign: Campaign) -> None:
    launch.launch(campaign, None)
    assert admin_client.post(url(campaign, "change"), {"name": "Changed", "subject": "Changed"}).status_code == 403
    assert admin_client.post(url(campaign, "delete"), {"post": "yes"}).status_code == 403
    campaign.refresh_from_db()
    assert campaign.name == "Spring"


@pytest.mark.usefixtures("contact")
def test_a_test_goes_to_who_asks(client: Client, staff: User, campaign: Campaign) -> None:
    assert "A test is on its way to staff@tea.example." in text(client.post(url(campaign, "test"), follow=True))
    assert Message.objects.get().address == "staff@tea.example"
    User.objects.update(email="")
    assert "no mail address" in text(client.post(url(campaign, "test"), follow=True))
    assert Message.objects.count() == 1
    Message.objects.all().delete()
    told = text(client.post(url(campaign, "test"), {"to": "boss@tea.example、 Hana@tea.example boss@tea.example"}, follow=True))
    assert "A test is on its way to boss@tea.example, Hana@tea.example." in told
    assert sorted(Message.objects.values_list("address", flat=True)) == ["Hana@tea.example", "boss@tea.example"]
    for wrong, words in (
        ("boss@tea.example, nobody", "is not a mail address"),
        ("a@b.example," * 9 + "c@b.example d@b.example", "10 addresses"),
    ):
        assert words in text(client.post(url(campaign, "test"), {"to": wrong}, follow=True))
    assert Message.objects.count() == 2


def test_a_copy_is_opened(admin_client: Client, campaign: Campaign) -> None:
    response = admin_client.post(url(campaign, "copy"))
    assert response["Location"] == url(Campaign.objects.get(name="Copy of Spring"), "change")


@pytest.mark.usefixtures("contact", "staff")
def test_who_may_not_send_does_not(client: Client, campaign: Campaign) -> None:
    assert "Send or schedule" not in text(client.get(url(campaign, "change")))
    for name in ("send", "cancel", "pause", "resume", "unschedule"):
        assert client.post(url(campaign, name), {"now": "1"}).status_code == 403
    assert client.get(url(campaign, "send")).status_code == 403
    assert not Batch.objects.exists()


def test_strangers_are_sent_to_the_log_in(client: Client, campaign: Campaign) -> None:
    for name in ("send", "cancel", "pause", "progress", "preview", "test", "copy"):
        for method in (client.get, client.post):
            response = method(url(campaign, name))
            assert response.status_code == 302 and "/login/" in response["Location"]
    assert client.get(reverse("admin:campaigns_contact_import")).status_code == 302


def test_a_template_begins_a_campaign(admin_client: Client, campaign: Campaign) -> None:
    template = Template.objects.create(name="Letter", subject="Letter to {{ name }}", html="<p>Letter</p>", language="ja")
    page = text(admin_client.get(reverse("admin:campaigns_campaign_add")))
    assert f"?template={template.pk}" in page
    page = text(admin_client.get(reverse("admin:campaigns_campaign_add") + f"?template={template.pk}"))
    assert "Letter to {{ name }}" in page and "&lt;p&gt;Letter&lt;/p&gt;" in page
    assert '<option value="ja" selected>' in page


@pytest.mark.usefixtures("contact")
def test_the_preview_can_do_nothing(admin_client: Client, campaign: Campaign) -> None:
    Campaign.objects.update(html="<p>{{ name }}</p><script>alert(1)</script>")
    response = admin_client.get(url(campaign, "preview"))
    assert "花" in text(response) and "緑茶堂 &amp; Co." in text(response)
    assert response["Content-Security-Policy"].startswith("sandbox") and response["X-Frame-Options"] == "SAMEORIGIN"
    page = admin_client.get(url(campaign, "change"))
    assert f'<iframe sandbox src="{url(campaign, "preview")}"' in text(page)
    assert page["X-Frame-Options"] == "DENY"
    Campaign.objects.update(html="{% if %}")
    assert "Line 1" in text(admin_client.get(url(campaign, "preview")))


@pytest.mark.usefixtures("contact")
def test_a_sent_campaign_shows_what_was_sent(admin_client: Client, campaign: Campaign) -> None:
    launch.launch(campaign, None)
    Campaign.objects.update(html="<p>Other</p>")
    assert "first flush" in text(admin_client.get(url(campaign, "preview")))


@pytest.mark.usefixtures("campaign")
def test_pages_with_nothing_on_them_open(admin_client: Client) -> None:
    Campaign.objects.all().delete()
    for name in ("campaign", "template", "contact", "mailinglist", "subscription", "consent", "import", "leftout"):
        assert admin_client.get(reverse(f"admin:campaigns_{name}_changelist")).status_code == 200


def test_pages_obey_our_policy(admin_client: Client, campaign: Campaign, contact: Contact, news: MailingList) -> None:
    launch.launch(campaign.copy(), None)
    paths = [url(campaign, "change"), url(campaign, "send"), url(Campaign.objects.exclude(pk=campaign.pk).get(), "change")]
    paths += [url(Campaign.objects.exclude(pk=campaign.pk).get(), "cancel"), reverse("admin:campaigns_contact_import")]
    paths += [reverse("admin:campaigns_contact_change", args=[contact.pk]), reverse("admin:campaigns_mailinglist_change", args=[news.pk])]
    paths += [reverse("admin:campaigns_contact_subscribe", args=[contact.pk]), reverse("admin:campaigns_campaign_changelist")]
    for path in paths:
        response = admin_client.get(path)
        assert response.status_code == 200
        for inline in (" style=", "<style", " onclick", "javascript:"):
            assert inline not in text(response), (path, inline)


def test_a_campaign_without_a_list_says_so_and_cannot_be_sent(admin_client: Client, campaign: Campaign) -> None:
    campaign.lists.clear()
    for name in ("change", "send"):
        assert "No list is chosen." in text(admin_client.get(url(campaign, name)))
    assert 'name="now"' not in text(admin_client.get(url(campaign, "send")))


@pytest.mark.usefixtures("contact")
def test_before_sending_it_tells_who_is_left_out_and_why(admin_client: Client, campaign: Campaign, news: MailingList, join: Join) -> None:
    subscriptions.unsubscribe(join("gone@example.net", news), [news], FORM)
    Subscription.objects.filter(contact=join("silent@example.net", news)).update(consent=None)
    join("bad@example.net", news)
    Suppression.objects.create(address="bad@example.net")
    page = text(admin_client.get(url(campaign, "send")))
    for shown in ("Send now to 1 recipient", "address is suppressed", "no consent on record", "unsubscribed"):
        assert shown in page, shown


@pytest.mark.usefixtures("contact")
def test_campaigns_are_found_by_the_state_that_staff_call_it(admin_client: Client, campaign: Campaign) -> None:
    launch.launch(campaign, None)
    campaign.pause()
    campaign.copy()
    for state, found in (("paused", ["Spring"]), ("draft", ["Copy of Spring"]), ("running", []), ("nonsense", [])):
        response = admin_client.get(reverse("admin:campaigns_campaign_changelist"), {"state": state})
        assert [row.name for row in response.context["cl"].result_list] == found, state


# ------------------------------------------------------------------------------------------------------------------ progress


def of(campaign: Campaign, before: Sample | None = None) -> Progress:
    campaign.refresh_from_db()
    assert campaign.batch
    return progress.of(campaign.batch, before)


def test_progress_counts_everybody(campaign: Campaign, news: MailingList, join: Join) -> None:
    for number in range(3):
        join(f"p{number}@example.net", news)
    Suppression.objects.create(address="p0@example.net", reason="bounce")
    batch = launch.launch(campaign, None)
    audience.expand(batch.pk)
    Batch.objects.update(waiting=1, sent=6, bounced=1, deferred=2)
    now = of(campaign)
    assert (now.through, now.percent, now.running) == (7, 70, True)
    assert campaign_progress.left_out(campaign) == [("address is suppressed", 1)]
    assert [(part.name, part.x, part.width) for part in now.bar] == [
        ("sent", "0.00", "600.00"), ("deferred", "600.00", "200.00"), ("bounced", "800.00", "100.00"), ("waiting", "900.00", "100.00"),
    ]  # fmt: skip
    assert [(number.name, number.count) for number in now.numbers] == [
        ("waiting", 1), ("deferred", 2), ("sent", 6), ("bounced", 1), ("failed", 0),
    ]  # fmt: skip


@pytest.mark.usefixtures("contact")
def test_the_rate_is_since_the_sample_and_tells_the_time_left(campaign: Campaign) -> None:
    launch.launch(campaign, None)
    Batch.objects.update(waiting=100, sent=50)
    now = of(campaign, Sample(30, timezone.now() - timedelta(seconds=2)))
    assert now.rate == pytest.approx(10, rel=0.2)
    assert now.time_left and now.time_left.total_seconds() == pytest.approx(10, rel=0.2)
    stalled = of(campaign, Sample(50, timezone.now() - timedelta(seconds=2)))
    assert stalled.rate is None and stalled.time_left is None


@pytest.mark.usefixtures("contact")
def test_what_holds_it_up_is_said(campaign: Campaign) -> None:
    batch = launch.launch(campaign, None)
    audience.expand(batch.pk)
    assert of(campaign).obstacle == "No worker is running that would send it."
    now = timezone.now()
    Worker.objects.create(node="mx1", queue="bulk", started_at=now, beat_at=now)
    assert of(campaign).obstacle == ""
    relay = Relay.objects.get()
    relay.rest(timedelta(minutes=5), "no connection to smtp.example")
    assert "no connection to smtp.example" in of(campaign).obstacle
    relay.pause()
    assert "paused" in of(campaign).obstacle
    campaign.sender.disable()
    assert of(campaign).obstacle == "The sender news@tea.example is disabled."
    campaign.pause()
    assert of(campaign).obstacle == ""


@pytest.mark.usefixtures("contact")
def test_the_page_is_told_how_it_goes_until_it_ends(admin_client: Client, campaign: Campaign) -> None:
    assert admin_client.get(url(campaign, "progress")).json() == {"running": False}
    batch = launch.launch(campaign, None)
    audience.expand(batch.pk)
    said = admin_client.get(url(campaign, "progress")).json()
    assert (said["running"], said["through"], said["status"]) == (True, 0, "running")
    assert "0 of 1" in said["html"]
    Batch.objects.update(waiting=0, sent=1, status="done", finished_at=timezone.now())
    said = admin_client.get(url(campaign, "progress"), {"through": "x", "at": "1e999"}).json()
    assert (said["running"], said["status"]) == (False, "done")
    assert "1 of 1" in said["html"]


# -------------------------------------------------------------------------------------------------------------------- people


def upload(client: Client, data: bytes, **fields: object) -> Any:
    file = SimpleUploadedFile("fair.csv", data, "text/csv")
    given = {"file": file, "basis": "opt_in", "source": "trade fair", "text": "", "list": "", "new_list": "", **fields}
    return client.post(reverse("admin:campaigns_contact_import"), given)


def test_contacts_are_imported_and_the_rejected_rows_listed(admin_client: Client, news: MailingList) -> None:
    response = upload(admin_client, "email,name\nhana@example.net,花\n=cmd|' /C calc'!A0,X\n".encode(), list=news.pk)
    made = Import.objects.get()
    assert response["Location"] == reverse("admin:campaigns_import_change", args=[made.pk])
    page = text(admin_client.get(response["Location"]))
    assert "calc" in page and "trade fair" in page
    sheet = admin_client.get(reverse("admin:campaigns_import_rejected", args=[made.pk]))
    rows = list(csv.reader(io.StringIO(sheet.getvalue().decode("utf-8-sig"))))
    assert rows[1][:3] == ["3", "email", "'=cmd|' /C calc'!A0"]
    assert Subscription.objects.get(list=news).status == "subscribed"
    assert Consent.objects.get().recorded_by == User.objects.get(username="admin")


def test_a_new_list_is_made_only_with_its_contacts(admin_client: Client, news: MailingList) -> None:
    assert "Choose a list, or name a new one." in text(upload(admin_client, b"email\na@example.net\n"))
    assert "There is a list of this name" in text(upload(admin_client, b"email\na@example.net\n", new_list="News"))
    assert "No column is headed" in text(upload(admin_client, b"name\nA\n", new_list="Fair"))
    assert not MailingList.objects.filter(name="Fair").exists()
    upload(admin_client, b"email\na@example.net\n", new_list="Fair")
    assert MailingList.objects.get(name="Fair").contacts.count() == 1


def test_a_withdrawal_is_no_ground_to_import(admin_client: Client, news: MailingList) -> None:
    assert upload(admin_client, b"email\na@example.net\n", list=news.pk, basis="withdrawn").status_code == 200
    assert not Contact.objects.exists()


def test_a_large_file_comes_from_the_disk(admin_client: Client, news: MailingList) -> None:
    rows = "".join(f"person{number}@example.net,{'x' * 900}\n" for number in range(3_000))
    upload(admin_client, f"email,note\n{rows}".encode(), list=news.pk)
    assert Import.objects.get().created == 3_000


def test_a_contacts_page_tells_lists_attributes_and_consents(
    admin_client: Client, contact: Contact, news: MailingList, offers: MailingList
) -> None:
    Suppression.objects.create(address=contact.email, reason="bounce")
    page = text(admin_client.get(reverse("admin:campaigns_contact_change", args=[contact.pk])))
    for shown in ("News", "京都", "sign-up form", "the person asked for it", "This address is suppressed"):
        assert shown in page, shown
    subscribe = reverse("admin:campaigns_contact_subscribe", args=[contact.pk])
    assert admin_client.post(subscribe, {"lists": [offers.pk], "basis": "opt_in"}).status_code == 200  # without a source
    admin_client.post(subscribe, {"lists": [offers.pk], "basis": "relationship", "source": "order 17", "text": ""})
    consent = Subscription.objects.get(list=offers).consent
    assert consent and (consent.basis, consent.source) == ("relationship", "order 17")
    unsubscribe = reverse("admin:campaigns_contact_unsubscribe", args=[contact.pk, news.pk])
    admin_client.get(unsubscribe)
    assert Subscription.objects.get(list=news).status == "subscribed"
    admin_client.post(unsubscribe)
    assert Subscription.objects.get(list=news).status == "unsubscribed"


def test_contacts_are_found_by_address_name_and_list(admin_client: Client, news: MailingList, offers: MailingList, join: Join) -> None:
    join("hana@example.net", news, name="佐藤 花")
    subscriptions.unsubscribe(join("taro@example.net", news, offers, name="Taro"), [news], FORM)
    for asked, found in (
        ({"q": "HANA@example"}, ["hana@example.net"]),
        ({"q": "佐藤"}, ["hana@example.net"]),
        ({"q": "taro"}, ["taro@example.net"]),
        ({"q": "@example"}, []),
        ({"list": news.pk}, ["hana@example.net"]),
        ({"list": offers.pk}, ["taro@example.net"]),
        ({"list": "0"}, []),
    ):
        response = admin_client.get(reverse("admin:campaigns_contact_changelist"), asked)
        assert [contact.email for contact in response.context["cl"].result_list] == found, asked
    for name in ("consent", "subscription"):
        response = admin_client.get(reverse(f"admin:campaigns_{name}_changelist"), {"q": "Taro@"})
        assert {row.contact.email for row in response.context["cl"].result_list} == {"taro@example.net"}


def test_a_name_is_found_by_its_beginning_and_of_newer_contacts_by_any_part(
    admin_client: Client, news: MailingList, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ContactList, "window", 2)
    join("old@example.net", news, name="佐藤 花")
    for number in range(2):
        join(f"new{number}@example.net", news, name=f"New Person {number}")
    for term, found in (("佐藤", ["old"]), ("花", []), ("person 1", ["new1"]), ("NEW P", ["new1", "new0"]), ("100%", []), ("_", [])):
        response = admin_client.get(reverse("admin:campaigns_contact_changelist"), {"q": term})
        assert [contact.email.partition("@")[0] for contact in response.context["cl"].result_list] == found, term


@pytest.mark.parametrize("name", ["contact", "subscription", "consent"])
def test_a_search_that_finds_too_many_people_says_so(
    admin_client: Client, news: MailingList, join: Join, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for number in range(3):
        join(f"p{number}@example.net", news)
    said = "Write more of the address."
    path = reverse(f"admin:campaigns_{name}_changelist")
    assert said not in text(admin_client.get(path, {"q": "p"}))
    monkeypatch.setattr(campaigns_admin, "MOST_FOUND", 2)
    response = admin_client.get(path, {"q": "p"})
    assert len(response.context["cl"].result_list) == 2 and said in text(response)
    assert said not in text(admin_client.get(path, {"q": "p1"}))
    assert said not in text(admin_client.get(path))


def test_lists_that_no_index_serves_look_through_the_newest_and_say_so(
    admin_client: Client, campaign: Campaign, news: MailingList, offers: MailingList, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_admin, "WINDOW", 3)
    monkeypatch.setattr(campaigns_admin, "MOST_FOUND", 3)
    for number in range(5):
        contact = join(f"p{number}@example.net", news, language="en")
        LeftOut.objects.create(campaign=campaign, contact=contact, reason="suppressed")
    join("p0@example.net", offers)
    Contact.objects.update(language="en")

    def found(name: str, **asked: object) -> tuple[list[str], bool]:
        response = admin_client.get(reverse(f"admin:campaigns_{name}_changelist"), asked)
        rows = [row if name == "contact" else row.contact for row in response.context["cl"].result_list]
        return [contact.email[:2] for contact in rows], "look through the newest" in text(response)

    everybody, newest = ["p4", "p3", "p2", "p1", "p0"], ["p4", "p3", "p2"]
    for name, asked, seen in (
        ("contact", {}, (everybody, False)),
        ("contact", {"list": news.pk}, (everybody, False)),
        ("contact", {"list": offers.pk}, (["p0"], False)),
        ("contact", {"list": offers.pk, "language__exact": "en"}, (["p0"], False)),
        ("contact", {"list": news.pk, "language__exact": "en"}, (newest, True)),
        ("contact", {"language__exact": "en"}, (newest, True)),
        ("contact", {"q": "p0", "language__exact": "en"}, (["p0"], False)),
        ("subscription", {"list__id__exact": news.pk}, (everybody, False)),
        ("subscription", {"list__id__exact": news.pk, "status__exact": "subscribed"}, (newest, True)),
        ("subscription", {"list__id__exact": offers.pk, "status__exact": "subscribed"}, (["p0"], False)),
        ("subscription", {"status__exact": "subscribed"}, (["p0", "p4", "p3"], True)),
        ("consent", {"list__id__exact": news.pk}, (everybody, False)),
        ("consent", {"list__id__exact": news.pk, "basis__exact": "opt_in"}, (newest, True)),
        ("consent", {"basis__exact": "opt_in"}, (["p0", "p4", "p3"], True)),
        ("leftout", {"campaign": campaign.pk}, (everybody, False)),
        ("leftout", {"campaign": campaign.pk, "reason__exact": "suppressed"}, (newest, True)),
        ("leftout", {"reason__exact": "suppressed"}, (newest, True)),
    ):
        assert found(name, **asked) == seen, (name, asked)


@pytest.mark.usefixtures("contact")
def test_who_was_left_out_is_listed_by_campaign(admin_client: Client, campaign: Campaign, contact: Contact) -> None:
    LeftOut.objects.create(campaign=campaign, contact=contact, reason="suppressed")
    for key, count in ((campaign.pk, 1), (campaign.copy().pk, 0), ("x", 0)):
        response = admin_client.get(reverse("admin:campaigns_leftout_changelist"), {"campaign": key})
        assert len(response.context["cl"].result_list) == count


@pytest.mark.parametrize("name", ["contact", "subscription", "consent", "leftout"])
def test_big_lists_take_the_same_few_queries_and_count_up_to_a_limit(
    admin_client: Client, campaign: Campaign, news: MailingList, join: Join, name: str
) -> None:
    def queries() -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(reverse(f"admin:campaigns_{name}_changelist")).status_code == 200
        return [query["sql"] for query in captured]

    def people(numbers: range) -> None:
        for number in numbers:
            contact = join(f"p{number}@example.net", news)
            LeftOut.objects.create(campaign=campaign, contact=contact, reason="suppressed")

    people(range(1))
    few = queries()
    people(range(1, 20))
    many = queries()
    assert len(many) == len(few)
    assert all("LIMIT" in sql for sql in many if "COUNT(" in sql and f'"campaigns_{name}"' in sql)


def test_an_address_stays_with_its_consents(admin_client: Client, contact: Contact) -> None:
    change = reverse("admin:campaigns_contact_change", args=[contact.pk])
    admin_client.post(change, {"email": "other@example.net", "name": "Hana", "language": "ja", "attributes": "city: Kyoto"})
    contact.refresh_from_db()
    assert (contact.email, contact.name, contact.attributes) == ("hana@example.net", "Hana", {"city": "Kyoto"})
    assert "cannot be a name" in text(admin_client.post(change, {"name": "H", "attributes": "first name: x"}))


@pytest.mark.parametrize(
    "stored",
    [{}, {"city": "京都", "note": "会議：10時", "empty": ""}, {"points": 20, "vip": True, "tags": ["a", "b"]}, {"lines": "one\n\ntwo"}],
)
def test_attributes_that_nobody_touches_stay_what_they_are(contact: Contact, stored: dict[str, Any]) -> None:
    Contact.objects.filter(pk=contact.pk).update(attributes=stored)
    contact.refresh_from_db()
    shown = ContactForm(instance=contact)["attributes"].value()
    form = ContactForm({"email": contact.email, "name": "Another", "attributes": shown}, instance=contact)
    assert form.is_valid() and form.changed_data == ["name"] and form.save().attributes == stored


def test_attributes_are_written_a_line_each(contact: Contact) -> None:
    Contact.objects.filter(pk=contact.pk).update(attributes={"points": 20, "city": "京都"})
    contact.refresh_from_db()

    def given(lines: str) -> ContactForm:
        return ContactForm({"email": contact.email, "attributes": lines}, instance=contact)

    form = given("points: 30\ncity：大阪: 北区\n\naddress: 1-1\n  Kita-ku\n")
    assert form.is_valid(), form.errors
    assert form.cleaned_data["attributes"] == {"points": 30, "city": "大阪: 北区", "address": "1-1\nKita-ku"}
    assert "Line 2 has no name" in str(given("a: b\nnothing").errors)
    assert "twice" in str(given("a: b\na: c").errors)


def test_a_list_that_people_agreed_to_stays_and_its_page_says_why(admin_client: Client, contact: Contact, news: MailingList) -> None:
    url = reverse("admin:campaigns_mailinglist_delete", args=[news.pk])
    page = text(admin_client.get(url))
    assert "stays on record" in page and "permission" not in page
    admin_client.post(url, {"post": "yes"})
    assert MailingList.objects.filter(pk=news.pk).exists()
    empty = MailingList.objects.create(name="Empty")
    admin_client.post(reverse("admin:campaigns_mailinglist_delete", args=[empty.pk]), {"post": "yes"})
    assert not MailingList.objects.filter(pk=empty.pk).exists()


def test_the_proof_of_consent_is_exported(admin_client: Client, contact: Contact, news: MailingList) -> None:
    subscriptions.unsubscribe(contact, [news], Circumstances(source="+81 774 00 0000 called", ip_address="192.0.2.1"))
    chosen = {"action": "export", "_selected_action": [consent.pk for consent in Consent.objects.all()]}
    response: Any = admin_client.post(reverse("admin:campaigns_consent_changelist"), chosen)
    rows = list(csv.reader(io.StringIO(response.getvalue().decode("utf-8-sig"))))
    assert [row[:4] for row in rows[1:]] == [
        ["hana@example.net", "News", "the person asked for it", "sign-up form"],
        ["hana@example.net", "News", "the person withdrew", "'+81 774 00 0000 called"],
    ]


def test_deleting_contacts_keeps_their_mail_back(
    admin_client: Client, campaign: Campaign, contact: Contact, join: Join, news: MailingList
) -> None:
    other = join("taro@example.net", news)
    audience.expand(launch.launch(campaign, None).pk)
    admin_client.post(reverse("admin:campaigns_contact_delete", args=[contact.pk]), {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [other.pk], "post": "yes"}
    admin_client.post(reverse("admin:campaigns_contact_changelist"), chosen)
    assert not Contact.objects.exists()
    assert set(Message.objects.values_list("status", flat=True)) == {"suppressed"}
    assert Event.objects.count() == 2


def test_a_list_tells_how_it_has_grown(admin_client: Client, news: MailingList, join: Join) -> None:
    join("old@example.net", news)
    Growth.objects.update(day=timezone.localdate() - timedelta(days=60))
    join("hana@example.net", news)
    subscriptions.unsubscribe(join("gone@example.net", news), [news], FORM)
    page = text(admin_client.get(reverse("admin:campaigns_mailinglist_change", args=[news.pk])))
    assert page.count("<rect") >= 26 and ": 2 joined, 1 left" in page
    listed = text(admin_client.get(reverse("admin:campaigns_mailinglist_changelist")))
    assert "+2" in listed and "−1" in listed and ">2</a>" in listed


@pytest.mark.usefixtures("contact")
def test_what_mailhub_writes_is_read_only(admin_client: Client, campaign: Campaign, contact: Contact) -> None:
    LeftOut.objects.create(campaign=campaign, contact=contact, reason="suppressed")
    upload(admin_client, b"email\na@example.net\n", new_list="Fair")
    for name, row in (("subscription", Subscription), ("consent", Consent), ("import", Import), ("leftout", LeftOut)):
        pk = row.objects.first().pk
        assert admin_client.get(reverse(f"admin:campaigns_{name}_add")).status_code == 403
        assert admin_client.post(reverse(f"admin:campaigns_{name}_change", args=[pk]), {}).status_code == 403
        assert admin_client.post(reverse(f"admin:campaigns_{name}_delete", args=[pk]), {"post": "yes"}).status_code == 403
        assert admin_client.get(reverse(f"admin:campaigns_{name}_change", args=[pk])).status_code == 200
        assert str(pk) in text(admin_client.get(reverse(f"admin:campaigns_{name}_changelist")))
