"""A site makes its newsletters over the HTTP API, has them looked at, and sends them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse

from campaigns import audience
from campaigns.models import Campaign, Contact, LeftOut, MailingList, Subscription, Template
from mailhub.delivery import engine
from mailhub.delivery.models import Message
from mailhub.lib import clock
from mailhub.relays.models import InboxMail, Relay, Route, Stream
from mailhub.senders.models import Sender
from tests.at_once import at_once
from tests.campaigns.conftest import Join
from tests.transactional.api import Site
from transactional.models import Credential, Project


@pytest.fixture
def site(sender: Sender, route: Route) -> Site:
    project = Project.objects.create(name="Tea news", stream=Stream.CAMPAIGN)
    project.senders.add(sender)
    return Site(project)


@pytest.fixture
def spring(news: MailingList) -> dict[str, Any]:
    """What a site asks for."""
    return {
        "name": "Spring",
        "from": "news@tea.example",
        "lists": [str(news.public_id)],
        "subject": "New tea for {{ name }}",
        "html": "<p>Dear {{ name }}, first flush!</p>",
    }


def pointers(answer: HttpResponse, status: int = 422) -> list[str]:
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), problem
    return [fault.get("pointer") or fault["parameter"] for fault in problem["errors"]]


# --------------------------------------------------------------------------------------------------------------- made and sent


@pytest.mark.django_db(transaction=True)
def test_a_newsletter_goes_to_those_who_agreed_and_to_nobody_else(site: Site, spring: dict[str, Any], news: MailingList) -> None:
    Relay.objects.update(kind="inbox")
    agreed = {"email": "hana@example.net", "basis": "opt_in", "source": "sign-up form on tea.example", "text": "毎月のお知らせ"}
    assert site.post(f"lists/{news.public_id}/subscribe", agreed).status_code == 200
    silent = Contact.objects.create(email="taro@example.net")
    Subscription.objects.create(contact=silent, list=news, changed_at=clock.now())
    made = site.post("campaigns", spring)
    assert made.status_code == 201
    page = f"campaigns/{made.json()['id']}"
    assert made.json() == site.get(page).json()
    assert (made.json()["status"], made.json()["from"], made.json()["lists"]) == ("draft", "news@tea.example", spring["lists"])
    assert site.post(f"{page}/start").json()["status"] == "launched"
    batch = Campaign.objects.get().batch
    assert batch
    audience.expand(batch.pk)
    engine.drain(Relay.objects.get(), "bulk")
    mail = InboxMail.objects.get()
    assert mail.rcpt_to == "hana@example.net"
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click" in bytes(mail.data) and b"Precedence: bulk" in bytes(mail.data)
    assert LeftOut.objects.values_list("contact", "reason").get() == (silent.pk, LeftOut.Reason.NO_CONSENT)
    assert (site.get(page).json()["recipients"], site.get(page).json()["figures"]["sent"]) == (1, 1)


def test_all_that_a_campaign_may_have_is_kept(site: Site, spring: dict[str, Any], news: MailingList, offers: MailingList) -> None:
    more = {"text": "Dear {{ name }}", "language": "ja", "track_opens": False, "track_clicks": False}
    lists = [str(offers.public_id), str(news.public_id), str(news.public_id)]
    assert site.post("campaigns", {**spring, **more, "lists": lists}).status_code == 201
    made = Campaign.objects.get()
    assert (made.text, made.language, made.tracks_opens, made.tracks_clicks) == ("Dear {{ name }}", "ja", False, False)
    assert set(made.lists.all()) == {news, offers} and made.route is None


def test_a_template_gives_the_words(site: Site, spring: dict[str, Any]) -> None:
    Template.objects.create(name="Monthly", language="ja", subject="今月のお茶", html="<p>新茶</p>", text="新茶")
    words = {name: value for name, value in spring.items() if name not in ("subject", "html")}
    assert site.post("campaigns", {**words, "template": "Monthly"}).status_code == 201
    assert site.post("campaigns", {**words, "template": "Monthly", "subject": "May", "language": "en"}).status_code == 201
    kept = Campaign.objects.order_by("pk").values_list("subject", "html", "text", "language")
    assert list(kept) == [("今月のお茶", "<p>新茶</p>", "新茶", "ja"), ("May", "<p>新茶</p>", "新茶", "en")]
    assert pointers(site.post("campaigns", {**spring, "template": "Monthly"})) == ["#/template"]
    assert pointers(site.post("campaigns", {**words, "template": "Weekly"})) == ["#/template"]


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({"name": ""}, ["#/name"]),
        ({"from": "news@"}, ["#/from"]),
        ({"lists": []}, ["#/lists"]),
        ({"lists": ["6f1c1f4e-6d38-4a57-9d0e-2c8f1f3e0a52"]}, ["#/lists/0"]),
        ({"subject": "", "html": ""}, ["#/subject", "#/html"]),
        ({"subject": "Two\nlines"}, ["#/subject"]),
        ({"html": "<p>{{ name</p>"}, ["#/html"]),
        ({"text": "{% if name %}"}, ["#/text"]),
        ({"track_opens": "yes"}, ["#/track_opens"]),
        ({"route": 1}, ["#/route"]),
    ],
)
def test_what_is_wrong_is_named_by_its_place(site: Site, spring: dict[str, Any], changes: dict[str, Any], places: list[str]) -> None:
    assert pointers(site.post("campaigns", {**spring, **changes})) == places
    assert not Campaign.objects.exists()


# ----------------------------------------------------------------------------------------------------------------- whose it is


@pytest.mark.parametrize("stream", Stream)
def test_a_key_uses_its_projects_senders_alone(site: Site, spring: dict[str, Any], stream: str) -> None:
    Project.objects.update(stream=stream)
    other = Sender.objects.create(email="other@tea.example", name="Other")
    other.confirm()
    answer = site.post("campaigns", {**spring, "from": "other@tea.example"})
    assert pointers(answer, 403) == ["#/from"]
    assert "may not send from other@tea.example" in answer.json()["detail"]
    foreign = Campaign.objects.create(name="Other's", sender=other, subject="x", html="x")
    for deed, body in (("start", None), ("test", {"to": ["news@tea.example"]})):
        assert pointers(site.post(f"campaigns/{foreign.public_id}/{deed}", body), 403) == ["campaign"]
    assert not Message.objects.exists()
    assert site.post("campaigns", spring).status_code == 201


def test_a_key_without_the_scope_makes_none(site: Site, spring: dict[str, Any]) -> None:
    Credential.objects.update(scopes=["campaigns:read", "contacts:write"])
    assert site.post("campaigns", spring).status_code == 403
    assert site.get("campaigns").status_code == 200


def test_a_project_finds_the_campaigns_that_its_keys_made(site: Site, spring: dict[str, Any], campaign: Campaign) -> None:
    made = site.post("campaigns", spring).json()
    Campaign.objects.create(name="Another's", sender=campaign.sender, subject="x", html="x", source_ref=site.credential.project_id + 1)
    assert site.get("campaigns", {"mine": "true"}).json()["campaigns"] == [made]
    assert len(site.get("campaigns", {"mine": "false"}).json()["campaigns"]) == 3


# ----------------------------------------------------------------------------------------------------------------- idempotency


def test_the_same_key_makes_one_campaign_and_another_body_is_refused(site: Site, spring: dict[str, Any]) -> None:
    first, again = (site.post("campaigns", spring, key="spring") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    other = site.post("campaigns", {**spring, "name": "Summer"}, key="spring")
    assert pointers(other, 409) == ["Idempotency-Key"] and other.json()["type"] == "urn:mailhub:problem:idempotency-key-reused"
    project = Project.objects.create(name="Another site")
    project.senders.set(Sender.objects.all())
    assert Site(project).post("campaigns", spring, key="spring").json()["id"] != first.json()["id"]
    assert Campaign.objects.count() == 2
    # Without a key each request makes one.
    assert site.post("campaigns", spring).json()["id"] != site.post("campaigns", spring).json()["id"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="its writers wait for each other at the door")
def test_the_same_key_twice_at_once_makes_one_campaign(site: Site, spring: dict[str, Any]) -> None:
    answers = at_once(4, lambda: site.post("campaigns", spring, key="spring").content)
    assert len(answers) == 4 and len({json.loads(answer)["id"] for answer in answers}) == 1
    assert Campaign.objects.count() == 1


# ------------------------------------------------------------------------------------------------------------ tests and a time


def test_a_test_goes_to_people_of_ours_alone(site: Site, spring: dict[str, Any]) -> None:
    User.objects.create_user("hana", email="Hana@tea.example", is_staff=True)
    User.objects.create_user("left", email="left@tea.example", is_staff=True, is_active=False)
    page = f"campaigns/{site.post('campaigns', spring).json()['id']}/test"
    to = ["hana@tea.example", "news@tea.example", "news@tea.example"]
    answer = site.post(page, {"to": to})
    assert (answer.status_code, answer.json()) == (202, {"to": to[:2]})
    assert sorted(Message.objects.values_list("address", flat=True)) == to[:2]
    assert pointers(site.post(page, {"to": ["hana@tea.example", "taro@example.net", "left@tea.example"]})) == ["#/to/1", "#/to/2"]
    assert pointers(site.post(page, {"to": ["hana@"]})) == ["#/to/0"]
    assert Message.objects.count() == 2


def test_a_test_that_cannot_be_made_says_why(site: Site, spring: dict[str, Any]) -> None:
    Sender.objects.update(organisation="")
    page = f"campaigns/{site.post('campaigns', spring).json()['id']}/test"
    assert pointers(site.post(page, {"to": ["news@tea.example"]})) == ["campaign.sender"]


def test_a_campaign_waits_for_its_time(site: Site, spring: dict[str, Any], news: MailingList, join: Join) -> None:
    join("hana@example.net", news)
    page = f"campaigns/{site.post('campaigns', spring).json()['id']}"
    at = clock.now() + timedelta(days=2)
    for moment in (clock.now() - timedelta(days=1), clock.now() + timedelta(days=400), "tomorrow"):
        assert pointers(site.post(f"{page}/start", {"at": str(moment).replace(" ", "T")})) == ["#/at"]
    answer = site.post(f"{page}/start", {"at": at.isoformat()})
    assert (answer.status_code, answer.json()["status"]) == (202, "scheduled")
    assert Campaign.objects.get().scheduled_at == at
    again = site.post(f"{page}/start", {"at": at.isoformat()})
    assert (again.status_code, again.json()["detail"]) == (409, "The campaign is scheduled already.")
    # Its time has come early.
    assert site.post(f"{page}/start", {}).json()["status"] == "launched"
    assert site.post(f"{page}/start").status_code == 409


def test_a_campaign_that_nobody_may_get_names_what_is_wrong_with_it(site: Site, spring: dict[str, Any]) -> None:
    page = f"campaigns/{site.post('campaigns', spring).json()['id']}"
    assert pointers(site.post(f"{page}/start")) == ["campaign.lists"]
    assert Campaign.objects.get().status == Campaign.Status.DRAFT
