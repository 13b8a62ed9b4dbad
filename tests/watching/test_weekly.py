from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone, translation

from campaigns.models import Campaign
from mailhub.delivery import throughput
from mailhub.delivery.models import Batch
from mailhub.lib import clock, signing
from mailhub.relays.base import RelayDown, Reply
from mailhub.relays.models import Relay
from mailhub.relays.providers import memory
from mailhub.senders.models import Sender
from mailhub.watching import alerts, tasks, troubles, weekly
from mailhub.watching.models import Alert, Channel, Trouble
from tests.delivery import world
from tests.watching.listener import Listener

pytestmark = pytest.mark.django_db
TOKYO = ZoneInfo("Asia/Tokyo")
# Of the week that is told on Monday, 9 March 2026.
WEEK = date(2026, 3, 2)
TUESDAY = datetime(2026, 3, 3, 12, tzinfo=UTC)
NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)


@pytest.fixture
def weekly_channel(channel: Channel) -> Channel:
    Channel.objects.update(wants_weekly=True, wants_alerts=False)
    channel.refresh_from_db()
    return channel


def count(hour: datetime, relay: Relay, stream: str, **counts: int) -> None:
    throughput.add({(hour, relay.pk, "other", "", stream): Counter(counts)})


def mails(*relays: Relay) -> list[EmailMessage]:
    return [message_from_bytes(envelope.data, policy=policy.default) for relay in relays for envelope in memory.taken[relay.pk]]


@pytest.mark.parametrize(
    ("moment", "week"),
    [
        (datetime(2026, 3, 9, 6, 59, tzinfo=TOKYO), date(2026, 2, 23)),
        (datetime(2026, 3, 9, 7, 0, tzinfo=TOKYO), WEEK),
        (datetime(2026, 3, 15, 23, 59, tzinfo=TOKYO), WEEK),
        (datetime(2026, 3, 16, 6, 59, tzinfo=TOKYO), WEEK),
        (datetime(2026, 3, 16, 7, 0, tzinfo=TOKYO), date(2026, 3, 9)),
    ],
)
def test_a_week_is_over_on_monday_by_the_sites_clock(moment: datetime, week: date) -> None:
    with timezone.override(TOKYO):
        assert weekly.last(moment.astimezone(UTC)) == week


def test_whoever_wants_it_gets_a_week_once(relays: tuple[Relay, Relay], weekly_channel: Channel) -> None:
    Channel.objects.create(name="Nothing weekly", to="x@tea.example", sender=weekly_channel.sender)
    Channel.objects.create(name="Off", to="x@tea.example", sender=weekly_channel.sender, wants_weekly=True, active=False)
    for _look in range(2):
        weekly.make(NOW)
        assert tasks.tell(weekly_channel.pk) in (0, 1)
    (mail,) = mails(*relays)
    assert mail["Subject"] == "[MailHub] The week from 2 Mar 2026 to 8 Mar 2026" and mail["To"] == "ops@tea.example"
    assert "No mail was sent in this week." in mail.get_body(("plain",)).get_content()
    assert "No mail was sent in this week." in mail.get_body(("html",)).get_content()
    weekly.make(NOW + timedelta(days=7))
    assert sorted(Alert.objects.values_list("channel__name", "week")) == [("Operators", WEEK), ("Operators", WEEK + timedelta(days=7))]


def test_a_channel_that_wants_the_week_alone_is_told_of_no_trouble(relays: tuple[Relay, Relay], weekly_channel: Channel) -> None:
    troubles.report("listing", "192.0.2.1 zen", {"address": "192.0.2.1", "list": "zen", "reason": "127.0.0.2"})
    assert not Alert.objects.exists()


def test_it_says_what_was_sent_by_stream_and_relay_against_the_week_before(
    relays: tuple[Relay, Relay], weekly_channel: Channel, sender: Sender
) -> None:
    first, second = relays
    count(TUESDAY, first, "transactional", accepted=1200, bounced=3, returned=4, complained=2, refused=5, unanswered=6)
    count(TUESDAY, second, "campaign", accepted=30)
    count(TUESDAY - timedelta(days=7), first, "transactional", accepted=1000)
    # The first and the last hour of the week, and those beside it.
    count(datetime(2026, 3, 2, tzinfo=UTC), first, "campaign", accepted=1)
    count(datetime(2026, 3, 8, 23, tzinfo=UTC), first, "campaign", accepted=1)
    count(datetime(2026, 3, 9, tzinfo=UTC), first, "campaign", accepted=500)
    week = weekly.Week.of(WEEK)
    assert [(row.name, row.cells) for row in week.rows] == [
        ("All mail", [("1,232", "1,000"), ("7", "0"), ("2", "0"), ("11", "0")]),
        ("Transactional", [("1,200", "1,000"), ("7", "0"), ("2", "0"), ("11", "0")]),
        ("Campaign", [("32", "0"), ("0", "0"), ("0", "0"), ("0", "0")]),
        ("Through First", [("1,202", "1,000"), ("7", "0"), ("2", "0"), ("11", "0")]),
        ("Through Second", [("30", "0"), ("0", "0"), ("0", "0"), ("0", "0")]),
    ]
    assert "All mail: accepted 1,232 (1,000), bounced 7 (0), complaints 2 (0), refused or no reply 11 (0)" in week.lines()[0]


