from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mailhub.delivery import events, queue
from mailhub.delivery.events import Report
from mailhub.delivery.models import Event, Message, Suppression
from mailhub.lib import clock
from mailhub.relays.base import Reply
from mailhub.relays.models import Relay
from mailhub.senders.models import Sender
from tests.delivery.world import ACCEPTED, LATER, NOBODY, books, expire, hold, make_batch, outcome, post, states

Status = Message.Status


def sent(relay: Relay, sender: Sender) -> Message:
    make_batch(sender, 1)
    lease = hold(relay)
    messages = queue.claim(lease, 1)
    queue.mark(lease, messages)
    queue.settle(lease, [outcome(messages[0])])
    queue.end_lease(lease)
    return messages[0]


@pytest.mark.parametrize(
    ("reports", "state"),
    [
        (["delivered"], "delivered"),
        (["bounced"], "bounced"),
        (["complained"], "complained"),
        # A late report undoes nothing.
        (["bounced", "delivered"], "bounced"),
        (["delivered", "bounced"], "bounced"),
        (["complained", "bounced", "delivered"], "complained"),
        (["delivered", "complained", "complained"], "complained"),
        # The relay took it and did not send it after all.
        (["rejected"], "failed"),
        (["failed", "rejected"], "failed"),
        (["delivered", "failed"], "delivered"),
        (["bounced", "rejected"], "bounced"),
        # These only count.
        (["opened", "clicked"], "sent"),
        (["bounced", "opened", "clicked"], "bounced"),
        (["unsubscribed", "autoresponded", "deferred"], "sent"),
    ],
)
def test_a_report_takes_a_message_up_the_ladder_and_never_down(relay: Relay, sender: Sender, reports: list[str], state: str) -> None:
    message = sent(relay, sender)
    for report in reports:
        events.record(message, report, at=clock.now(), detail=f"they say {report}")
    assert books() == {state: 1}
    assert [event.type for event in message.events.order_by("pk")] == ["sent", *reports]


def test_a_report_is_kept_with_its_time_and_words(relay: Relay, sender: Sender) -> None:
    message = sent(relay, sender)
    at = clock.now() - timedelta(hours=3)
    event = events.record(message, "bounced", at=at, detail="550 5.1.1 unknown" + "x" * 1000)
    assert event
    event.refresh_from_db()
    message.refresh_from_db()
    assert (event.at, event.detail) == (at, ("550 5.1.1 unknown" + "x" * 1000)[:500])
    assert (message.reply, message.settled_at) == (event.detail, at)


def test_what_cannot_be_stored_is_left_out_of_a_report(relay: Relay, sender: Sender) -> None:
    message = sent(relay, sender)
    assert events.record(message, "bounced", at=clock.now(), detail="550 no\0body \ud83d here", source="sns \ud83d\0")
    assert message.events.get(type="bounced").detail == "550 nobody ? here"


@pytest.mark.parametrize(("report", "reason"), [("bounced", "bounce"), ("complained", "complaint")])
def test_who_bounces_or_complains_gets_nothing_more(relay: Relay, sender: Sender, report: str, reason: str) -> None:
    message = sent(relay, sender)
    Message.objects.update(address="Taro@Example.net")
    for _time in range(2):
        events.record(message, report, at=clock.now(), detail="550 5.1.1 User unknown")
    suppression = Suppression.objects.get()
    assert (suppression.address, suppression.reason, suppression.scope) == ("taro@example.net", reason, "all")
    assert suppression.event == message.events.filter(type=report).order_by("pk")[0]
    post(sender, "TARO@example.net")
    make_batch(sender, "taro@example.net")
    assert queue.claim(hold(relay), 10) == []


@pytest.mark.parametrize("report", ["delivered", "opened", "clicked", "unsubscribed", "deferred", "failed", "autoresponded"])
def test_nothing_else_suppresses(relay: Relay, sender: Sender, report: str) -> None:
    events.record(sent(relay, sender), report, at=clock.now())
    assert not Suppression.objects.exists()


