from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.conf import settings as project
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core import mail
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from campaigns.models import Campaign, Consent, Contact, Import, MailingList, Subscription, Template
from mailhub import dashboard
from mailhub.admin import GROUPS, PART_OF, EstimatingPaginator, badge, meter
from mailhub.delivery.models import Attempt, Batch, Content, Event, Message, Move, Suppression, Throughput, Worker
from mailhub.delivery.workers import QUEUES
from mailhub.feedback import incoming
from mailhub.feedback.models import Callback, CallbackURL, IncomingMail, Mailbox, ParkedReport
from mailhub.feedback.receivers.models import Report
from mailhub.feedback.returns.models import Count, Wording
from mailhub.lib import clock
from mailhub.middleware import POLICY
from mailhub.relays.models import (
    DedicatedIP,
    InboxMail,
    IPPool,
    Parking,
    Relay,
    ResponseRule,
    Route,
    RouteMember,
    Slowdown,
    Stream,
    WarmupPlan,
    WarmupUse,
)
from mailhub.senders.models import Sender
from mailhub.watching import troubles
from mailhub.watching.models import Channel
from mailhub.webhooks.models import Delivery, Endpoint
from tests.delivery.world import make_sender, post
from transactional.models import Project, Submission
from transactional.models import Template as TransactionalTemplate

pytestmark = pytest.mark.django_db

Person = Callable[..., Client]


@pytest.fixture
def person(client: Client) -> Person:
    """A browser of somebody who has the given permissions, and no others."""

    def person(*permissions: str) -> Client:
        user = User.objects.create_user("staff", "staff@tea.example", "secret", is_staff=True)
        for permission in permissions:
            app, name = permission.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=name))
        client.force_login(user)
        return client

    return person


@pytest.fixture
def staff(admin_client: Client) -> Client:
    """Somebody who may do everything."""
    return admin_client


@pytest.fixture
def sender() -> Sender:
    sender = Sender.objects.create(email="news@tea.example", name="緑茶堂")
    sender.confirm()
    return sender


@pytest.fixture
def relay() -> Relay:
    relay = Relay.objects.create(name="Dry run", kind="memory")
    RouteMember.objects.create(route=Route.objects.create(name="Campaigns", default_for=Stream.CAMPAIGN), relay=relay)
    return relay


@pytest.fixture
def content(sender: Sender) -> Content:
    return Content.objects.create(subject="Tea", text="Dear {{ name }}", from_email=sender.email)


def batch(content: Content, **fields: object) -> Batch:
    return Batch.objects.create(**{"name": "Spring", "content": content, "sender": Sender.objects.get(), "filled": True, **fields})


def message(content: Content, status: str, address: str = "taro@example.jp", **fields: object) -> Message:
    now = clock.now()
    given = {"stream": Stream.TRANSACTIONAL, "next_attempt_at": now, "expires_at": now + timedelta(days=1), "created_at": now, **fields}
    return Message.objects.create(status=status, content=content, sender=Sender.objects.get(), address=address, **given)


def campaign(content: Content, sent: Batch | None = None, **fields: object) -> Campaign:
    status = Campaign.Status.LAUNCHED if sent else Campaign.Status.DRAFT
    given = {"name": "Spring", "subject": "Tea", "html": "<p>Dear {{ name }}</p>", "status": status, **fields}
    return Campaign.objects.create(sender=Sender.objects.get(), batch=sent, **given)


