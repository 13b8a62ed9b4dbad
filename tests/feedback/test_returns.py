"""What came back, counted and shown with what to do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from mailhub.delivery import events, queue, upto
from mailhub.delivery.models import Batch, Event, Message, Suppression
from mailhub.feedback.returns import advice, sums, tally, tasks
from mailhub.feedback.returns.alike import alike
from mailhub.feedback.returns.models import Count, Returned, UpTo, Wording
from mailhub.lib.replies.verdicts import Category
from mailhub.relays.base import Reply
from mailhub.relays.models import Relay
from mailhub.senders.models import Sender
from tests.delivery.world import hold, make_batch, make_relay, make_route, make_sender, post

pytestmark = pytest.mark.django_db
URL = "admin:returns_count_changelist"
TODAY = timezone.localdate


def counted() -> int:
    """As a minute later."""
    done = 0
    for _look in range(3):
        done += tally.count()
        UpTo.objects.update(seen_at=timezone.now() - upto.STORED)
    return done


def bounced(message: Message, words: str, kind: str = "", **fields: Any) -> None:
    events.record(message, fields.pop("type", "bounced"), at=timezone.now(), detail=words, kind=kind, **fields)


@pytest.fixture
def messages(db: None) -> list[Message]:
    relay = make_relay("Main")
    make_route(relay, default_for="transactional")
    make_route(relay, default_for="campaign")
    sender = make_sender()
    batch = make_batch(sender, 4, name="Spring tea")
    found = [*Message.objects.filter(batch=batch).order_by("pk"), *post(sender, 3)]
    Message.objects.update(status="sent", relay=relay)
    Batch.objects.update(waiting=0, sent=4)
    return list(Message.objects.filter(pk__in=[message.pk for message in found]).order_by("pk"))


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        ("550 5.1.1 <taro@example.jp>: user unknown", "550 5.1.1 <hanako@example.jp>: user unknown", "550 5.1.1 [address]: user unknown"),
        ("452 4.2.2 queue 4fXk2p1Zz2z9 full at mx1.example.jp", "452 4.2.2 queue 9aBc1p1Zz0z1 full at mx27.example.jp",
         "452 4.2.2 queue [id] full at [host]"),
        ("550 taro is over quota of 100 MB", "550 taro is over quota of 2000 MB", "550 [name] is over quota of # MB"),
        ("550 listed [192.0.2.7], see https://list.example/?a=1", "550 listed [192.0.2.9], see https://list.example/?b=22",
         "550 listed [IP], see [link]"),
        ("550  user\r\n unknown", "550 user unknown", "550 user unknown"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_replies_that_say_the_same_are_alike(one: str, other: str, text: str) -> None:
    assert alike(one, "taro@example.jp") == alike(other, "taro@example.jp") == text


def test_an_event_is_counted_once_where_it_happened(messages: list[Message]) -> None:
    first, second, third, *_others, single = messages
    bounced(first, "550 5.1.1 <a@example.net>: User unknown")
    bounced(second, "550 5.1.1 <b@example.net>: User unknown")
    bounced(third, "", kind="soft", category="mailbox_full")
    bounced(single, "spam!", type="complained")
    events.record(messages[3], "delivered", at=timezone.now())
    assert tally.count() == 0
    assert tally.count() == 0
    # What has just come may stand before what is not yet to be seen.
    assert not Count.objects.exists()
    assert counted() >= 5
    assert counted() == 0
    rows = Count.objects.order_by("-number", "category").values_list("category", "kind", "number", "batch_key", "stream")
    assert list(rows) == [
        ("user_unknown", "hard", 2, first.batch_id, "campaign"),
        ("complaint", "complaint", 1, 0, "transactional"),
        ("mailbox_full", "soft", 1, first.batch_id, "campaign"),
    ]
    assert set(Returned.objects.values_list("message_key", flat=True)) == {first.pk, second.pk, third.pk, single.pk}
    bounced(messages[3], "550 5.1.1 <d@example.net>: User unknown")
    counted()
    assert Count.objects.get(category="user_unknown").number == 3


def test_a_mail_counts_once_however_many_tell_of_it(messages: list[Message]) -> None:
    """The server at hand-over, a callback, a mail: and the worst of what they say, in whichever order."""
    first, second, third, *_others = messages
    for message in (first, second):
        bounced(message, "552 5.2.2 Mailbox full", source="callback")
    bounced(second, "550 5.1.1 User unknown", source="mail")
    bounced(third, "550 5.1.1 User unknown")
    counted()
    bounced(first, "550 5.1.1 User unknown", source="mail")
    bounced(second, "the same again", kind="soft")
    bounced(third, "552 5.2.2 Mailbox full")
    bounced(third, "", type="complained")
    bounced(third, "", type="complained", source="another")
    counted()
    rows = Count.objects.order_by("-number").values_list("category", "kind", "number")
    assert list(rows) == [("user_unknown", "hard", 3), ("complaint", "complaint", 1)]
    assert sorted(Returned.objects.values_list("message_key", flat=True)) == [first.pk, second.pk, third.pk, third.pk]


def refuse(sender: Sender, reply: Reply, status: str, relay: Relay) -> Message:
    """A mail to nobody@example.net that the relay refuses."""
    post(sender, "nobody@example.net")
    lease = hold(relay, "transactional")
    [message] = queue.mark(lease, queue.claim(lease, 5))
    now = timezone.now()
    queue.settle(lease, [queue.Outcome(message, queue.Sent.REFUSED, reply, now, now, Message.Status(status))])
    queue.end_lease(lease)
    return message


def test_a_refusal_at_hand_over_counts_too(db: None) -> None:
    relay = make_relay()
    make_route(relay, default_for="transactional")
    refuse(make_sender(), Reply(550, "5.1.1", "User unknown"), "bounced", relay)
    counted()
    assert list(Count.objects.values_list("category", "kind", "relay_key")) == [("user_unknown", "hard", relay.pk)]


def test_a_mailbox_that_refuses_mail_again_and_again_is_suppressed_for_a_time(settings: Any, db: None) -> None:
    settings.MAILHUB_SOFT_BOUNCES = 3
    relay = make_relay()
    make_route(relay, default_for="transactional")
    sender = make_sender()
    full, blocked = Reply(452, "4.2.2", "Mailbox full"), Reply(554, "5.7.1", "Blocked by Spamhaus")
    for reply in (full, blocked, full):
        refuse(sender, reply, "failed", relay)
    counted()
    assert not Suppression.objects.exists(), "what is not the mailbox's fault never counts"
    last = refuse(sender, full, "failed", relay)
    counted()
    row = Suppression.objects.get()
    assert (row.address, row.reason, row.event and row.event.message_id) == ("nobody@example.net", "soft", last.pk)
    assert row.expires_at


def test_reported_bounces_and_refusals_add_up(messages: list[Message], settings: Any) -> None:
    settings.MAILHUB_SOFT_BOUNCES = 2
    Message.objects.filter(pk__in=[message.pk for message in messages[-2:]]).update(address="full@example.net")
    bounced(messages[-1], "552 5.2.2 Mailbox full")
    Event.objects.create(message=messages[-2], type="failed", at=timezone.now(), category="mailbox_full", detail="452 4.2.2 Mailbox full")
    counted()
    assert Suppression.objects.get().address == "full@example.net"


def test_a_server_that_says_something_new_each_time_fills_no_table(messages: list[Message], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "NEW_WORDINGS", 2)
    for message, word in zip(messages, ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"), strict=True):
        bounced(message, f"550 5.1.1 user unknown {word}")
    counted()
    assert Wording.objects.count() == 3
    assert sum(Count.objects.values_list("number", flat=True)) == 7
    # Those without a wording of their own are one.
    assert Wording.objects.get(text="").counts.count() == 2


def test_reading_costs_the_same_number_of_queries_for_many_of_a_kind(messages: list[Message], django_assert_max_num_queries: Any) -> None:
    for message in messages:
        bounced(message, f"550 5.1.1 <{message.address}>: User unknown")
        if message == messages[0]:
            # Keys that other tests have used up are behind it.
            counted()
    with django_assert_max_num_queries(45):
        counted()


@pytest.mark.parametrize("category", list(Category))
def test_every_category_has_a_name_and_advice(category: Category) -> None:
    fallback = advice.name("?"), advice.of("?", "soft")
    if category not in ("other", "auto_reply", "delivered"):
        assert advice.name(category) != fallback[0]
        assert advice.of(category, "soft") != fallback[1]
    assert advice.of(category, "hard") == advice.of("user_unknown", "hard")


def test_the_page_shows_why_where_and_what_to_do_and_leads_to_the_mails(admin_client: Client, messages: list[Message]) -> None:
    assert "Nothing has come back yet" in admin_client.get(reverse(URL)).content.decode()
    bounced(messages[0], "550 5.1.1 <a@example.net>: User unknown")
    bounced(messages[-1], "452 4.2.2 mailbox full", kind="soft")
    counted()
    page = admin_client.get(reverse(URL)).content.decode()
    for words in (
        "550 5.1.1 [address]: User unknown",
        "these addresses are suppressed",
        "Mailbox full",
        "Spring tea",
        "Transactional mail",
        "Main",
    ):
        assert words in page
    narrow = admin_client.get(reverse(URL), {"batch_key": messages[0].batch_id}).content.decode()
    assert "Mailbox full" not in narrow
    wording = Wording.objects.get(category="user_unknown")
    mails = admin_client.get(reverse("admin:returns_count_mails"), {"wording": wording.pk}).content.decode()
    assert messages[0].address in mails
    assert messages[-1].address not in mails


@pytest.mark.parametrize(
    "query", ["?span=x", "?relay_key=9999999999999999999999", "?wording=a", "?category=%00", "?before=z", "?batch_key=-1"]
)
def test_strange_addresses_of_the_page_are_no_error(admin_client: Client, query: str) -> None:
    for name in ("changelist", "mails", "export"):
        assert admin_client.get(reverse(f"admin:returns_count_{name}") + query).status_code == 200


def test_the_export_is_safe_for_spreadsheets(admin_client: Client, messages: list[Message]) -> None:
    bounced(messages[0], "=cmd|calc user unknown")
    counted()
    text = b"".join(admin_client.get(reverse("admin:returns_count_export")).streaming_content).decode()
    assert '"\'=cmd|calc user unknown"' in text
    assert "Spring tea" in text


def test_mails_are_for_those_who_may_see_messages(client: Client, messages: list[Message]) -> None:
    user = User.objects.create_user("eve", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_count"))
    client.force_login(user)
    bounced(messages[0], "550 5.1.1 User unknown")
    counted()
    assert messages[0].address not in client.get(reverse(URL)).content.decode()
    assert client.get(reverse("admin:returns_count_mails")).status_code == 403
    client.force_login(User.objects.create_user("mallory", is_staff=True))
    assert client.get(reverse(URL)).status_code == 403
    assert client.get(reverse("admin:returns_count_export")).status_code == 403


def test_counts_are_forgotten_with_their_messages(messages: list[Message], settings: Any) -> None:
    bounced(messages[0], "550 5.1.1 User unknown")
    counted()
    Count.objects.update(day=TODAY() - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS + 1))
    Wording.objects.update(first_day=TODAY() - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS + 1))
    assert tasks.prune() == 1
    assert not Returned.objects.exists() and not Wording.objects.exists()


def test_a_page_reads_the_indexes_however_much_there_is(messages: list[Message]) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite plans otherwise")
    today = TODAY()
    wordings = Wording.objects.bulk_create(
        Wording(digest=str(n), category="user_unknown", kind="hard", text=str(n), first_day=today) for n in range(50)
    )
    rows = Count.objects.bulk_create(
        Count(
            day=today - timedelta(days=n % 400), relay_key=1, destination_key="other", batch_key=n, stream="campaign", category="user_unknown",
            kind="hard", wording=wordings[n % 50], number=1,
        )
        for n in range(10_000)
    )  # fmt: skip
    Returned.objects.bulk_create(Returned(count=row, message_key=place, event_key=place) for place, row in enumerate(rows))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE returns_count; ANALYZE returns_returned")
    week = sums.counts(today - timedelta(days=6), today)
    assert "returns_count_once" in week.explain()
    narrow = Returned.objects.filter(count__in=week.filter(wording=wordings[0].pk)).order_by("-pk")[:100].explain()
    assert "Seq Scan on returns_returned" not in narrow
    assert "returns_returned_message" in Returned.objects.filter(message_key__in=range(20)).explain(), "what tally.py looks for"
