"""A project for campaigns hands in no mails, whichever door they come by, and sends newsletters as its page shows."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from django.test import Client as Browser
from django.urls import reverse
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from campaigns import audience
from campaigns.models import Campaign, Consent, MailingList
from mailhub.delivery.models import Content, Message
from mailhub.lib.api import USUAL_OF_CAMPAIGNS
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender
from tests.transactional.api import Site
from tests.transactional.listener import Client, Listener, hand_in
from tests.transactional.test_smtpd_clients import run
from transactional import sending
from transactional.connect import YOU, Access
from transactional.models import Credential, Project, Submission
from transactional.requests import Draft, Forbidden, Request

MAIL = {"from": "shop@example.com", "to": ["a@example.net"], "subject": "Order", "text": "Thank you."}
WORDS = (
    "The project Tea shop is for campaigns, and its mails are not taken. Make a campaign (POST /api/v1/campaigns), or hand in mails such"
)


@pytest.fixture
def newsletters(project: Project) -> Project:
    project.stream = Stream.CAMPAIGN
    project.save()
    return project


def test_a_mail_of_it_is_refused_by_the_one_way_in(newsletters: Project) -> None:
    draft = Draft(text="Thank you.", to=[("", "a@example.net")])
    request = Request(sender="shop@example.com", recipients=["a@example.net"], via=Submission.Via.API, draft=draft, project=newsletters)
    with pytest.raises(Forbidden, match="for campaigns"):
        sending.send(request)
    assert not Content.objects.exists()


@pytest.mark.parametrize("path", ["messages", "messages/batch"])
def test_the_http_api_refuses_it_and_names_the_remedy(site: Site, newsletters: Project, path: str) -> None:
    answer = site.post(path, MAIL if path == "messages" else {"mails": [MAIL]}).json()
    problem = answer if path == "messages" else answer["results"][0]["problem"]
    assert (problem["type"], problem["status"]) == ("urn:mailhub:problem:forbidden", 403)
    assert problem["detail"].startswith(WORDS) and problem["errors"][0]["pointer"] == "#"
    assert not Content.objects.exists()


def test_what_was_accepted_before_goes_on_and_is_answered_as_before_but_goes_no_second_time(site: Site) -> None:
    first = site.post("messages", MAIL, key="order-1")
    Project.objects.update(stream=Stream.CAMPAIGN)
    assert site.post("messages", MAIL, key="order-1").json() == first.json()
    message = Message.objects.get()
    assert message.status == Message.Status.QUEUED
    again = site.post(f"messages/{message.public_id}/resend")
    assert (again.status_code, again.json()["detail"].startswith(WORDS)) == (403, True)
    assert Message.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_smtp_refuses_it_at_its_sender_and_after_its_data_where_the_stream_has_just_changed(
    listener: Listener, credential: Credential
) -> None:
    with Client(listener.tls_port, tls=True) as before:
        before.hear()
        before.say("EHLO web1.example")
        assert before.log_in(credential.prefix, credential.secret).startswith("235 ")
        Project.objects.update(stream=Stream.CAMPAIGN)
        assert hand_in(before, b"From: shop@example.com\r\nSubject: Order\r\n\r\nThank you.\r\n").startswith(f"550 5.7.1 {WORDS}")
    with Client(listener.tls_port, tls=True) as after:
        after.hear()
        after.say("EHLO web1.example")
        assert after.log_in(credential.prefix, credential.secret).startswith("235 ")
        for sender in ("shop@example.com", ""):
            assert after.say(f"MAIL FROM:<{sender}>").startswith(f"550 5.7.1 {WORDS}")
    assert not Content.objects.exists()


# ------------------------------------------------------------------------------------------------------------------ its pages


def filled(project: Project, **changes: Any) -> dict[str, Any]:
    senders = list(project.senders.values_list("pk", flat=True))
    return {"name": project.name, "stream": "campaign", "senders": senders, "from_policy": "keep", "suppression_scope": "all", **changes}


def test_staff_choose_the_stream_and_the_page_leads_to_its_campaigns(admin_client: Browser, project: Project) -> None:
    page = reverse("admin:transactional_project_change", args=[project.pk])
    assert "source_ref=" not in admin_client.get(page).content.decode()
    assert admin_client.post(page, filled(project)).status_code == 302
    project.refresh_from_db()
    assert project.stream == Stream.CAMPAIGN
    campaigns = f"{reverse('admin:campaigns_campaign_changelist')}?source_ref={project.pk}"
    assert campaigns in admin_client.get(page).content.decode()
    own, others = (
        Campaign.objects.create(name=name, sender=project.senders.get(), subject=name, html="x", source_ref=ref)
        for name, ref in (("Of the site", project.pk), ("Of staff", 0))
    )
    listed = admin_client.get(campaigns).content.decode()
    assert own.name in listed and "Of staff" not in listed and f'source_ref={project.pk}"' in listed
    for key in (project.pk + 1, "x", 2**70):
        unknown = admin_client.get(f"{reverse('admin:campaigns_campaign_changelist')}?source_ref={key}").content.decode()
        assert own.name not in unknown and "Of staff" not in unknown
    shown = [admin_client.get(reverse("admin:campaigns_campaign_change", args=[each.pk])).content.decode() for each in (own, others)]
    assert ["Made over the API by the project Tea shop." in each for each in shown] == [True, False]


def test_its_credentials_are_keys_for_people_and_campaigns(admin_client: Browser, newsletters: Project) -> None:
    page = f"{reverse('admin:transactional_project_issue', args=[newsletters.pk])}?kind=smtp"
    shown = admin_client.get(page).content.decode()
    assert 'name="kind"' not in shown and shown.count("checked") == len(USUAL_OF_CAMPAIGNS)
    admin_client.post(page, {"name": "site", "scopes": list(USUAL_OF_CAMPAIGNS), "networks": ""})
    key = Credential.objects.get()
    assert (key.kind, key.scopes) == (Credential.Kind.API_KEY, list(USUAL_OF_CAMPAIGNS))
    issued = admin_client.get(reverse("admin:transactional_project_issued", args=[newsletters.pk, key.pk])).content.decode()
    assert "/api/v1/campaigns" in issued and "/api/v1/messages" not in issued


def test_its_page_connect_has_no_settings_for_mails(admin_client: Browser, newsletters: Project) -> None:
    shown = admin_client.get(reverse("admin:transactional_project_connect", args=[newsletters.pk])).content.decode()
    assert "/api/v1/campaigns" in shown and "from a project for campaigns they are refused" in shown
    assert "EMAIL_BACKEND" not in shown and "kind=smtp" not in shown and "/api/v1/messages" not in shown


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_what_its_page_shows_sends_a_newsletter(live_server: LiveServer, newsletters: Project, settings: Settings) -> None:
    settings.MAILHUB_PUBLIC_URL = live_server.url
    Sender.objects.update(organisation="Tea Ltd", postal_address="Uji", contact_point="help@example.com")
    relay = Relay.objects.create(name="Inbox", kind="inbox")
    RouteMember.objects.create(route=Route.objects.create(name="Campaigns", default_for=Stream.CAMPAIGN), relay=relay)
    news = MailingList.objects.create(name="News")
    credential = Credential(project=newsletters, kind=Credential.Kind.API_KEY, name="site", scopes=list(USUAL_OF_CAMPAIGNS))
    key = credential.issue()
    credential.save()
    blocks = {each.key: each.block for each in Access(user="", password="", sender="shop@example.com", key=key).by_campaigns}

    def pasted(name: str, **known: str) -> Any:
        return json.loads(run("sh", "-c", blocks[name], needs=shutil.which("curl") or "curl", **known))

    (listed,) = pasted("lists")["lists"]
    assert pasted("subscribe", LIST=listed["id"])["subscriptions"][0]["status"] == "subscribed"
    assert Consent.objects.get().list == news
    made = pasted("campaign", LIST=listed["id"])
    assert pasted("test", CAMPAIGN=made["id"]) == {"to": ["shop@example.com"]}
    assert pasted("start", CAMPAIGN=made["id"])["status"] == "launched"
    campaign = Campaign.objects.get()
    assert campaign.batch and (campaign.source_ref, [each.public_id for each in campaign.lists.all()]) == (newsletters.pk, [news.public_id])
    audience.expand(campaign.batch.pk)
    assert campaign.batch.messages.get().address == YOU