@pytest.fixture
def world(sender: Sender, relay: Relay, content: Content) -> None:
    """One of everything that has a page."""
    pool = IPPool.objects.create(name="Ours")
    ip = DedicatedIP.objects.create(pool=pool, address="192.0.2.1", ehlo_name="mx.tea.example", plan=WarmupPlan.objects.get(key="careful"))
    WarmupUse.objects.create(ip=ip, destination_id="gmail", date=clock.now().date(), day=1, taken=20)
    news, contact = MailingList.objects.create(name="News"), Contact.objects.create(email="taro@example.jp", name="山田 太郎")
    now = clock.now()
    consent = Consent.objects.create(contact=contact, list=news, basis=Consent.Basis.OPT_IN, source="a form", at=now)
    Subscription.objects.create(contact=contact, list=news, consent=consent, changed_at=now)
    Template.objects.create(name="Newsletter", subject="Tea", html="<p>Tea</p>")
    launched = campaign(content, batch(content, waiting=1, sent=1))
    launched.left_out.create(contact=contact, reason="suppressed")
    campaign(content, name="Autumn")
    counts = dict.fromkeys(("rows", "created", "updated", "subscribed", "unsubscribed", "rejected"), 1)
    Import.objects.create(
        name="a.csv", list=news, basis="opt_in", source="a form", encoding="UTF-8", rejections=[[2, "email", "x", "no"]], at=now, **counts
    )
    bounced = message(content, "bounced", batch=launched.batch, stream=Stream.CAMPAIGN, relay=relay, reply="550 5.1.1 unknown")
    Attempt.objects.create(message=bounced, number=1, relay=relay, outcome="refused", started_at=now, finished_at=now)
    Event.objects.create(message=bounced, type="bounced", at=now)
    Suppression.objects.create(address="gone@example.jp")
    url = CallbackURL.objects.create(relay=relay, service="postmark", last_at=now)
    Callback.objects.create(url=url, digest="a", body_digest="a", size=900, status="done", position=1, parked=1, received_at=now)
    ParkedReport.objects.create(url=url, why="unknown", type="bounced", recipient="taro@example.jp", number=7, at=now, received_at=now)
    incoming.take(b"From: MAILER-DAEMON\nSubject: Undelivered\n\nUser unknown\n", IncomingMail.Source.UPLOAD)
    Mailbox.objects.create(name="Bounces", host="imap.tea.example", username="bounces", secrets={"password": "x"})
    InboxMail.objects.create(relay=relay, message=bounced.pk, rcpt_to="taro@example.jp", data=b"Subject: Tea\r\n\r\nDear Taro\r\n")
    Move.objects.create(sender=sender, old_relay=relay, new_relay=relay, started_at=now)
    Report.objects.create(
        kind="dmarc", organisation="gmail", report_id="1", domain="tea.example", begins_at=now, ends_at=now, good=9, bad=1
    )
    wording = Wording.objects.create(category="user_unknown", text="user unknown", first_day=now.date())
    places = {"relay_key": relay.pk, "destination_key": "gmail", "batch_key": launched.batch_id, "stream": Stream.CAMPAIGN}
    Count.objects.create(day=now.date(), category="user_unknown", kind="hard", wording=wording, number=1, **places)
    Worker.objects.create(node="test:1", queue="bulk", started_at=now, beat_at=now)
    Project.objects.create(name="Shop")
    TransactionalTemplate.objects.create(key="order", language="en", subject="Your order", source="<p>Thanks</p>")
    Submission.objects.create(content=content, via="backend", accepted_at=now)
    webhook = Endpoint.objects.create(name="Shop", url="https://shop.example/mail/", tries=1, problem="It answered 500.", failing_since=now)
    Delivery.objects.create(
        endpoint=webhook, count=3, tries=1, response_status=500, response_body="<b>", seconds=0.2, problem="It answered 500."
    )
    Throughput.objects.create(hour=now, relay_key=relay.pk, destination_key="gmail", stream=Stream.CAMPAIGN, accepted=900, deferred=100)
    Channel.objects.create(name="Operators", to="ops@tea.example", sender=sender, problem="Nobody is there.")
    troubles.report("listing", "192.0.2.1", {"address": "192.0.2.1", "list": "zen", "reason": "<b>"})
    Group.objects.create(name="Editors")
    held = {"relay": relay, "destination_id": "gmail", "since": now, "until": now + timedelta(hours=1)}
    Parking.objects.create(**held, allowance=10, reason="Busy")
    Slowdown.objects.create(**held, rule=ResponseRule.objects.get(key="gmail-rate"), rate=10)


def side_bar(page: str) -> list[tuple[str, list[str]]]:
    """Its groups with their items, counts included."""
    nav = page.partition('<nav id="nav-sidebar"')[2].partition("</nav>")[0]
    found = []
    for group in re.split(r"<h2[^>]*>", nav)[1:]:
        items = re.findall(r'<a href="([^"]*)"', group)
        found.append((group.partition("<")[0], [item.removeprefix("/admin/").rstrip("/") for item in items]))
    return found


