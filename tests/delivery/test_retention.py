from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db.models import ProtectedError, QuerySet
from pytest_django import DjangoAssertNumQueries, Settings

from mailhub.delivery import queue, retention, tasks
from mailhub.delivery.models import Attempt, Batch, Content, Event, Message, Suppression
from mailhub.lib import clock
from mailhub.relays.models import InboxMail, Parking, Quota, QuotaUse, Relay
from mailhub.senders.models import Sender
from tests.delivery.world import NOBODY, books, hold, make_batch, make_content, outcome, post

Status = Message.Status


def days_ago(days: float) -> datetime:
    return clock.now() - timedelta(days=days)


def settled(relay: Relay, messages: list[Message], status: Message.Status = Status.SENT) -> None:
    lease = hold(relay)
    claimed = queue.claim(lease, 100)
    assert set(claimed) == set(messages)
    queue.mark(lease, claimed)
    queue.settle(lease, [outcome(message, status, NOBODY) for message in claimed])
    queue.end_lease(lease)


# ---------------------------------------------------------------------------------------------------------------------- bodies


def test_the_words_of_old_transactional_mail_are_forgotten_and_its_facts_kept(relay: Relay, sender: Sender) -> None:
    (message,) = post(sender, 1)
    settled(relay, [message])
    Content.objects.create(subject="Reset", raw=b"secret", from_email=sender.email)
    Content.objects.update(created_at=days_ago(31))
    young = make_content(sender)
    assert retention.forget_bodies(days_ago(30)) == 2
    for content in Content.objects.exclude(pk=young.pk):
        assert (content.html, content.text, content.raw) == ("", "", None)
        assert content.subject
    young.refresh_from_db()
    assert young.text
    assert message.attempts_made.exists() and message.events.exists()
    assert retention.forget_bodies(days_ago(30)) == 0


@pytest.mark.parametrize("state", ["queued", "deferred", "claimed"])
def test_a_mail_that_still_waits_keeps_its_words(relay: Relay, sender: Sender, state: str) -> None:
    done, waiting = post(sender, "a@example.net", "b@example.net")
    assert done.content == waiting.content
    lease = hold(relay)
    claimed = queue.claim(lease, 10)
    queue.mark(lease, claimed[:1])
    queue.settle(lease, [outcome(claimed[0])])
    if state != "claimed":
        queue.release(lease, claimed[1:])
        Message.objects.filter(pk=waiting.pk).update(status=state)
    Content.objects.update(created_at=days_ago(100))
    assert retention.forget_bodies(days_ago(30)) == 0


def test_what_filled_the_placeholders_is_forgotten_with_the_words(relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "GROUP", 2)
    secret = {"link": "https://shop.example/reset/4711"}
    old = [message for _mail in range(5) for message in post(sender, 2, data=secret)]
    settled(relay, old)
    # As the command for a shared one was: a finished mail has none.
    (finished,) = post(sender, 1)
    settled(relay, [finished])
    Content.objects.update(created_at=days_ago(31))
    (young,) = post(sender, 1, data=secret)
    batch = make_batch(sender, 1)
    batch.messages.update(data=secret)
    Content.objects.filter(pk=batch.content_id).update(created_at=days_ago(31))
    assert retention.forget_bodies(days_ago(30)) == 6
    assert [message.data for message in Message.objects.filter(pk__in=[message.pk for message in old])] == [{}] * 10
    assert [message.data for message in (Message.objects.get(pk=young.pk), batch.messages.get())] == [secret] * 2


def test_a_mail_that_still_waits_keeps_what_fills_its_words(relay: Relay, sender: Sender) -> None:
    data = {"link": "https://shop.example/reset/4711"}
    done, waiting = post(sender, "a@example.net", "b@example.net", data=data)
    Message.objects.filter(pk=done.pk).update(status=Status.SENT)
    Content.objects.update(created_at=days_ago(100))
    assert retention.forget_bodies(days_ago(30)) == 0
    assert [message.data for message in Message.objects.all()] == [data] * 2
    Message.objects.filter(pk=waiting.pk).update(status=Status.SENT)
    assert retention.forget_bodies(days_ago(30)) == 1
    assert [message.data for message in Message.objects.all()] == [{}] * 2