@pytest.mark.parametrize(
    ("fields", "kind", "category"),
    [
        ({"detail": "550 5.1.1 User unknown"}, "hard", "user_unknown"),
        ({"detail": "552 5.2.2 Mailbox full"}, "soft", "mailbox_full"),
        ({"detail": "550 5.7.1 Blocked by Spamhaus"}, "soft", "blocked"),
        ({"detail": ""}, "soft", "other"),
        # Who brings the report knows better.
        ({"detail": "gone", "kind": "hard", "category": "user_unknown"}, "hard", "user_unknown"),
        ({"detail": "550 5.1.1 User unknown", "kind": "soft"}, "soft", "user_unknown"),
    ],
)
def test_only_a_proven_fault_of_the_recipient_suppresses(
    relay: Relay, sender: Sender, fields: dict[str, str], kind: str, category: str
) -> None:
    event = events.record(sent(relay, sender), "bounced", at=clock.now(), **fields)
    assert event
    assert (event.kind, event.category) == (kind, category)
    assert books() == {"bounced": 1}
    assert Suppression.objects.count() == (kind == "hard")


def test_why_a_mail_was_not_sent_after_all_is_told_but_counts_against_nobody(relay: Relay, sender: Sender) -> None:
    event = events.record(sent(relay, sender), "rejected", at=clock.now(), detail="550 5.1.1 User unknown")
    assert event
    assert (event.kind, event.category) == ("", "user_unknown")
    assert not Suppression.objects.exists()


def test_a_report_that_comes_again_is_the_same(relay: Relay, sender: Sender) -> None:
    first, second = sent(relay, sender), sent(relay, sender)
    again = [("bounced", "sns 1"), ("opened", "sns 2"), ("complained", "sns 3")]
    for _time in range(3):
        for type, source in again:
            made = events.record(first, type, at=clock.now(), source=source)
            assert (made is None) == bool(_time)
    assert [event.type for event in first.events.order_by("pk")] == ["sent", "bounced", "opened", "complained"]
    # One notice may tell of two messages.
    assert events.record(second, "bounced", at=clock.now(), source="sns 1")
    assert books() == {"complained": 1, "bounced": 1}


def test_many_reports_are_one_matter(relay: Relay, sender: Sender, django_assert_max_num_queries: Any) -> None:
    batch = make_batch(sender, 30)
    lease = hold(relay)
    messages = queue.claim(lease, 30)
    queue.mark(lease, messages)
    queue.settle(lease, [outcome(message) for message in messages])
    reports = [
        Report(message.pk, type, clock.now(), "550 5.1.1 User unknown" if type == "bounced" else "", source=f"{type} {message.pk}")
        for number, message in enumerate(messages)
        for type in (["delivered", "bounced"] if number % 3 == 0 else ["opened", "delivered", "clicked"])
    ]
    with django_assert_max_num_queries(16):
        assert len(events.record_all([*reports, *reports, Report(10**9, "bounced", clock.now(), source="nobody's")])) == len(reports)
    assert books() == {"bounced": 10, "delivered": 20}
    batch.refresh_from_db()
    assert (batch.opened, batch.clicked) == (20, 20)
    assert Suppression.objects.count() == 10
    assert events.record_all(reports) == []


def test_only_what_a_person_does_first_is_counted(relay: Relay, sender: Sender) -> None:
    message = sent(relay, sender)
    for kind, opened in (("machine", 0), ("", 1), ("", 1), ("machine", 1)):
        events.record(message, "opened", at=clock.now(), kind=kind)
        assert message.batch
        message.batch.refresh_from_db()
        assert message.batch.opened == opened


def test_who_was_spared_campaigns_alone_gets_no_transactional_mail_either_once_the_address_is_bad(relay: Relay, sender: Sender) -> None:
    message = sent(relay, sender)
    Suppression.objects.create(address=message.address, scope="campaign", reason="unsubscribe", detail="by phone")
    event = events.record(message, "bounced", at=clock.now(), detail="550 5.1.1")
    assert event
    suppression = Suppression.objects.get()
    # That they unsubscribed is not forgotten.
    assert (suppression.scope, suppression.reason) == ("all", "unsubscribe")
    assert (suppression.detail, suppression.event) == ("550 5.1.1", event)
    post(sender, message.address)
    assert queue.claim(hold(relay), 10) == []


def test_what_staff_entered_stays_as_they_entered_it(relay: Relay, sender: Sender) -> None:
    message = sent(relay, sender)
    Suppression.objects.create(address=message.address, reason="manual", detail="asked by letter")
    events.record(message, "bounced", at=clock.now(), detail="550 5.1.1")
    suppression = Suppression.objects.get()
    assert (suppression.reason, suppression.detail, suppression.event) == ("manual", "asked by letter", None)