def text(response: Any) -> str:
    return response.content.decode()


# ------------------------------------------------------------------------------------------------------------------ side bar


def test_the_side_bar_is_grouped_by_what_people_do(staff: Client) -> None:
    assert side_bar(text(staff.get("/admin/"))) == [
        ("Send", ["campaigns/campaign", "campaigns/template"]),
        ("People", ["campaigns/contact", "campaigns/mailinglist", "delivery/suppression", "campaigns/import", "campaigns/consent"]),
        (
            "Deliver",
            [
                "relays/relay",
                "relays/route",
                "relays/service",
                "relays/parking",
                "relays/dedicatedip",
                "relays/destination",
                "senders/sender",
                "senders/domain",
                "feedback/mailbox",
            ],
        ),
        (
            "Look",
            [
                "watching/deliverability",
                "returns/count",
                "receivers/report",
                "delivery/message",
                "delivery/batch",
                "feedback/incomingmail",
                "relays/inboxmail",
            ],
        ),
        ("Connect", ["transactional/project", "transactional/template", "transactional/submission", "webhooks/endpoint"]),
        ("Operate", ["watching/trouble", "delivery/worker", "auth/user", "auth/group"]),
    ]


def test_everybody_sees_only_what_they_may_look_at(person: Person) -> None:
    client = person("campaigns.view_contact", "relays.change_relay")
    assert side_bar(text(client.get("/admin/"))) == [("People", ["campaigns/contact"]), ("Deliver", ["relays/relay"])]


def test_who_may_see_nothing_gets_a_page_all_the_same(person: Person) -> None:
    response = person().get("/admin/")
    assert response.status_code == 200
    assert side_bar(text(response)) == []


def test_every_model_of_ours_in_the_admin_has_its_place() -> None:
    placed = {label for group in GROUPS for label in group.icons} | set(PART_OF)
    assert {model._meta.label for model in admin.site._registry} - placed == set()
    assert set(PART_OF.values()) <= {label for group in GROUPS for label in group.icons}


def test_models_of_other_apps_come_last(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailhub.admin.GROUPS", GROUPS[1:2])
    groups = dict(side_bar(text(staff.get("/admin/"))))
    assert list(groups) == ["People", "Other"]
    assert "relays/relay" in groups["Other"]
    assert "campaigns/leftout" not in groups["Other"]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/admin/", "/admin/"),
        ("/admin/campaigns/contact/", "/admin/campaigns/contact/"),
        ("/admin/campaigns/contact/import/", "/admin/campaigns/contact/"),
        ("/admin/relays/relay/add/", "/admin/relays/relay/"),
        ("/admin/campaigns/leftout/", "/admin/campaigns/campaign/"),
    ],
)
def test_the_side_bar_says_where_one_is(staff: Client, path: str, place: str) -> None:
    current = re.findall(r'<a href="([^"]*)" aria-current="page"', text(staff.get(path)))
    assert current == [place]


def test_every_icon_that_is_asked_for_is_drawn() -> None:
    drawn = set(re.findall(r'<symbol id="(\w+)"', Path("static/mailhub/icons.svg").read_text()))
    asked = {icon for group in GROUPS for icon in group.icons.values()} | {"other"}
    for path in (project.BASE_DIR / "templates").rglob("*.html"):
        asked |= set(re.findall(r'{% icon "(\w+)"', path.read_text())) | set(re.findall(r'with icon="(\w+)"', path.read_text()))
    assert asked - drawn == set()


# -------------------------------------------------------------------------------------------------------------------- counts


def marks(client: Client) -> dict[str, str]:
    """Item of the side bar -> what it counts, as the page says it."""
    found = re.findall(
        r'<span class="name">([^<]*)</span><span class="count [^"]*" title="([^"]*)">([^<]*)</span>', text(client.get("/admin/"))
    )
    return {name: f"{number} {words}" for name, words, number in found}


