from __future__ import annotations

import csv
import io
import re
import uuid
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import openpyxl
import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape
from pytest_django import Settings

from mailhub.admin import EstimatingPaginator
from mailhub.delivery import admin as delivery_admin
from mailhub.delivery import export, pages, queue, search, suppressions, timeline
from mailhub.delivery.models import Attempt, Batch, Content, Event, Lease, Message, Move, Suppression, Worker
from mailhub.lib import tasks
from mailhub.relays import routing
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender
from tests.delivery.world import make_content

NOW = timezone.now


@pytest.fixture
def relay(db: None) -> Relay:
    return Relay.objects.create(name="Dry run", kind="memory")


@pytest.fixture
def route(relay: Relay) -> Route:
    route = Route.objects.create(name="Everything", default_for=Stream.CAMPAIGN)
    RouteMember.objects.create(route=route, relay=relay)
    return route


@pytest.fixture
def sender(route: Route) -> Sender:
    sender = Sender.objects.create(email="news@tea.example", name="緑茶堂", transactional_route=route)
    sender.confirm()
    return sender


@pytest.fixture
def content(sender: Sender) -> Content:
    return Content.objects.create(
        subject="Your code for {{ name }}",
        html="<p>Dear {{ name }}, the code is 4711-{{ code }}.</p>",
        from_name="緑茶堂",
        from_email=sender.email,
    )


@pytest.fixture
def batch(content: Content, sender: Sender) -> Batch:
    return Batch.objects.create(name="Spring", content=content, sender=sender, filled=True)


Make = Callable[..., Message]


@pytest.fixture
def make(content: Content, sender: Sender, relay: Relay) -> Make:
    """A message in a state, with its batch's counters in step."""

    def make(address: str = "hana@example.net", status: str = "queued", batch: Batch | None = None, **fields: Any) -> Message:
        stream = Stream.CAMPAIGN if batch else Stream.TRANSACTIONAL
        message = queue.new(stream, content=content, sender=sender, address=address, batch=batch, data={"name": "花", "code": "X"})
        if status == "claimed":
            fields["lease"] = Lease.objects.create(relay=relay, node="mx1", connections=2, started_at=NOW(), expires_at=NOW())
        if status not in ("queued", "claimed"):
            fields.setdefault("relay", relay)
        message.status = status
        for name, value in fields.items():
            setattr(message, name, value)
        message.save()
        if batch:
            counter = {"queued": "waiting", "claimed": "waiting"}.get(status, status)
            setattr(batch, counter, getattr(batch, counter) + 1)
            batch.save()
        return message

    return make


@pytest.fixture
def staff(client: Client) -> Callable[..., User]:
    """Somebody with these permissions of this package alone."""

    def staff(*codenames: str) -> User:
        user = User.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(content_type__app_label="delivery", codename__in=codenames))
        client.force_login(user)
        return user

    return staff


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    asked: list[tuple[str, tuple[int, ...]]] = []
    monkeypatch.setattr(tasks, "enqueue", lambda task, *ids, queue: asked.append((task, ids)))
    return asked


def url(row: Any, name: str = "change") -> str:
    return reverse(f"admin:delivery_{row._meta.model_name}_{name}", args=[row.pk])


def list_of(model: str, **asked: Any) -> str:
    from urllib.parse import urlencode

    return reverse(f"admin:delivery_{model}_changelist") + ("?" + urlencode(asked) if asked else "")


def text(response: Any) -> str:
    return response.content.decode()  # type: ignore[no-any-return]


def addresses(response: Any) -> list[str]:
    return [row.address for row in response.context["cl"].result_list]


# ------------------------------------------------------------------------------------------------------------------- messages


def test_the_list_tells_what_became_of_each_mail(admin_client: Client, make: Make, batch: Batch) -> None:
    make("hana@example.net", "sent", batch, reply="250 2.0.0 kept in memory")
    make("taro@example.net", "failed", reply="554 5.7.1 <b>no</b>")
    page = text(admin_client.get(list_of("message")))
    for shown in ("hana@example.net", "accepted by relay", "Your code for", "news@tea.example", "Dry run", "250 2.0.0 kept", "campaign"):
        assert shown in page, shown
    assert "554 5.7.1 &lt;b&gt;no" in page


def test_the_list_takes_the_same_few_queries_however_long_it_is(admin_client: Client, make: Make, batch: Batch) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert admin_client.get(list_of("message")).status_code == 200
        return len(captured)

    make(batch=batch)
    few = queries()
    for number in range(20):
        make(f"p{number}@example.net", "sent", batch)
    assert queries() == few


def test_a_recipient_is_found_by_address_however_it_is_spelt(admin_client: Client, make: Make) -> None:
    make("Hana.Sato@example.net")
    make("hana@xn--r8jz45g.example")
    make("taro@example.net")
    for term, found in (
        ("hana.sato@EXAMPLE.net", ["Hana.Sato@example.net"]),
        ("hana", ["hana@xn--r8jz45g.example", "Hana.Sato@example.net"]),
        (" hana@例え.example", ["hana@xn--r8jz45g.example"]),
        ("h_na", []),
        ("example.net", []),
    ):
        assert addresses(admin_client.get(list_of("message", q=term))) == found, term