def test_words_and_what_filled_them_are_forgotten_together_or_not_at_all(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(relay, post(sender, 1, data={"code": "4711"}))
    Content.objects.update(created_at=days_ago(100))
    kept = [Content.objects.get().text, Message.objects.get().data]

    update = QuerySet.update

    for model in (Content, Message):

        def crash(rows: QuerySet[Any], **fields: object) -> int:
            if rows.model is model:  # noqa: B023  called before the next
                raise ConnectionError
            return update(rows, **fields)

        monkeypatch.setattr(QuerySet, "update", crash)
        with pytest.raises(ConnectionError):
            retention.forget_bodies(days_ago(30))
        assert [Content.objects.get().text, Message.objects.get().data] == kept


def test_a_campaigns_words_stay_for_its_page(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 1)
    plain = make_batch(sender, 1)
    Content.objects.filter(pk=plain.content_id).update(unsubscribe_base="")
    settled(relay, list(Message.objects.all()))
    Content.objects.update(created_at=days_ago(100))
    assert retention.forget_bodies(days_ago(30)) == 0
    batch.content.refresh_from_db()
    assert batch.content.text


def test_many_are_forgotten_group_by_group(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "GROUP", 3)
    for _content in range(8):
        make_content(sender)
    Content.objects.update(created_at=days_ago(100))
    assert retention.forget_bodies(days_ago(30)) == 8


# -------------------------------------------------------------------------------------------------------------------- messages


def test_old_settled_messages_are_forgotten_with_all_that_hangs_on_them(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "GROUP", 3)
    batch = make_batch(sender, 5)
    single = post(sender, 3)
    settled(relay, [*batch.messages.all(), *single], Status.BOUNCED)
    Message.objects.update(created_at=days_ago(401))
    (young,) = post(sender, 1)
    assert retention.forget_messages(days_ago(400)) == 8
    assert Message.objects.get() == young
    assert not Attempt.objects.exists() and not Event.objects.exists()
    # The campaign's totals stay, and so do the suppressions.
    batch.refresh_from_db()
    assert (batch.status, batch.bounced) == ("done", 5)
    assert Suppression.objects.filter(event__isnull=True).count() == 8


@pytest.mark.parametrize("why", ["it waits", "its batch goes on", "its batch is paused"])
def test_what_is_not_over_is_never_forgotten(relay: Relay, sender: Sender, why: str) -> None:
    if why == "it waits":
        post(sender, 1)
    else:
        batch = make_batch(sender, 1, filled=False)
        settled(relay, list(batch.messages.all()))
        if why == "its batch is paused":
            batch.pause()
    Message.objects.update(created_at=days_ago(1000))
    assert retention.forget_messages(days_ago(400)) == 0


def test_what_is_young_is_not_read(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    monkeypatch.setattr(retention, "GROUP", 3)
    post(sender, 30)
    before = days_ago(400)
    with django_assert_num_queries(1):
        assert retention.forget_messages(before) == 0


def test_contents_that_something_needs_are_not_forgotten(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 1)
    (waiting,) = post(sender, 1)
    orphan = make_content(sender)
    assert retention.forget_contents([batch.content_id, waiting.content_id, orphan.pk]) == 1
    assert set(Content.objects.values_list("pk", flat=True)) == {batch.content_id, waiting.content_id}
    assert retention.forget_contents([]) == 0


@pytest.mark.parametrize("shared", ["batch", "content", "sender"])
def test_nobody_deletes_what_messages_share(sender: Sender, shared: str) -> None:
    batch = make_batch(sender, 1)
    with pytest.raises(ProtectedError):
        {"batch": batch, "content": batch.content, "sender": sender}[shared].delete()


def test_pruning_follows_the_settings(relay: Relay, sender: Sender, settings: Settings) -> None:
    settings.MAILHUB_KEEP_BODIES_DAYS, settings.MAILHUB_KEEP_MESSAGES_DAYS = 10, 20
    messages = post(sender, 2)
    settled(relay, messages)
    for message, days in zip(messages, (21, 19), strict=True):
        Message.objects.filter(pk=message.pk).update(created_at=days_ago(days))
    Content.objects.update(created_at=days_ago(11))
    quota = Quota.objects.create(relay=relay, limit=1, period="month")
    for days in (63, 30):
        QuotaUse.objects.create(quota=quota, starts_at=days_ago(days), used=1)
        InboxMail.objects.create(relay=relay, message=1, rcpt_to="a@example.net", data=b"x")
    InboxMail.objects.filter(pk=InboxMail.objects.order_by("pk")[0].pk).update(received_at=days_ago(11))
    for key, days in (("gmail", 8), ("docomo", 6)):
        ended = {"since": days_ago(9), "until": days_ago(days)}
        Parking.objects.create(relay=relay, destination_id=key, allowance=1, reason="Busy", **ended)
    tasks.prune()
    assert Message.objects.get() == messages[1]
    assert not Content.objects.exclude(text="").exists()
    assert QuotaUse.objects.count() == InboxMail.objects.count() == 1
    assert Parking.objects.get().destination_id == "docomo"


# ----------------------------------------------------------------------------------------------------------------------- books


def test_books_that_do_not_balance_are_told(relay: Relay, sender: Sender, caplog: pytest.LogCaptureFixture) -> None:
    fine, wrong, paused, ended = (make_batch(sender, 2) for _batch in range(4))
    paused.pause()
    Batch.objects.filter(pk=ended.pk).update(status="done")
    assert tasks.audit() == []
    assert caplog.text == ""
    Batch.objects.filter(pk=wrong.pk).update(sent=1)
    Message.objects.filter(pk__in=[paused.messages.all()[0].pk, ended.messages.all()[0].pk]).update(status="canceled")
    assert sorted(tasks.audit()) == sorted([wrong.pk, paused.pk, ended.pk])
    assert f"batch {wrong.pk} counts otherwise than its rows" in caplog.text
    assert "'sent': (1, 0)" in caplog.text
    assert f"batch {fine.pk} " not in caplog.text


@pytest.mark.parametrize("status", ["done", "canceled"])
def test_a_batch_of_which_messages_are_forgotten_is_no_fault(relay: Relay, sender: Sender, status: str) -> None:
    batch = make_batch(sender, 2)
    settled(relay, list(batch.messages.all()))
    Batch.objects.update(status=status, created_at=days_ago(402))
    Message.objects.update(created_at=days_ago(401))
    retention.prune()
    assert books_of(batch) == 0
    assert tasks.audit() == []


def books_of(batch: Batch) -> int:
    return batch.messages.count()


def test_what_waits_in_a_very_old_batch_is_still_counted(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 2)
    Batch.objects.update(created_at=days_ago(1000), waiting=1)
    assert len(tasks.audit()) == 1
    Batch.objects.update(waiting=2)
    assert books() == {"queued": 2}