def test_the_side_bar_counts_what_waits_and_what_is_wrong(staff: Client, sender: Sender, relay: Relay, content: Content) -> None:
    campaign(content, batch(content, waiting=4_000, deferred=20, sent=7))
    campaign(content, batch(content, status="done", sent=50))
    message(content, "queued")
    Sender.objects.create(email="hello@shop.example")
    relay.rest(timedelta(minutes=5), "login failed")
    for key, minutes in (("gmail", 5), ("docomo", -5)):
        until = clock.now() + timedelta(minutes=minutes)
        Parking.objects.create(relay=relay, destination_id=key, since=until, until=until, allowance=10, reason="Busy")
    assert marks(staff) == {
        "Campaigns": "1 being sent",
        "Messages": "1,000+ waiting",
        "Relays": "1 resting",
        "Parked destinations": "1 left alone",
        "Senders": "1 unconfirmed",
        "Workers": "3 kinds of work that no worker does",
    }


def test_what_is_nought_is_not_counted(staff: Client) -> None:
    for queue in QUEUES:
        Worker.objects.create(node="test:1", queue=queue, started_at=clock.now(), beat_at=clock.now())
    assert marks(staff) == {}


def test_nobody_learns_a_number_of_what_they_may_not_see(person: Person, relay: Relay) -> None:
    relay.rest(timedelta(minutes=5), "login failed")
    page = text(person("campaigns.view_contact").get("/admin/"))
    assert "resting" not in page
    assert "login failed" not in page
    assert "worker" not in page


# ----------------------------------------------------------------------------------------------------------------- languages


def test_the_language_is_switched_and_the_page_stays(staff: Client) -> None:
    page = text(staff.get("/admin/campaigns/contact/?q=taro"))
    form = page.partition('<form id="language-menu"')[2].partition("</form>")[0]
    assert re.findall(r'name="language" value="(\w+)"', form) == ["en", "ja"]
    (here,) = re.findall(r'name="next" value="([^"]*)"', form)
    (switch,) = re.findall(r'action="([^"]*)"', form)
    response = staff.post(switch, {"language": "ja", "next": here}, follow=True)
    assert response.redirect_chain == [("/admin/campaigns/contact/?q=taro", 302)]
    assert '<html lang="ja"' in text(response)
    assert "ログアウト" in text(response)


def test_the_log_in_page_speaks_both_languages(client: Client) -> None:
    assert "ログイン" not in text(client.get("/admin/login/"))
    client.post("/i18n/setlang/", {"language": "ja", "next": "/admin/login/"})
    assert "ログイン" in text(client.get("/admin/login/"))


# -------------------------------------------------------------------------------------------------------------- every page