def test_it_says_which_campaigns_left_and_what_was_in_trouble(
    relays: tuple[Relay, Relay], weekly_channel: Channel, sender: Sender, settings: Any
) -> None:
    def batch(name: str, at: datetime, **counts: int) -> Batch:
        made = world.make_batch(sender, name=name, **counts)
        Batch.objects.filter(pk=made.pk).update(created_at=at)
        return made

    old, spring, test = (
        batch("Old", TUESDAY - timedelta(days=7)),
        batch("<Spring>", TUESDAY, delivered=90, sent=5, bounced=5),
        batch("T", TUESDAY),
    )
    for each in (old, spring):
        Campaign.objects.create(name=each.name, sender=sender, subject="x", html="x", batch=each, status="launched")
    for number, (opened, closed) in enumerate([(-9, -8), (-9, 1), (2, None), (8, None)]):
        troubles.report("listing", f"{number} zen", {"address": f"192.0.2.{number}", "list": "zen", "reason": "x"})
        begin = TUESDAY + timedelta(days=opened)
        end = None if closed is None else TUESDAY + timedelta(days=closed)
        Trouble.objects.filter(subject=f"{number} zen").update(opened_at=begin, closed_at=end)
    week = weekly.Week.of(WEEK)
    assert [each.name for each in week.campaigns] == ["<Spring>"] and test.name == "T"
    assert week.campaigns[0].text == "100 recipients, accepted 95, delivered 90, bounced 5"
    assert [each.name.split()[0] for each in week.troubles] == ["192.0.2.2", "192.0.2.1"] and week.tone == "warn"
    assert "not good again yet" in week.troubles[0].text and week.troubles[1].text.startswith("from ")
    html = week.html()
    assert "&lt;Spring&gt;" in html and f"/admin/delivery/batch/{spring.pk}/change/" in html and "?span=week" in html
    with translation.override("ja"):
        assert "に載っています" in weekly.Week.of(WEEK).html()


def test_only_those_who_lack_it_get_it_again_and_alerts_do_not_use_it_up(relays: tuple[Relay, Relay], weekly_channel: Channel) -> None:
    first, second = relays
    Channel.objects.update(to="ops@tea.example\nboss@tea.example", most=1, wants_alerts=True)
    for number in range(3):
        troubles.report("listing", f"{number} zen", {"address": f"192.0.2.{number}", "list": "zen", "reason": "x"})
    assert tasks.tell(weekly_channel.pk) == 3
    memory.taken.clear()
    weekly.make(clock.now())
    memory.script[first.pk] += [Reply(250, "2.0.0", "OK"), RelayDown(Reply(421, "", "closing"))]
    memory.script[second.pk] += [RelayDown(Reply(421, "", "closing"))]
    assert tasks.tell(weekly_channel.pk) == 0
    Relay.objects.update(resting_until=None)
    Alert.objects.filter(week__isnull=False).update(due_at=clock.now(), made_at=clock.now() - timedelta(days=5))
    assert tasks.tell(weekly_channel.pk) == 1
    assert sorted(mail["To"] for mail in mails(*relays)) == ["boss@tea.example", "ops@tea.example"]


def test_a_call_and_a_chat_get_it_too(listener: Listener, relays: tuple[Relay, Relay], admin_client: Client) -> None:
    for kind in ("call", "slack"):
        made = Channel.objects.create(name=kind, kind=kind, url=listener.url, secret=signing.new_secret(), wants_weekly=True)
        weekly.make(NOW)
        assert tasks.tell(made.pk) == 1
        assert "The week from 2 Mar 2026" in admin_client.get(f"/admin/watching/channel/{made.pk}/change/").content.decode()
    call, chat = (json.loads(post.body) for post in listener.posts)
    assert (call["type"], call["data"]["tone"], call["data"]["troubles"]) == ("alert.weekly", "good", [])
    assert "No mail was sent in this week." in call["data"]["text"] and chat["attachments"][0]["color"] == "good"


def test_the_look_of_every_minute_makes_it(
    relays: tuple[Relay, Relay], weekly_channel: Channel, asked: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        tasks.watch()
    assert ("mailhub.watching.tasks.tell", (weekly_channel.pk,)) in asked and alerts.due(clock.now()) == [weekly_channel.pk]


def test_a_channel_wants_something(relays: tuple[Relay, Relay], sender: Sender, admin_client: Client) -> None:
    form = {"name": "Boss", "kind": "mail", "active": "on", "to": "b@tea.example", "sender": sender.pk, "language": "ja", "most": "5"}
    assert "Choose alerts, the weekly summary or both." in admin_client.post("/admin/watching/channel/add/", form).content.decode()
    assert admin_client.post("/admin/watching/channel/add/", {**form, "wants_weekly": "on"}).status_code == 302
    channel = Channel.objects.get()
    assert channel.wants_weekly and not channel.wants_alerts