@pytest.mark.parametrize("report", ["delivered", "bounced", "complained"])
def test_an_unknown_outcome_is_settled_by_a_report(relay: Relay, sender: Sender, report: str) -> None:
    batch = make_batch(sender, 1)
    lease = hold(relay)
    (message,) = queue.claim(lease, 1)
    queue.mark(lease, [message])
    expire(lease)
    queue.reap()
    assert books() == {"unknown": 1}
    events.record(message, report, at=clock.now())
    assert books() == {report: 1}
    batch.refresh_from_db()
    assert batch.status == "done"
    assert queue.resend(Message.objects.all()) == 0


@pytest.mark.parametrize("report", ["delivered", "bounced", "complained"])
def test_mail_whose_first_try_arrived_after_all_is_not_repeated(relay: Relay, sender: Sender, report: str) -> None:
    (message,) = post(sender, 1)
    lease = hold(relay)
    queue.mark(lease, queue.claim(lease, 1))
    expire(lease)
    queue.reap()
    assert states(message) == ["deferred"]
    events.record(message, report, at=clock.now())
    Message.objects.update(next_attempt_at=clock.now())
    assert queue.due(relay) == []
    assert states(message) == [report]


def test_a_batch_ends_when_a_report_settles_its_last_message(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 1)
    lease = hold(relay)
    (message,) = queue.claim(lease, 1)
    queue.mark(lease, [message])
    events.record(message, "delivered", at=clock.now())
    assert books() == {"delivered": 1}
    batch.refresh_from_db()
    assert batch.status == "done"


def test_addresses_that_prove_bad_together_are_suppressed_together(relay: Relay, sender: Sender) -> None:
    make_batch(sender, "b@example.net", "a@example.net")
    make_batch(sender, "A@example.net")
    lease = hold(relay)
    messages = queue.claim(lease, 10)
    queue.mark(lease, messages)
    queue.settle(lease, [outcome(message, Status.BOUNCED, NOBODY) for message in messages])
    assert sorted(Suppression.objects.values_list("address", flat=True)) == ["a@example.net", "b@example.net"]


def test_a_refusal_that_is_not_the_recipients_fault_suppresses_nobody(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 2)
    lease = hold(relay)
    one, other = queue.claim(lease, 10)
    queue.mark(lease, [one, other])
    queue.settle(lease, [outcome(one, Status.FAILED, NOBODY), outcome(other, Status.DEFERRED, LATER, next_attempt_at=clock.now())])
    assert not Suppression.objects.exists()
    assert Event.objects.count() == 2


def test_what_a_relay_said_has_a_category(relay: Relay, sender: Sender) -> None:
    messages = post(sender, 4)
    lease = hold(relay)
    claimed = queue.claim(lease, 10)
    queue.mark(lease, claimed)
    said = [NOBODY, Reply(452, "4.2.2", "Mailbox full"), ACCEPTED, Reply(None, "", "no reply")]
    ends = [Status.BOUNCED, Status.DEFERRED, Status.SENT, Status.UNKNOWN]
    later = {"next_attempt_at": clock.now()}
    queue.settle(
        lease,
        [
            outcome(message, state, reply, **(later if state == Status.DEFERRED else {}))
            for message, state, reply in zip(claimed, ends, said, strict=True)
        ],
    )
    found = dict(Event.objects.filter(message__in=messages).values_list("type", "category"))
    assert found == {"bounced": "user_unknown", "deferred": "mailbox_full", "sent": "", "unknown": ""}


@pytest.mark.parametrize("address", ["taro@example.jp", "hanako.yamada@example.net"])
def test_replies_that_differ_in_numbers_and_addresses_are_understood_once(address: str) -> None:
    events.known.clear()
    for number in ("d2e1a72fcca58-7205fa3c9c8si1234567b3a.45", "a1b2c3d4e5f6-99"):
        assert events.category(f"550 5.1.1 <{address}>: no such user here {number} - gsmtp", address) == "user_unknown"
        assert events.category(f"550-5.7.26 Unauthenticated email from tea.example {number} - gsmtp", address) == "auth_failure"
    assert len(events.known) == 2