class Reader(HTMLParser):
    """Finds what the policy forbids, and what leads away from this site."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "style" or "style" in given or any(name.startswith("on") for name in given):
            self.wrong.append(self.get_starttag_text() or tag)
        if tag == "script" and "src" not in given and given.get("type") != "application/json":
            self.wrong.append("a script in the page")
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            if re.match(r"(?i)\s*(\w+:|//)", given.get(name, "")):
                self.wrong.append(self.get_starttag_text() or tag)


def check(response: Any) -> None:
    assert response.status_code == 200
    assert response["Content-Security-Policy"] == POLICY
    reader = Reader()
    reader.feed(text(response))
    assert reader.wrong == []


def pages() -> list[str]:
    return [model._meta.label for model in admin.site._registry]


@pytest.mark.parametrize("label", pages())
def test_pages_obey_the_policy_and_lead_nowhere_else(staff: Client, world: None, label: str) -> None:
    model = next(model for model in admin.site._registry if model._meta.label == label)
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    row = model._default_manager.first()
    assert row is not None
    check(staff.get(reverse(f"{name}_changelist")))
    check(staff.get(reverse(f"{name}_changelist"), {"q": "nobody has this"}))
    check(staff.get(reverse(f"{name}_change", args=[row.pk])))
    check(staff.get(reverse(f"{name}_history", args=[row.pk])))
    may = {deed: getattr(admin.site._registry[model], f"has_{deed}_permission") for deed in ("add", "delete")}
    request = RequestFactory().get("/")
    request.user = User.objects.get(username="admin")
    if may["add"](request):
        check(staff.get(reverse(f"{name}_add")))
    if may["delete"](request):
        check(staff.get(reverse(f"{name}_delete", args=[row.pk])))


@pytest.mark.parametrize("path", ["/admin/", "/admin/password_change/", "/admin/campaigns/", "/admin/campaigns/contact/import/"])
def test_other_pages_obey_it_too(staff: Client, path: str) -> None:
    check(staff.get(path))


@pytest.mark.parametrize("path", ["/admin/login/", "/admin/password_reset/", "/admin/password_reset/done/", "/admin/reset/done/"])
def test_pages_before_the_door_obey_it_too(client: Client, path: str) -> None:
    check(client.get(path))


def test_the_reader_of_pages_sees_what_is_wrong() -> None:
    reader = Reader()
    reader.feed('<p style="a"><a onclick="b" href="/c">d</a><script>e</script><img src="https://f"><link href="//g"><style>h</style>')
    assert len(reader.wrong) == 6


def test_style_and_pictures_fetch_nothing_from_elsewhere() -> None:
    for path in Path("static/mailhub").iterdir():
        words = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|@import|url\(\s*[\"']?//", words), path


def test_who_logs_out_is_told_so(staff: Client) -> None:
    response = staff.post("/admin/logout/")
    check(response)
    assert "You are logged out" in text(response)


def test_a_forgotten_password_is_set_anew_by_mail(client: Client, admin_user: User) -> None:
    assert "/admin/password_reset/" in text(client.get("/admin/login/"))
    client.post("/admin/password_reset/", {"email": admin_user.email})
    (path,) = re.findall(r"http://testserver(/admin/reset/\S+)", mail.outbox[0].body)
    response = client.get(path, follow=True)
    check(response)
    client.post(response.redirect_chain[-1][0], {"new_password1": "a-new-long-word", "new_password2": "a-new-long-word"})
    assert client.login(username=admin_user.username, password="a-new-long-word")
    assert "already been used" in text(client.get(path, follow=True))


def test_errors_have_pages_that_say_what_to_do(client: Client, staff: Client) -> None:
    missing = client.get("/nowhere")
    assert missing.status_code == 404
    assert missing["Content-Security-Policy"] == POLICY
    assert "There is no such page" in text(missing)
    forged = Client(enforce_csrf_checks=True).post("/admin/login/", {})
    assert forged.status_code == 403
    assert "Please send that form again" in text(forged)
    assert 'href="/admin/"' in text(staff.get("/admin/nowhere/"))


@pytest.mark.parametrize("name", ["400", "403", "403_csrf", "404", "500"])
def test_error_pages_stand_without_help(name: str) -> None:
    reader = Reader()
    reader.feed(render_to_string(f"{name}.html"))
    assert reader.wrong == []


# ---------------------------------------------------------------------------------------------------------------------- lists


def test_an_empty_list_says_what_to_do_next(staff: Client) -> None:
    page = text(staff.get("/admin/relays/relay/")).partition('<div id="changelist">')[2]
    assert "No relays yet" in page
    assert str(admin.site._registry[Relay].empty_hint) in page
    assert 'href="/admin/relays/relay/add/"' in page
    assert 'id="searchbar"' not in page


def test_who_may_not_add_is_not_asked_to(person: Person) -> None:
    page = text(person("relays.view_relay").get("/admin/relays/relay/"))
    assert "No relays yet" in page
    assert "/admin/relays/relay/add/" not in page


def test_a_search_in_vain_leads_back_to_all(staff: Client, world: None) -> None:
    page = text(staff.get("/admin/campaigns/contact/?q=nobody"))
    assert "Nothing matches" in page
    assert 'href="?"' in page
    assert 'value="nobody"' in page


def test_a_filter_says_what_it_is_set_to(staff: Client, world: None) -> None:
    page = text(staff.get("/admin/campaigns/contact/?language__exact=ja"))
    assert re.search(r'<details name="filters" class="used">\s*<summary>Language <b>Japanese</b>', page)
    page = text(staff.get("/admin/campaigns/contact/"))
    assert re.search(r'<details name="filters">\s*<summary>Language<svg', page)


def test_lists_end_where_counting_does(staff: Client, content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EstimatingPaginator, "LIMIT", 120)
    for number in range(130):
        message(content, "sent", f"p{number}@example.jp")
    paginator = EstimatingPaginator(Message.objects.order_by("-pk"), 50)
    assert paginator.num_pages == 3
    page = text(staff.get("/admin/delivery/message/"))
    assert "?p=3" in page
    assert "?p=4" not in page
    if connection.vendor != "postgresql":  # which estimates, and has not looked at the new rows yet
        assert not paginator.cut


def test_past_the_limit_a_list_says_to_search(staff: Client, content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    message(content, "sent")
    monkeypatch.setattr(EstimatingPaginator, "cut", True)
    assert "More than 10,000 messages: search for the older ones" in text(staff.get("/admin/delivery/message/"))


def test_a_badge_and_a_meter_escape_what_they_say() -> None:
    assert badge("sent", "<b>") == '<span class="badge sent">&lt;b&gt;</span>'
    assert 'width="100"' in meter(130)
    assert "100 %" in meter(130)
    assert "&lt;b&gt;" in meter(7, "<b>")
    assert 'class="warn" width="7"' in meter(7, "<b>", "warn")


# ----------------------------------------------------------------------------------------------------------------- first page


def steps(client: Client) -> list[str]:
    """done, next or later, one a step."""
    page = text(client.get("/admin/")).partition('<ol class="steps">')[2].partition("</ol>")[0]
    return [state or "later" for state in re.findall(r'<li class="(\w*)">', page)]


def test_an_empty_installation_is_led_through_its_set_up(staff: Client) -> None:
    assert steps(staff) == ["next", "later", "later", "later", "later"]
    relay = Relay.objects.create(name="Dry run", kind="memory")
    assert steps(staff) == ["done", "next", "later", "later", "later"]
    route = Route.objects.create(name="Campaigns", default_for=Stream.CAMPAIGN)
    assert steps(staff)[1] == "next"
    RouteMember.objects.create(route=route, relay=relay)
    sender = Sender.objects.create(email="news@tea.example")
    assert steps(staff) == ["done", "done", "next", "later", "later"]
    sender.confirm()
    assert steps(staff) == ["done", "done", "done", "next", "later"]
    news, contact = MailingList.objects.create(name="News"), Contact.objects.create(email="taro@example.jp")
    Subscription.objects.create(contact=contact, list=news, changed_at=clock.now())
    assert steps(staff) == ["done", "done", "done", "done", "next"]
    content = Content.objects.create(subject="Tea", from_email=sender.email)
    draft = campaign(content)
    assert steps(staff)[4] == "next"
    draft.launched(batch(content), None)
    assert steps(staff) == []


def test_steps_that_one_may_not_take_have_no_button(person: Person) -> None:
    page = text(person("relays.view_relay", "campaigns.add_campaign", "campaigns.view_campaign").get("/admin/"))
    assert "/admin/relays/relay/add/" not in page
    assert "/admin/campaigns/campaign/add/" in page
    assert page.count('<li class="next">') == 1
    assert page.count('<li class="">') == 1


def test_the_first_page_of_an_empty_installation_says_so(staff: Client) -> None:
    page = text(staff.get("/admin/"))
    for words in ("Nothing was handed over in the last 24 hours", "No relay yet", "Nothing is being sent", "Nothing went wrong"):
        assert words in page


def stat(page: str, label: str) -> tuple[str, str]:
    """The value of a card, and the words below."""
    card = page.partition(f"{label}</span>")[2].partition('<span class="value">')[2]
    return card.partition("</span>")[0].strip(), card.partition('<span class="words">')[2].partition("</span>")[0]


@pytest.fixture
def busy(sender: Sender, relay: Relay, content: Content) -> Batch:
    """A day's work: a campaign under way, and transactional mail of every fate."""
    now = clock.now()
    under_way = batch(content, waiting=4_000, deferred=20, sent=5_980)
    campaign(content, under_way)
    fates = {"sent": "sent", "bounced": "refused", "failed": "refused", "deferred": "deferred", "unknown": "unknown"}
    for hours in range(29, -1, -1):
        for status, outcome in fates.items():
            at = now - timedelta(hours=hours)
            one = message(content, status, f"{status}{hours}@example.jp", created_at=at, settled_at=at, reply=f"reply {hours}")
            Attempt.objects.create(message=one, number=1, outcome=outcome, started_at=at, finished_at=at)
    return under_way