def test_a_search_that_finds_too_many_says_so(admin_client: Client, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        make(f"p{number}@example.net", "sent" if number else "failed")
    said = "Write more of the address."
    assert said not in text(admin_client.get(list_of("message", q="p")))
    monkeypatch.setattr(delivery_admin, "MOST_FOUND", 2)
    response = admin_client.get(list_of("message", q="p"))
    assert len(addresses(response)) == 2 and said in text(response)
    response = admin_client.get(list_of("message", q="p", state="failed"))
    assert addresses(response) == ["p0@example.net"] and said not in text(response)


def test_a_message_is_found_by_its_message_id(admin_client: Client, make: Make) -> None:
    message = make("hana@example.net")
    make("taro@example.net")
    for term in (message.message_id, f"<{message.message_id}>", str(message.public_id), message.public_id.hex.upper()):
        assert addresses(admin_client.get(list_of("message", q=term))) == ["hana@example.net"], term
    assert addresses(admin_client.get(list_of("message", q=uuid.uuid4()))) == []


def test_messages_are_narrowed_by_state_stream_sender_relay_and_batch(
    admin_client: Client, make: Make, batch: Batch, sender: Sender, relay: Relay
) -> None:
    for status in ("queued", "claimed", "sent", "bounced"):
        make(f"{status}@example.net", status, batch)
    make("failed@example.net", "failed")
    for asked, found in (
        ({"state": "waiting"}, ["claimed", "queued"]),
        ({"state": "failed"}, ["failed"]),
        ({"state": "bounced", "batch": batch.pk}, ["bounced"]),
        ({"state": "waiting", "batch": batch.pk}, ["claimed", "queued"]),
        ({"batch": batch.pk}, ["bounced", "claimed", "queued", "sent"]),
        ({"stream__exact": "transactional"}, ["failed"]),
        ({"stream__exact": "transactional", "state": "sent"}, []),
        ({"stream__exact": "campaign"}, ["bounced", "sent", "claimed", "queued"]),
        ({"sender__id__exact": sender.pk}, ["failed", "bounced", "sent", "claimed", "queued"]),
        ({"relay__id__exact": relay.pk}, ["failed", "bounced", "sent"]),
        ({"state": "nonsense"}, []),
        ({"batch": "nonsense"}, []),
        ({"batch": batch.pk + 1}, []),
    ):
        shown = [address.partition("@")[0] for address in addresses(admin_client.get(list_of("message", **asked)))]
        assert shown == found, asked


def test_a_filter_without_an_index_looks_through_the_newest_and_says_so(
    admin_client: Client, make: Make, batch: Batch, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("old@example.net", "sent", batch)
    make("old-failed@example.net", "failed", batch)
    for number in range(4):
        make(f"new{number}@example.net", "sent", batch)
    said = "look through the newest"
    whole = admin_client.get(list_of("message", relay__id__exact=relay.pk))
    assert len(addresses(whole)) == 6 and said not in text(whole)
    monkeypatch.setattr(delivery_admin, "WINDOW", 4)
    bounded = admin_client.get(list_of("message", relay__id__exact=relay.pk))
    assert addresses(bounded) == [f"new{number}@example.net" for number in (3, 2, 1, 0)] and said in text(bounded)
    for asked in ({}, {"state": "failed"}, {"batch": batch.pk}, {"q": "old"}):
        response = admin_client.get(list_of("message", **asked))
        assert any(address.startswith("old") for address in addresses(response)), asked
        assert said not in text(response), asked


def test_a_state_with_another_filter_looks_through_the_newest_of_that_state_and_says_so(
    admin_client: Client, make: Make, batch: Batch, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        make(f"failed{number}@example.net", "failed", batch)
        make(f"sent{number}@example.net", "sent", batch)
    said = "in this state"
    asked: dict[str, Any] = {"state": "failed", "relay__id__exact": relay.pk}
    assert len(addresses(admin_client.get(list_of("message", **asked)))) == 3
    monkeypatch.setattr(delivery_admin, "STATE_WINDOW", 2)
    bounded = admin_client.get(list_of("message", **asked))
    assert addresses(bounded) == ["failed2@example.net", "failed1@example.net"] and said in text(bounded)
    for asked in ({"state": "failed"}, {"state": "failed", "batch": batch.pk}):
        response = admin_client.get(list_of("message", **asked))
        assert len(addresses(response)) == 3 and said not in text(response), asked


@pytest.mark.parametrize("key", ["0", "nobody", "²", "99999999999999999999"])
def test_a_batch_that_is_not_there_has_no_messages_in_any_state(admin_client: Client, make: Make, batch: Batch, key: str) -> None:
    make("a@example.net", "failed", batch)
    assert addresses(admin_client.get(list_of("message", batch=key, state="failed"))) == []


def test_transactional_mail_is_found_however_much_campaign_mail_came_since(
    admin_client: Client, make: Make, batch: Batch, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("code@example.net", "sent")
    for number in range(9):
        make(f"p{number}@example.net", "sent", batch)
    monkeypatch.setattr(delivery_admin, "WINDOW", 4)
    for asked in ({}, {"state": "sent"}, {"sender__id__exact": sender.pk}):
        assert addresses(admin_client.get(list_of("message", stream__exact="transactional", **asked))) == ["code@example.net"]


# ------------------------------------------------------------------------------------------------------------ one message's page


def settled(message: Message, outcome: str, status: str, event: str, reply: str, at: Any) -> None:
    """What queue.settle() leaves behind."""
    message.attempts += 1
    Attempt.objects.create(
        message=message, number=message.attempts, relay=Relay.objects.get(), outcome=outcome, code=int(reply[:3]), enhanced="",
        reply=reply[4:], started_at=at, finished_at=at + timedelta(milliseconds=250),
    )  # fmt: skip
    Event.objects.create(message=message, type=event, at=at + timedelta(milliseconds=250), detail=reply)
    message.status, message.reply = status, reply
    message.save()


def test_a_message_tells_its_way_step_by_step(admin_client: Client, make: Make) -> None:
    message = make()
    start = message.created_at
    settled(message, "deferred", "deferred", "deferred", "451 4.7.1 try later", start + timedelta(seconds=3))
    settled(message, "sent", "sent", "sent", "250 2.0.0 ok", start + timedelta(seconds=63, milliseconds=250))
    for kind, after in (("delivered", 70), ("opened", 100), ("complained", 900)):
        Event.objects.create(message=message, type=kind, at=start + timedelta(seconds=after), detail="told by the ESP")
    steps = timeline.of(Message.objects.get())
    assert [(step.words, step.state, None if step.after is None else step.after.total_seconds()) for step in steps] == [
        ("Accepted", "accepted", None),
        ("Checked", "accepted", 0),
        ("Queued", "accepted", 0),
        ("Try 1: deferred", "deferred", 3),
        ("Try 2: accepted", "sent", 60),
        ("delivered", "delivered", 6.5),
        ("opened", "opened", 30),
        ("complained", "complained", 800),
    ]
    assert steps[3].reply == "451 4.7.1 try later" and steps[3].lasted == timedelta(milliseconds=250)
    page = text(admin_client.get(url(message)))
    for shown in (
        "Dry run",
        "250 2.0.0 ok",
        "took 0.25 s",
        "1 min 0 s later",
        "told by the ESP",
        message.message_id,
    ):
        assert shown in page, shown


@pytest.mark.parametrize("choice", routing.Choice)
def test_each_try_says_by_which_route_and_why_its_relay_was_chosen(admin_client: Client, make: Make, relay: Relay, choice: int) -> None:
    message = make()
    settled(message, "sent", "sent", "sent", "250 2.0.0 ok", message.created_at)
    route = Route.objects.get()
    Attempt.objects.update(route_key=route.pk, choice=choice, percent=30)
    said = {
        routing.Choice.ONLY: "no other relay of it is for such mail",
        routing.Choice.FIRST: "comes before the others",
        routing.Choice.MEANT: "this relay is for such mail",
        routing.Choice.SHARE: "takes 30 % of such mail",
        routing.Choice.STAND_IN: "this relay stood in for one before it",
    }
    page = text(admin_client.get(url(message)))
    assert f"Route “{route.name}”: " in page
    assert said[routing.Choice(choice)] in page
    Attempt.objects.update(route_key=0)
    assert timeline.of(message)[3].why == ""
    Attempt.objects.update(route_key=route.pk + 1)
    assert "deleted since" in timeline.of(message)[3].why


def test_a_bounce_is_told_once_with_what_follows(make: Make) -> None:
    message = make()
    settled(message, "refused", "bounced", "bounced", "550 5.1.1 no such user", message.created_at)
    steps = timeline.of(message)
    assert [(step.words, step.state) for step in steps[3:]] == [("Try 1: refused", "bounced")]
    assert "nothing is sent there any more" in steps[3].detail


def test_what_is_to_come_is_told_and_what_keeps_it(make: Make, batch: Batch, relay: Relay, sender: Sender) -> None:
    def ahead(message: Message) -> tuple[str, str, bool]:
        step = timeline.of(Message.objects.select_related("batch", "sender").get(pk=message.pk))[-1]
        assert step.ahead
        return step.words, step.detail, step.after is not None

    waits, later, held = make(), make("later@example.net", "deferred", attempts=2), make("held@example.net", batch=batch)
    Message.objects.filter(pk=later.pk).update(next_attempt_at=NOW() + timedelta(minutes=5))
    assert ahead(waits) == ("Waits for its turn", "No worker is running that would send it.", False)
    for name in ("transactional", "bulk"):
        Worker.objects.create(node="mx1", queue=name, started_at=NOW(), beat_at=NOW())
    takes = "Dry run takes it next: It is the first that takes such mail."
    assert ahead(waits) == ("Waits for its turn", takes, False)
    assert ahead(later) == ("Next try", takes, True)
    batch.pause()
    assert ahead(held)[1] == "Its batch is paused."
    relay.pause()
    assert ahead(waits)[1] == "All relays of the route “Everything” are paused."
    sender.disable()
    assert ahead(waits)[1] == "The sender news@tea.example is disabled."
    assert ahead(make("now@example.net", "claimed", relay=relay))[0] == "being handed over"


@pytest.mark.parametrize("status", Message.Status.values)
def test_every_state_is_told_in_words(admin_client: Client, make: Make, status: str) -> None:
    message = make(status=status, reply="because")
    said = timeline.words(message)
    assert said.endswith((".", "because")) and escape(said) in text(admin_client.get(url(message)))


def test_the_door_is_told_by_whoever_made_the_mail(admin_client: Client, make: Make, content: Content) -> None:
    from transactional.models import Submission

    message = make()
    assert timeline.origin(message) is None
    submission = Submission.objects.create(content=content, via="api", accepted_at=NOW())
    message = Message.objects.get()
    assert timeline.origin(message) == submission
    assert f'Submission: <a href="{reverse("admin:transactional_submission_change", args=[submission.pk])}"' in text(
        admin_client.get(url(message))
    )


def test_a_messages_page_takes_a_bounded_number_of_queries(admin_client: Client, make: Make, batch: Batch) -> None:
    message = make(batch=batch)
    for number in range(30):
        Event.objects.create(message=message, type="opened", at=NOW() + timedelta(seconds=number))
    with CaptureQueriesContext(connection) as captured:
        admin_client.get(url(message))
    assert len(captured) < 40


# ------------------------------------------------------------------------------------------------------------- what a mail says


def test_what_a_mail_says_is_shown_to_who_may_read_it(client: Client, make: Make, staff: Callable[..., User]) -> None:
    message = make()
    staff("view_message", "view_body")
    assert "4711" not in text(client.get(url(message))) and client.get(url(message, "show")).status_code == 403
    page = text(client.post(url(message, "read"), follow=True))
    assert f'<iframe sandbox src="{url(message, "show")}"' in page and "4711-X" in page
    framed = client.get(url(message, "show"))
    assert "Dear 花, the code is 4711-X." in text(framed)
    assert framed["Content-Security-Policy"].startswith("sandbox;") and "https:" not in framed["Content-Security-Policy"]
    source = client.get(url(message, "source"))
    assert source["Content-Type"] == "message/rfc822" and source["Content-Disposition"].startswith("attachment")
    assert f"Message-ID: <{message.message_id}>".encode() in source.content


def test_without_the_permission_no_page_lets_a_word_out(client: Client, make: Make, staff: Callable[..., User]) -> None:
    message = make()
    staff("view_message", "change_message", "view_batch", "view_event", "add_suppression")
    page = text(client.get(url(message)))
    assert "4711" not in page and "Hidden" in page and "<iframe" not in page
    for name in ("show", "source"):
        assert client.get(url(message, name)).status_code == 403
    assert client.post(url(message, "read")).status_code == 403
    for path in (list_of("message"), url(message, "history"), url(message, "withdraw")):
        assert "4711" not in text(client.get(path))


def test_words_that_are_forgotten_are_told_to_be(admin_client: Client, make: Make, content: Content) -> None:
    message = make(status="failed")
    Content.objects.update(html="")
    page = text(admin_client.post(url(message, "read"), follow=True))
    assert "have been forgotten" in page and "Send again" not in page
    assert admin_client.get(url(message, "source")).status_code == 404
    admin_client.post(url(message, "resend"))
    assert Message.objects.get().status == "failed"


def test_a_finished_mail_is_shown_with_its_attachments(admin_client: Client, make: Make) -> None:
    raw = (
        "From: news@tea.example\r\nSubject: =?utf-8?q?R=C3=A9sum=C3=A9?=\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHello <you>\r\n'
        '--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="bill.pdf"\r\n\r\nPDF\r\n--b--\r\n'
    )
    Content.objects.update(html="", raw=raw.encode())
    page = text(admin_client.post(url(make(), "read"), follow=True))
    for shown in ("Résumé", "Hello &lt;you&gt;", "bill.pdf"):
        assert shown in page, shown


def test_a_mail_that_cannot_be_made_says_why(admin_client: Client, make: Make) -> None:
    Content.objects.update(html="{% if %}")
    message = make()
    assert "Line 1 of the template" in text(admin_client.post(url(message, "read"), follow=True))
    assert admin_client.get(url(message, "source")).status_code == 404


# ------------------------------------------------------------------------------------------------------------ deeds on messages


def test_what_failed_is_sent_again_after_a_question(admin_client: Client, make: Make, batch: Batch) -> None:
    message = make(status="unknown", batch=batch)
    Batch.objects.update(status="done")
    page = text(admin_client.get(url(message, "resend")))
    assert "twice" in page
    message.refresh_from_db()
    assert message.status == "unknown"
    response = admin_client.post(url(message, "resend"), {"to": "same"}, follow=True)
    assert "It is queued once more." in text(response) and "Sent again by staff." in text(response)
    message.refresh_from_db()
    batch.refresh_from_db()
    assert (message.status, batch.status, batch.waiting, batch.unknown) == ("queued", "running", 1, 0)
    assert LogEntry.objects.get().object_id == str(message.pk)
    assert "Nothing was done" in text(admin_client.post(url(message, "resend"), follow=True))


@pytest.mark.parametrize("status", sorted(set(Message.Status.values) - {"failed", "unknown"}))
def test_nothing_else_of_a_campaign_is_sent_again(admin_client: Client, make: Make, batch: Batch, status: str) -> None:
    message = make(status=status, batch=batch)
    assert url(message, "resend") not in text(admin_client.get(url(message)))
    admin_client.post(url(message, "resend"), {"to": "same"})
    message.refresh_from_db()
    assert message.status == status and Message.objects.count() == 1


@pytest.mark.parametrize("status", ["sent", "delivered", "bounced", "canceled"])
def test_a_single_mail_that_has_left_goes_again_as_a_copy(admin_client: Client, make: Make, status: str) -> None:
    message = make(status=status)
    assert "a Message-ID of its own" in text(admin_client.get(url(message, "resend")))
    page = text(admin_client.post(url(message, "resend"), {"to": "same"}, follow=True))
    copy = Message.objects.exclude(pk=message.pk).get()
    assert f"A copy of the mail to {message.address}, sent by staff." in page
    assert (copy.address, copy.status, copy.content_id, copy.data) == (message.address, "queued", message.content_id, message.data)
    assert copy.message_id != message.message_id
    message.refresh_from_db()
    assert message.status == status and "A copy to" in text(admin_client.get(url(message)))


@pytest.mark.parametrize("status", ["queued", "deferred", "claimed"])
def test_what_is_still_on_its_way_is_not_sent_again(admin_client: Client, make: Make, status: str) -> None:
    message = make(status=status)
    assert url(message, "resend") not in text(admin_client.get(url(message)))
    admin_client.post(url(message, "resend"), {"to": "same"})
    assert Message.objects.count() == 1


def test_a_copy_goes_to_oneself_or_to_another(admin_client: Client, make: Make) -> None:
    message = make(status="failed")
    admin_client.post(url(message, "resend"), {"to": "own"})
    admin_client.post(url(message, "resend"), {"to": "other", "address": "Desk@Tea.example"})
    assert set(Message.objects.exclude(pk=message.pk).values_list("address", flat=True)) == {"admin@example.com", "Desk@tea.example"}
    assert "mail address" in text(admin_client.post(url(message, "resend"), {"to": "other", "address": "nobody@"})).lower()
    message.refresh_from_db()
    assert Message.objects.count() == 3 and message.status == "failed"


def test_elsewhere_it_is_sent_only_by_who_may_read_it(client: Client, make: Make, staff: Callable[..., User]) -> None:
    message = make(status="failed")
    staff("view_message", "change_message")
    assert "another address" not in text(client.get(url(message, "resend")))
    client.post(url(message, "resend"), {"to": "other", "address": "thief@example.org"})
    assert Message.objects.count() == 1


def test_each_look_at_a_mail_is_recorded_and_told(client: Client, make: Make, staff: Callable[..., User]) -> None:
    message = make()
    reader = staff("view_message", "view_body")
    assert client.get(url(message, "read")).status_code == 405
    page = text(client.post(url(message, "read"), follow=True))
    entry = LogEntry.objects.get()
    assert entry.user == reader and entry.object_id == str(message.pk)
    assert "Read what it says." in page and "What staff did with it" in page
    # For a while it is open to who asked, and to nobody else.
    assert client.get(url(message, "source")).status_code == 200
    session = client.session
    session[pages.OPENED] = {str(message.pk): (NOW() - pages.OPEN_FOR - timedelta(seconds=1)).timestamp()}
    session.save()
    assert client.get(url(message, "source")).status_code == 403
    assert "4711" not in text(client.get(url(message)))


def test_what_failed_of_a_withdrawn_batch_stays_so(admin_client: Client, make: Make, batch: Batch) -> None:
    message = make(status="failed", batch=batch)
    Batch.objects.update(status="canceled")
    assert url(message, "resend") not in text(admin_client.get(url(message)))
    admin_client.post(url(message, "resend"))
    message.refresh_from_db()
    assert message.status == "failed"


def test_a_waiting_mail_is_withdrawn_after_a_question(admin_client: Client, make: Make, batch: Batch) -> None:
    message = make(batch=batch)
    assert "will never be sent" in text(admin_client.get(url(message, "withdraw")))
    page = text(admin_client.post(url(message, "withdraw"), follow=True))
    assert "Withdrawn: it is not sent." in page and "Staff withdrew it before it left." in page
    message.refresh_from_db()
    batch.refresh_from_db()
    assert (message.status, batch.waiting, batch.canceled, batch.status) == ("canceled", 0, 1, "done")
    assert LogEntry.objects.get().user.username == "admin"
    assert "Nothing was done" in text(admin_client.post(url(message, "withdraw"), follow=True))


@pytest.mark.parametrize("status", ["claimed", "sent", "failed"])
def test_what_no_longer_waits_is_not_withdrawn(admin_client: Client, make: Make, status: str) -> None:
    message = make(status=status)
    assert url(message, "withdraw") not in text(admin_client.get(url(message)))
    admin_client.post(url(message, "withdraw"))
    message.refresh_from_db()
    assert message.status == status


def chosen(*messages: Message, **more: str) -> dict[str, Any]:
    return {"action": "send_again", "_selected_action": [message.pk for message in messages], **more}


def test_many_are_sent_again_after_being_told_how_many(admin_client: Client, make: Make, batch: Batch) -> None:
    failed, unknown, sent = (
        make("a@example.net", "failed", batch),
        make("b@example.net", "unknown", batch),
        make("c@example.net", "sent", batch),
    )
    page = text(admin_client.post(list_of("message"), chosen(failed, unknown, sent)))
    assert "Send 2 mails again?" in page
    assert "Of 1 nobody knows" in page
    assert not Message.objects.filter(status="queued").exists()
    page = text(admin_client.post(list_of("message"), chosen(failed, unknown, sent, confirmed="1"), follow=True))
    assert "2 mails are queued once more." in page
    assert dict(Message.objects.values_list("address", "status")) == {
        "a@example.net": "queued", "b@example.net": "queued", "c@example.net": "sent",
    }  # fmt: skip
    assert LogEntry.objects.count() == 2
    none = text(admin_client.post(list_of("message"), chosen(sent)))
    assert "None of those chosen can be sent again" in none and 'name="confirmed"' not in none


def test_all_that_a_filter_finds_are_sent_again(admin_client: Client, make: Make, batch: Batch) -> None:
    for number in range(60):
        make(f"p{number}@example.net", "failed", batch)
    other = make("other@example.net", "failed")
    path = list_of("message", batch=batch.pk, state="failed")
    first = chosen(Message.objects.filter(batch=batch).first(), select_across="1")
    page = admin_client.post(path, first)
    assert "Send 60 mails again?" in text(page)
    # The question leads back to the same filter.
    assert f'action="{path.replace("&", "&amp;")}"' in text(page)
    admin_client.post(path, {**first, "confirmed": "1"})
    assert Message.objects.filter(status="queued").count() == 60
    other.refresh_from_db()
    assert other.status == "failed"


def test_many_are_withdrawn_after_being_told_how_many(admin_client: Client, make: Make, batch: Batch) -> None:
    waiting, sent = [make("a@example.net", batch=batch), make("b@example.net", "deferred")], make("c@example.net", "sent")
    asked = {**chosen(*waiting, sent), "action": "withdraw_them"}
    assert "Withdraw 2 mails?" in text(admin_client.post(list_of("message"), asked))
    assert not Message.objects.filter(status="canceled").exists()
    assert "2 mails are withdrawn." in text(admin_client.post(list_of("message"), {**asked, "confirmed": "1"}, follow=True))
    assert dict(Message.objects.values_list("address", "status")) == {
        "a@example.net": "canceled", "b@example.net": "canceled", "c@example.net": "sent",
    }  # fmt: skip
    assert LogEntry.objects.count() == 2
    assert "None of those chosen waits" in text(admin_client.post(list_of("message"), asked))


# --------------------------------------------------------------------------------------------------------------- taken away


def test_the_list_is_saved_as_a_table_without_a_word_of_the_mails(admin_client: Client, make: Make) -> None:
    make("a@example.net", "failed", reply="=550 no")
    message = make("b@example.net", "sent")
    page = text(admin_client.get(list_of("message", state="sent")))
    assert reverse("admin:delivery_message_export") + "?state=sent" in page
    path = reverse("admin:delivery_message_export")
    assert "1 message, as the list shows it." in text(admin_client.get(f"{path}?state=sent"))
    asked = {"format": "csv", "columns": export.USUAL}
    lines = b"".join(admin_client.post(f"{path}?state=sent", asked)).decode().splitlines()
    assert len(lines) == 2 and "b@example.net" in lines[1] and message.message_id in lines[1] and "4711" not in lines[1]
    assert '"\'=550 no"' in b"".join(admin_client.post(path, asked)).decode()


def test_a_table_has_the_columns_that_were_chosen_as_a_workbook_too(admin_client: Client, make: Make, batch: Batch) -> None:
    message = make("a@example.net", "failed", reply="=550 no", batch=batch)
    path = reverse("admin:delivery_message_export")
    response = admin_client.post(path, {"format": "xlsx", "columns": ["batch", "reply", "tries", "accepted", "id"]})
    assert "messages.xlsx" in response["Content-Disposition"]
    (book,) = openpyxl.load_workbook(io.BytesIO(b"".join(response))).worksheets
    heading, row = book.iter_rows(values_only=True)
    assert heading == ("accepted at", "tries", "last reply", "batch", "public id")
    assert row[1:] == (0, "=550 no", batch.name, str(message.public_id)) and isinstance(row[0], datetime)
    for wrong in ({"format": "xlsx"}, {"format": "pdf", "columns": ["id"]}, {"format": "csv", "columns": ["html"]}):
        response = admin_client.post(path, wrong)
        assert response.status_code == 200 and "errorlist" in text(response)


def test_mails_are_saved_as_files_and_each_look_is_recorded(admin_client: Client, make: Make) -> None:
    mails = [make("a@example.net", "sent"), make("b@example.net")]
    asked = {"action": "save_as_files", "_selected_action": [mail.pk for mail in mails]}
    response = admin_client.post(list_of("message"), asked)
    archive = zipfile.ZipFile(io.BytesIO(b"".join(response)))
    assert archive.testzip() is None and len(archive.namelist()) == 2
    for mail, name in zip(mails, archive.namelist(), strict=True):
        assert str(mail.public_id) in name and f"Message-ID: <{mail.message_id}>".encode() in archive.read(name)
    assert LogEntry.objects.count() == 2
    Content.objects.update(html="", text="", raw=None)
    forgotten = zipfile.ZipFile(io.BytesIO(b"".join(admin_client.post(list_of("message"), asked))))
    assert all(name.endswith(".txt") for name in forgotten.namelist())


def test_only_readers_save_mails_as_files(client: Client, make: Make, staff: Callable[..., User]) -> None:
    message = make()
    staff("view_message", "change_message")
    assert "save_as_files" not in text(client.get(list_of("message")))
    response = client.post(list_of("message"), {"action": "save_as_files", "_selected_action": [message.pk]})
    assert response["Content-Type"] != "application/zip" and not LogEntry.objects.exists()


# ------------------------------------------------------------------------------------------------------- by day and by subject


def test_messages_are_found_by_day(admin_client: Client, make: Make) -> None:
    now = NOW()
    for days in (9, 5, 1):
        made = make(f"p{days}@example.net")
        Message.objects.filter(pk=made.pk).update(created_at=now - timedelta(days=days))
    day = timezone.localdate(now - timedelta(days=5)).isoformat()

    def found(**asked: str) -> set[str]:
        page = text(admin_client.get(list_of("message", **asked)))
        return set(re.findall(r"p\d@example.net", page))

    assert found(since=day) == {"p5@example.net", "p1@example.net"}
    assert found(until=day) == {"p9@example.net", "p5@example.net"}
    assert found(since=day, until=day) == {"p5@example.net"}
    assert found(since=day, until=day, state="waiting") == {"p5@example.net"}
    assert found(since=day, q="p") == {"p5@example.net", "p1@example.net"}
    assert found(since="nonsense") == {"p9@example.net", "p5@example.net", "p1@example.net"}


def test_messages_are_found_by_a_part_of_their_subject(admin_client: Client, make: Make, batch: Batch, sender: Sender) -> None:
    make("single@example.net")
    make("many@example.net", batch=batch)
    other = make_content(sender, subject="【緑茶堂】ご注文を承りました")
    make("order@example.net", content=other)
    page = text(admin_client.get(list_of("message", subject="ご注文")))
    assert "order@example.net" in page and "single@example.net" not in page
    subject = Content.objects.exclude(pk=other.pk).first().subject
    page = text(admin_client.get(list_of("message", subject=subject[1:].upper())))
    assert "order@example.net" not in page and "single@example.net" in page and "many@example.net" in page


def test_the_edge_of_a_moment_is_found_in_rows_with_gaps(make: Make) -> None:
    now = NOW()
    keys = [make(f"p{number}@example.net").pk for number in range(12)]
    for number, pk in enumerate(keys):
        Message.objects.filter(pk=pk).update(created_at=now + timedelta(minutes=number))
    Message.objects.filter(pk__in=keys[3:7]).delete()
    for number, before in ((1, 0), (2, 1), (7, 2), (11, 10)):
        assert keys[before] < search.edge(Message, "created_at", now + timedelta(minutes=number)) <= keys[number]
    assert keys[2] < search.edge(Message, "created_at", now + timedelta(minutes=5)) <= keys[7]
    assert search.edge(Message, "created_at", now + timedelta(minutes=99)) > keys[11]


def test_who_may_only_look_does_nothing(client: Client, make: Make, batch: Batch, staff: Callable[..., User]) -> None:
    failed, waiting = make("a@example.net", "failed", batch), make("b@example.net", batch=batch)
    staff("view_message", "view_batch", "view_suppression", "view_worker")
    for name in ("resend", "withdraw"):
        for message in (failed, waiting):
            assert client.post(url(message, name)).status_code == 403
            assert url(message, name) not in text(client.get(url(message)))
    for name in ("pause", "resume", "cancel"):
        assert client.post(url(batch, name)).status_code == 403
        assert url(batch, name) not in text(client.get(url(batch)))
    assert "send_again" not in text(client.get(list_of("message")))
    client.post(list_of("message"), chosen(failed, confirmed="1"))
    suppression = Suppression.objects.create(address="x@example.net")
    assert client.get(reverse("admin:delivery_suppression_add")).status_code == 403
    assert client.post(reverse("admin:delivery_suppression_add"), {"addresses": "y@example.net", "scope": "all"}).status_code == 403
    assert client.post(url(suppression, "delete"), {"post": "yes"}).status_code == 403
    assert set(Message.objects.values_list("status", flat=True)) == {"failed", "queued"}
    assert Suppression.objects.count() == 1 and not LogEntry.objects.exists()


def test_who_may_not_look_sees_nothing(client: Client, make: Make, batch: Batch, staff: Callable[..., User]) -> None:
    message = make(batch=batch)
    staff("view_event")
    paths = [list_of("message"), url(message), url(message, "show"), url(message, "source"), list_of("batch"), url(batch)]
    paths += [url(batch, "progress"), list_of("suppression"), reverse("admin:delivery_suppression_export"), list_of("worker")]
    paths += [reverse("admin:delivery_message_export")]
    for path in paths:
        assert client.get(path).status_code == 403, path


def test_strangers_are_sent_to_the_log_in(client: Client, make: Make, batch: Batch) -> None:
    message = make(batch=batch)
    paths = [url(message, name) for name in ("change", "show", "source", "resend", "withdraw")]
    paths += [url(batch, name) for name in ("change", "pause", "resume", "cancel", "progress")] + [list_of("worker")]
    for path in paths:
        for method in (client.get, client.post):
            response = method(path)
            assert response.status_code == 302 and "/login/" in response["Location"], path


def test_deeds_want_the_csrf_token(make: Make, batch: Batch, admin_user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    message = make(status="failed", batch=batch)
    for path in (url(message, "resend"), url(batch, "pause"), url(batch, "cancel"), reverse("admin:delivery_suppression_add")):
        assert client.post(path).status_code == 403
    for path in (url(batch, "pause"), url(batch, "resume")):
        assert client.get(path).status_code == 405


# -------------------------------------------------------------------------------------------------------------------- batches


def test_batches_tell_their_counts(admin_client: Client, batch: Batch) -> None:
    Batch.objects.update(sent=90, delivered=5, bounced=3, failed=2)
    page = text(admin_client.get(list_of("batch")))
    for shown in ("Spring", "100 %", "95", '<rect class="bounced"'):
        assert shown in page, shown


OFFERED = {"running": {"pause", "cancel"}, "paused": {"resume", "cancel"}, "canceled": set(), "done": set()}


@pytest.mark.parametrize("status", OFFERED)
def test_a_batch_offers_only_what_is_possible(admin_client: Client, batch: Batch, status: str) -> None:
    Batch.objects.update(status=status, finished_at=NOW(), waiting=1)
    page = text(admin_client.get(url(batch)))
    assert {deed for deed in ("pause", "resume", "cancel") if f'"{url(batch, deed)}"' in page} == OFFERED[status]


def test_a_batch_is_paused_resumed_and_withdrawn(admin_client: Client, make: Make, batch: Batch, asked: list[Any]) -> None:
    make(batch=batch)
    make("b@example.net", "sent", batch)
    for deed, status in (("pause", "paused"), ("resume", "running")):
        admin_client.post(url(batch, deed))
        batch.refresh_from_db()
        assert batch.status == status
    assert "Nothing was done" in text(admin_client.post(url(batch, "resume"), follow=True))
    page = text(admin_client.get(url(batch, "cancel")))
    assert "<strong>1 mail</strong> that waits will never be sent." in page and "1 has left already" in page
    batch.refresh_from_db()
    assert batch.status == "running"
    admin_client.post(url(batch, "cancel"))
    batch.refresh_from_db()
    assert batch.status == "canceled" and ("mailhub.delivery.tasks.withdraw", (batch.pk,)) in asked
    assert "Nothing was done" in text(admin_client.get(url(batch, "cancel"), follow=True))
    assert LogEntry.objects.count() == 3


def test_a_batch_leads_to_its_messages_by_state(admin_client: Client, make: Make, batch: Batch) -> None:
    make("a@example.net", "bounced", batch)
    make("b@example.net", "claimed", batch)
    page = text(admin_client.get(url(batch)))
    for state, found in (("bounced", ["a@example.net"]), ("waiting", ["b@example.net"])):
        path = list_of("message", batch=batch.pk, state=state)
        assert path.replace("&", "&amp;") in page
        assert addresses(admin_client.get(path)) == found


def test_a_batchs_page_is_told_how_it_goes(admin_client: Client, make: Make, batch: Batch) -> None:
    make(batch=batch)
    said = admin_client.get(url(batch, "progress"), {"through": "0", "at": "1"}).json()
    assert (said["running"], said["through"], said["status"]) == (True, 0, "running")
    assert "0 of 1" in said["html"] and "No worker is running" in said["html"]


# --------------------------------------------------------------------------------------------------------------------- events


def test_events_are_read_and_found_by_recipient(admin_client: Client, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("hana@example.net", "taro@example.net"):
        Event.objects.create(message=make(address), type="opened", at=NOW(), detail="once")
    page = text(admin_client.get(list_of("event")))
    assert "hana@example.net" in page and "opened" in page and url(Message.objects.get(address="hana@example.net")) in page
    found = admin_client.get(list_of("event", q="hana"))
    assert [event.message.address for event in found.context["cl"].result_list] == ["hana@example.net"]
    assert "Write more of the address." not in text(found)
    monkeypatch.setattr(delivery_admin, "MOST_FOUND", 1)
    assert "Write more of the address." in text(admin_client.get(list_of("event", q="hana")))
    event = Event.objects.first()
    assert admin_client.get(url(event)).status_code == 200
    assert admin_client.post(url(event), {}).status_code == 403
    assert admin_client.post(url(event, "delete"), {"post": "yes"}).status_code == 403


def test_events_of_a_type_are_looked_for_among_the_newest(admin_client: Client, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    message = make()
    for kind in ("opened", "clicked", "clicked", "clicked"):
        Event.objects.create(message=message, type=kind, at=NOW())
    monkeypatch.setattr(delivery_admin, "WINDOW", 2)
    found = admin_client.get(list_of("event", type__exact="clicked"))
    assert len(found.context["cl"].result_list) == 2 and text(found).count('<span class="badge clicked">') == 2
    none = admin_client.get(list_of("event", type__exact="opened"))
    assert not none.context["cl"].result_list and "looks through the newest" in text(none)


# --------------------------------------------------------------------------------------------------------------- suppressions


def test_pasted_addresses_are_suppressed_as_they_are_kept(admin_client: Client) -> None:
    Suppression.objects.create(address="known@example.net", reason="bounce", detail="550")
    Suppression.objects.create(address="half@example.net", reason="unsubscribe", scope="campaign")
    pasted = "Hana@Example.NET, taro@例え.example;\n\n  known@example.net half@example.net\thana@example.net"
    page = text(
        admin_client.post(
            reverse("admin:delivery_suppression_add"), {"addresses": pasted, "scope": "all", "detail": "by phone"}, follow=True
        )
    )
    for shown in ("2 addresses are suppressed now.", "1 address was suppressed for less", "1 address was suppressed already."):
        assert shown in page, shown
    assert set(Suppression.objects.values_list("address", "scope", "reason", "detail")) == {
        ("hana@example.net", "all", "manual", "by phone"),
        ("taro@xn--r8jz45g.example", "all", "manual", "by phone"),
        ("known@example.net", "all", "bounce", "550"),
        ("half@example.net", "all", "unsubscribe", ""),
    }
    assert LogEntry.objects.count() == 2


def test_bad_addresses_are_named_by_line_and_nothing_is_half_done(admin_client: Client) -> None:
    pasted = "good@example.net\nbad@@example.net\nfine@example.net, nonsense"
    page = text(admin_client.post(reverse("admin:delivery_suppression_add"), {"addresses": pasted, "scope": "all"}))
    assert "Line 2: “bad@@example.net”" in page and "Line 3: “nonsense”" in page and "good@example.net" in page
    assert not Suppression.objects.exists()
    many = text(admin_client.post(reverse("admin:delivery_suppression_add"), {"addresses": "x\n" * 50, "scope": "all"}))
    assert "Line 20:" in many and "Line 21:" not in many and "And 30 more." in many


def test_campaigns_alone_can_be_kept_back(admin_client: Client, make: Make) -> None:
    Suppression.objects.create(address="all@example.net")
    admin_client.post(reverse("admin:delivery_suppression_add"), {"addresses": "all@example.net a@example.net", "scope": "campaign"})
    assert dict(Suppression.objects.values_list("address", "scope")) == {"all@example.net": "all", "a@example.net": "campaign"}


def test_more_addresses_than_a_group_are_suppressed(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    monkeypatch.setattr(suppressions, "GROUP", 3)
    Suppression.objects.create(address="p4@example.net")
    added = suppressions.add([f"p{number}@example.net" for number in range(10)], "all", "")
    assert (len(added.new), added.widened, added.known) == (9, 0, 1)
    assert Suppression.objects.count() == 10


def test_a_message_leads_to_the_suppression_of_its_address(admin_client: Client, make: Make) -> None:
    message = make("hana+news@example.net")
    page = text(admin_client.get(url(message)))
    path = reverse("admin:delivery_suppression_add") + "?address=hana%2Bnews%40example.net"
    assert f'"{path}"' in page
    assert "hana+news@example.net</textarea>" in text(admin_client.get(path))
    suppression = Suppression.objects.create(address="hana+news@example.net", reason="complaint")
    page = text(admin_client.get(url(message)))
    assert "This address is suppressed" in page and url(suppression) in page and path not in page


@pytest.mark.parametrize(("reason", "warning"), [("complaint", "called a mail spam"), ("bounce", "does not exist"), ("manual", "")])
def test_a_suppression_is_removed_after_a_question_that_warns(admin_client: Client, reason: str, warning: str) -> None:
    suppression = Suppression.objects.create(address="hana@example.net", reason=reason)
    page = text(admin_client.get(url(suppression, "delete")))
    assert "may be mailed again" in page and warning in page and ('class="obstacle"' in page) == bool(warning)
    assert Suppression.objects.exists()
    page = text(admin_client.post(url(suppression, "delete"), {"post": "yes"}, follow=True))
    assert Suppression.objects.exists() and "Say why" in page
    admin_client.post(url(suppression, "delete"), {"post": "yes", "because": "she wrote from it"})
    assert not Suppression.objects.exists()
    entry = LogEntry.objects.get()
    assert (entry.object_repr, entry.get_change_message()) == ("hana@example.net", "she wrote from it")


def test_many_suppressions_are_removed_after_a_question_that_warns(admin_client: Client) -> None:
    rows = [Suppression.objects.create(address=f"{reason}@example.net", reason=reason) for reason in ("complaint", "manual")]
    asked = {"action": "delete_selected", "_selected_action": [row.pk for row in rows]}
    page = text(admin_client.post(list_of("suppression"), asked))
    assert "Remove 2 suppressions?" in page and "called a mail spam" in page and "complaint@example.net" in page
    admin_client.post(list_of("suppression"), {**asked, "post": "yes", "because": "a test"})
    assert not Suppression.objects.exists()
    assert [entry.get_change_message() for entry in LogEntry.objects.all()] == ["a test"] * 2


def test_a_file_of_addresses_is_suppressed_until_a_day(admin_client: Client) -> None:
    path, file = reverse("admin:delivery_suppression_add"), io.BytesIO(b"email,why\na@example.net,x\n")
    file.name = "list.csv"
    past = text(admin_client.post(path, {"scope": "all", "addresses": "b@example.net", "until": "2020-01-01"}))
    assert "This day has passed" in past and "Enter addresses, or choose a file." in text(admin_client.post(path, {"scope": "all"}))
    day = timezone.localdate() + timedelta(days=3)
    admin_client.post(path, {"scope": "all", "addresses": "b@example.net", "file": file, "until": str(day)})
    rows = Suppression.objects.order_by("address")
    assert [row.address for row in rows] == ["a@example.net", "b@example.net"]
    # To its last moment.
    assert {timezone.localtime(row.expires_at).date() for row in rows} == {day + timedelta(days=1)}
    Suppression.objects.filter(address="a@example.net").update(expires_at=timezone.now() - timedelta(days=1))
    assert addresses(admin_client.get(list_of("suppression", in_force="yes"))) == ["b@example.net"]
    assert addresses(admin_client.get(list_of("suppression", in_force="no"))) == ["a@example.net"]


def test_suppressions_are_found_by_address_and_exported_as_they_are_listed(admin_client: Client) -> None:
    for address, reason in (("hana@example.net", "bounce"), ("taro@example.net", "manual"), ("hanako@example.net", "manual")):
        Suppression.objects.create(address=address, reason=reason, detail="=1+1")
    assert addresses(admin_client.get(list_of("suppression", q="HANA"))) == ["hanako@example.net", "hana@example.net"]
    page = text(admin_client.get(list_of("suppression", q="hana", reason__exact="bounce")))
    path = reverse("admin:delivery_suppression_export") + "?q=hana&reason__exact=bounce"
    assert path.replace("&", "&amp;") in page
    response: Any = admin_client.get(path)
    rows = list(csv.reader(io.StringIO(response.getvalue().decode("utf-8-sig"))))
    assert [row[:4] for row in rows[1:]] == [["hana@example.net", "all mail", "the address does not exist", "'=1+1"]]


def test_what_stands_in_a_suppression_is_not_changed(admin_client: Client) -> None:
    suppression = Suppression.objects.create(address="hana@example.net", reason="bounce")
    assert 'name="_save"' not in text(admin_client.get(url(suppression)))
    assert admin_client.post(url(suppression), {"address": "x@example.net"}).status_code == 403


# -------------------------------------------------------------------------------------------------------------------- workers


def test_the_page_says_what_to_do_when_no_worker_lives(admin_client: Client, relay: Relay) -> None:
    page = text(admin_client.get(list_of("worker")))
    assert "No worker is running" in page and "manage.py worker" in page
    long_ago = NOW() - timedelta(hours=1)
    Worker.objects.create(node="mx1:1", queue="bulk", started_at=long_ago, beat_at=long_ago)
    page = text(admin_client.get(list_of("worker")))
    assert "No worker is running" in page and "silent" in page and "1 h 0 min ago" in page


def test_the_page_names_queues_that_nobody_serves(admin_client: Client, make: Make) -> None:
    for name in ("bulk", "maintenance"):
        Worker.objects.create(node="mx1:1", queue=name, started_at=NOW(), beat_at=NOW(), restarts=3, stopping=name == "bulk")
    make(status="claimed")
    page = text(admin_client.get(list_of("worker")))
    assert "Nobody serves the queue Transactional mail." in page
    assert "No worker is running" not in page
    for shown in ("mx1:1", "stopping", "at work", "Dry run"):
        assert shown in page, shown


# ----------------------------------------------------------------------------------------------------------------- our policy


def test_pages_with_nothing_on_them_open(admin_client: Client) -> None:
    for name in ("message", "batch", "event", "suppression", "worker"):
        assert admin_client.get(list_of(name)).status_code == 200


def test_pages_obey_our_policy(admin_client: Client, make: Make, batch: Batch) -> None:
    message = make("a@example.net", "failed", batch)
    suppression = Suppression.objects.create(address="x@example.net")
    paths = [url(message), url(message, "resend"), url(make(batch=batch), "withdraw"), url(batch), url(batch, "cancel")]
    paths += [list_of("message"), list_of("batch"), list_of("event"), list_of("suppression"), list_of("worker")]
    paths += [reverse("admin:delivery_suppression_add"), url(suppression), url(suppression, "delete")]
    for path in paths:
        response = admin_client.get(path)
        assert response.status_code == 200, path
        for inline in (" style=", "<style", " onclick", "javascript:"):
            assert inline not in text(response), (path, inline)


# -------------------------------------------------------------------------------------------------- ten million rows in small

ROWS = """
INSERT INTO delivery_message (
    public_id, stream, status, batch_id, content_id, sender_id, relay_id, address, data,
    next_attempt_at, expires_at, attempts, lost_leases, repeated, reply, created_at
)
SELECT
    gen_random_uuid(),
    CASE WHEN n %% 5 = 0 THEN 'transactional' ELSE 'campaign' END,
    CASE WHEN n %% 50 = 1 THEN 'bounced' WHEN n %% 1000 = 2 THEN 'failed' WHEN n > 49900 THEN 'queued' ELSE 'sent' END,
    CASE WHEN n %% 5 = 0 THEN NULL ELSE %(batch)s + n / 2500 END,
    CASE WHEN n %% 5 = 0 THEN %(content)s + n / 5 ELSE %(content)s END,
    CASE WHEN n %% 100 = 0 THEN %(rare)s ELSE %(sender)s END,
    %(relay)s, 'p' || n || '@example.net', '{}', now(), now(), 1, 0, FALSE, '', now()
FROM generate_series(1, 50000) AS n
"""


@pytest.fixture
def plenty(sender: Sender, relay: Relay, content: Content, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """50,000 messages, and a window and a count that are as small beside them as the real ones beside ten million."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite explains otherwise")
    monkeypatch.setattr(delivery_admin, "WINDOW", 500)
    monkeypatch.setattr(EstimatingPaginator, "LIMIT", 500)
    rare = Sender.objects.create(email="rare@tea.example")
    batches = Batch.objects.bulk_create(Batch(name=f"B{n}", content=content, sender=sender, filled=True) for n in range(21))
    Content.objects.bulk_create((Content(subject="x", text="x", from_email="news@tea.example") for _ in range(10_000)), batch_size=2_000)
    keys = {"sender": sender.pk, "rare": rare.pk, "relay": relay.pk, "batch": batches[0].pk, "content": content.pk}
    with connection.cursor() as cursor:
        cursor.execute(ROWS, keys)
        cursor.execute(
            "INSERT INTO delivery_event (message_id, type, at, recorded_at, detail)"
            " SELECT id, CASE WHEN id %% 100 = 0 THEN 'opened' ELSE 'sent' END, now(), now(), '' FROM delivery_message",
            [],
        )
        cursor.execute("ANALYZE")
    return keys


def plans(client: Client, path: str) -> Iterator[tuple[str, str]]:
    """Every query of the page that reads messages or events, with its plan."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    for query in captured.captured_queries:
        sql = query["sql"]
        if sql.startswith("SELECT") and ('"delivery_message"' in sql or '"delivery_event"' in sql):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {sql.replace('%', '%%')}", [])
                yield sql, "\n".join(row[0] for row in cursor.fetchall())


EVERY_WAY = [
    {},
    {"p": "3"},
    {"q": "p4711@example.net"},
    {"q": "p4711"},
    {"q": "00000000-0000-0000-0000-000000000000"},
    *({"state": state} for state in ("waiting", "deferred", "sent", "delivered", "bounced", "failed", "unknown")),
    {"stream__exact": "campaign"},
    {"stream__exact": "transactional"},
    {"stream__exact": "transactional", "state": "sent"},
    {"stream__exact": "transactional", "sender__id__exact": "rare"},
    {"sender__id__exact": "rare"},
    {"sender__id__exact": "rare", "state": "failed"},
    {"relay__id__exact": "relay"},
    {"batch": "batch"},
    {"batch": "batch", "state": "waiting"},
    {"batch": "batch", "state": "bounced"},
    {"batch": "batch", "q": "p4711"},
]


def test_no_page_reads_all_messages_or_events(admin_client: Client, plenty: dict[str, int]) -> None:
    paths = [list_of("message", **{name: plenty.get(value, value) for name, value in asked.items()}) for asked in EVERY_WAY]
    paths += [list_of("event", **asked) for asked in ({}, {"type__exact": "opened"}, {"q": "p4711@example.net"})]
    paths += [url(Message.objects.filter(status="failed").first()), url(Batch.objects.get(pk=plenty["batch"]))]
    wrong = []
    for path in paths:
        for sql, plan in plans(admin_client, path):
            if "Seq Scan on delivery_message" in plan or "Seq Scan on delivery_event" in plan:
                wrong.append(f"{path}\n{sql}\n{plan}\n")
    assert not wrong, "\n".join(wrong)


def test_a_secret_of_a_relay_that_no_key_opens_takes_no_message_and_no_move_away(
    admin_client: Client, make: Make, relay: Relay, route: Route, sender: Sender, settings: Settings
) -> None:
    Relay.objects.update(secrets={"key": "x"})
    message = make(status="sent", relay=relay)
    message.attempts_made.create(number=1, relay=relay, outcome=Attempt.Outcome.SENT, started_at=NOW(), finished_at=NOW())
    other = Relay.objects.create(name="Other", kind="memory", secrets={"key": "x"})
    Move.objects.create(sender=sender, stream="", old_relay=relay, new_relay=other, step=10, source=route, route=route, started_at=NOW())
    settings.MAILHUB_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    for page in ("message_changelist", "move_changelist", "move_routes"):
        assert "Dry run" in admin_client.get(reverse(f"admin:delivery_{page}")).content.decode(), page
    shown = admin_client.get(reverse("admin:delivery_message_change", args=[message.pk]))
    assert "Dry run" in shown.content.decode()