def test_the_first_page_tells_the_last_day_in_numbers(staff: Client, sender: Sender, relay: Relay, content: Content) -> None:
    now = clock.now()
    campaign(content, batch(content, waiting=4_000, deferred=20, sent=5_980))
    fates = {"sent": "sent", "bounced": "refused", "failed": "refused", "deferred": "deferred"}
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    # From 30 hours ago until now: of those, 24 hours count, this one included.
    for back in range(29, -1, -1):
        at = this_hour - timedelta(hours=back)
        for status, outcome in fates.items():
            one = message(content, status, f"{status}{back}@example.jp", created_at=at, settled_at=at, reply="550 5.1.1 No such person")
            Attempt.objects.create(message=one, number=1, outcome=outcome, started_at=at, finished_at=at)
    page = text(staff.get("/admin/"))
    assert stat(page, "Waiting") == ("4,050", "4,020 campaign, 30 transactional")
    assert stat(page, "Accepted in 24 hours") == ("24", "by relays, of 96 tries")
    assert stat(page, "Bounced in 24 hours") == ("24", "33.3 % of what was handed over")
    assert stat(page, "Failed in 24 hours") == ("24", "and 0 complaints")
    assert page.count('<rect class="hit"') == 24
    for name, count in (("sent", 24), ("deferred", 24), ("refused", 24)):
        chart = page.partition('<svg class="chart"')[2].partition("</svg>")[0]
        assert chart.count(f'<rect class="{name}"') == count
    assert "4,020" in page
    assert "59 %" in page
    assert "bounced0@example.jp" in page
    assert "bounced29@example.jp" not in page
    assert "550 5.1.1 No such person" in page


def test_of_more_tries_than_can_be_told_apart_the_number_is_told(
    staff: Client, sender: Sender, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "EXACT", 9)
    now = clock.now()
    for _number in range(10):
        one = message(content, "sent")
        Attempt.objects.create(message=one, number=1, outcome="sent", started_at=now, finished_at=now)
    page = text(staff.get("/admin/"))
    value, words = stat(page, "Tries in 24 hours")
    assert value.split() == ["<small>about</small>", "10"]
    assert words == "to hand mail over to relays"
    assert "reckoned from how they are numbered" in page
    assert '<rect class="plain"' in page


def test_the_first_page_says_what_needs_a_hand(staff: Client, relay: Relay, content: Content) -> None:
    relay.rest(timedelta(minutes=5), "535 5.7.8 wrong password")
    campaign(content, problem="Its sender was disabled.")
    page = text(staff.get("/admin/"))
    assert "No worker is running: what is accepted waits." in page
    assert "535 5.7.8 wrong password" in page
    assert "Its sender was disabled." in page
    Worker.objects.create(node="test:1", queue="bulk", started_at=clock.now(), beat_at=clock.now())
    assert "No worker is running for: Transactional mail, Maintenance." in text(staff.get("/admin/"))


def test_the_first_page_shows_only_what_one_may_see(person: Person, busy: Batch) -> None:
    page = text(person("campaigns.view_campaign").get("/admin/"))
    assert "Spring" in page
    for word in ("Waiting</span>", "bounced0@example.jp", "Dry run", "No worker"):
        assert word not in page


def test_quick_deeds_are_those_that_one_may_do(person: Person) -> None:
    page = text(person("campaigns.add_contact", "campaigns.view_contact").get("/admin/"))
    deeds = page.partition('<ul class="object-tools">')[2].partition("</ul>")[0]
    assert re.findall(r'<a href="([^"]*)"', deeds) == ["/admin/campaigns/contact/import/"]


# --------------------------------------------------------------------------------------------------------------- what it costs


@contextmanager
def counted() -> Iterator[CaptureQueriesContext]:
    with CaptureQueriesContext(connection) as queries:
        yield queries


def fill(content: Content, attempts: int) -> None:
    now = clock.now()
    one = message(content, "sent")
    Attempt.objects.bulk_create(
        Attempt(
            message=one,
            number=1,
            outcome="sent",
            started_at=now,
            finished_at=now - timedelta(hours=30) + number * timedelta(hours=30) / attempts,
        )
        for number in range(attempts)
    )


def test_the_first_page_asks_no_more_however_much_there_is(
    staff: Client, busy: Batch, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer keys a look, so that a few thousand rows are what ten million are.
    monkeypatch.setattr(dashboard, "PROBES", 100)
    staff.get("/admin/")
    with counted() as few:
        staff.get("/admin/")
    fill(content, 5_000)
    with counted() as many:
        staff.get("/admin/")
    assert len(many) <= len(few) + 4
    assert len(many) <= 60


def test_other_pages_pay_little_for_the_side_bar(staff: Client, busy: Batch) -> None:
    staff.get("/admin/password_change/")
    with counted() as queries:
        staff.get("/admin/password_change/")
    # Session, user, permissions apart: one for each number.
    assert len(queries) <= 13


@pytest.mark.skipif("postgresql" not in project.DATABASES["default"]["ENGINE"], reason="SQLite does not say what it would cost")
def test_every_question_to_a_big_table_has_an_index_to_go_by(staff: Client, busy: Batch) -> None:
    with counted() as queries:
        staff.get("/admin/")
    big = [query["sql"] for query in queries if re.search(r'FROM "delivery_(message|attempt|event)"', query["sql"])]
    assert len(big) >= 8
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for sql in big:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Seq Scan on delivery_" not in plan, f"{sql}\n{plan}"


@pytest.mark.parametrize("seed", range(5))
def test_the_key_at_a_moment_is_found_whatever_gaps_there_are(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "PROBES", 60)
    random = Random(seed)
    start = clock.now() - timedelta(days=3)
    at, rows = start, []
    for number in range(random.randrange(1, 1_500)):
        at += timedelta(seconds=random.choice([0, 1, 60, 4_000]))
        rows.append(Worker(node=str(number), queue="bulk", started_at=at, beat_at=at))
    Worker.objects.bulk_create(rows)
    gone = random.sample(list(Worker.objects.values_list("pk", flat=True)), len(rows) // 3)
    Worker.objects.filter(pk__in=gone).delete()
    moments = sorted(start + (at - start) * random.uniform(-0.1, 1.1) for _number in range(8))
    left = list(Worker.objects.order_by("pk").values_list("pk", "started_at"))
    found = dashboard.keys_at(Worker.objects.all(), "started_at", moments)
    for moment, key in zip(moments, found, strict=True):
        # Between two rows that are there, any key will do.
        assert [pk for pk, _at in left if pk <= key] == [pk for pk, time in left if time < moment]


def test_without_rows_there_is_no_key() -> None:
    assert dashboard.keys_at(Worker.objects.all(), "started_at", [clock.now()]) == [0]


def test_a_button_that_is_followed_as_a_link_says_that_nothing_was_done(admin_client: Client) -> None:
    relay = Relay.objects.create(name="One", kind="memory")
    response = admin_client.get(reverse("admin:relays_relay_pause", args=[relay.pk]))
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert "Nothing was done" in response.content.decode() and reverse("admin:index") in response.content.decode()


@pytest.mark.parametrize(("name", "label"), [("delivery_move_advisor", "relays.Service"), ("delivery_move_report", "relays.Relay")])
def test_a_page_at_anothers_address_is_marked_as_what_it_is_about(admin_client: Client, name: str, label: str) -> None:
    groups = admin_client.get(reverse(f"admin:{name}")).context["available_apps"]
    assert [model["label"] for group in groups for model in group["models"] if model["current"]] == [label]


def test_mail_that_waits_because_staff_paused_its_relays_is_told_at_once(staff: Client) -> None:
    relays = [Relay.objects.create(name=name, kind="memory") for name in ("One", "Two")]
    route = Route.objects.create(name="Main", default_for=Stream.TRANSACTIONAL)
    for relay in relays:
        RouteMember.objects.create(route=route, relay=relay)
        relay.pause()
    told = "All relays of the route “Main” are paused"
    assert told not in text(staff.get("/admin/"))
    post(make_sender("shop@tea.example"), 1)
    assert told in text(staff.get("/admin/"))
    relays[0].resume()
    assert told not in text(staff.get("/admin/"))
