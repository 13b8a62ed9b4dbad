from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from mailhub import dashboard
from mailhub.delivery import events, queue, retention, throughput
from mailhub.delivery.models import Attempt, Lease, Message, Throughput
from mailhub.delivery.throughput import Counts
from mailhub.lib import clock
from mailhub.relays.base import Reply
from mailhub.relays.models import Relay, Stream
from mailhub.senders.models import Sender
from tests.delivery.world import LATER, NOBODY, expire, hold, make_batch, outcome, post, postgresql_only

Status = Message.Status
HOUR = datetime(2026, 3, 1, 10, tzinfo=UTC)
A_DAY = (HOUR - timedelta(hours=12), HOUR + timedelta(hours=12))


def sending(relay: Relay) -> tuple[Lease, list[Message]]:
    lease = hold(relay)
    messages = queue.claim(lease, 100)
    queue.mark(lease, messages)
    return lease, messages


def settle(lease: Lease, messages: list[Message], *outcomes: Status, at: datetime = HOUR, source_ip: str = "") -> None:
    replies = {Status.BOUNCED: NOBODY, Status.FAILED: NOBODY, Status.SENT: Reply(250, "", "OK", source_ip)}
    queue.settle(
        lease,
        [
            outcome(message, status, replies.get(status, LATER), finished_at=at, next_attempt_at=clock.now() + timedelta(days=1))
            for message, status in zip(messages, outcomes, strict=True)
        ],
    )


def test_every_attempt_is_counted_by_what_came_of_it(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 7)
    lease, messages = sending(relay)
    settle(lease, messages[:3], Status.SENT, Status.SENT, Status.BOUNCED, at=HOUR + timedelta(minutes=59, seconds=59))
    settle(lease, messages[3:], Status.FAILED, Status.DEFERRED, Status.UNKNOWN, Status.QUEUED)
    (row,) = Throughput.objects.all()
    assert (row.hour, row.relay_key, row.destination_key, row.source, row.stream) == (HOUR, relay.pk, "other", "", "campaign")
    (found,) = throughput.between(*A_DAY).values()
    assert (found.accepted, found.deferred, found.bounced, found.refused, found.unanswered) == (2, 1, 1, 1, 2)
    assert found.tries == Attempt.objects.count() == 7


def test_each_hour_destination_address_and_stream_has_counts_of_its_own(relay: Relay, sender: Sender) -> None:
    single, mass = post(sender, 3), make_batch(sender, 2)
    Message.objects.filter(pk=single[0].pk).update(destination="gmail")
    lease, messages = sending(relay)
    at = {message.pk: message for message in messages}
    settle(lease, [at[single[0].pk]], Status.SENT, source_ip="192.0.2.1")
    settle(lease, [at[single[1].pk]], Status.SENT)
    settle(lease, [at[single[2].pk]], Status.SENT, at=HOUR + timedelta(hours=1))
    settle(lease, [at[message.pk] for message in mass.messages.all()], Status.SENT, Status.DEFERRED)
    keys = ("hour", "destination_key", "source", "stream")
    later = HOUR + timedelta(hours=1)
    counted = {key: (each.accepted, each.deferred) for key, each in throughput.between(*A_DAY, *keys).items()}
    assert counted == {
        (HOUR, "gmail", "192.0.2.1", "transactional"): (1, 0),
        (HOUR, "other", "", "transactional"): (1, 0),
        (HOUR, "other", "", "campaign"): (1, 1),
        (later, "other", "", "transactional"): (1, 0),
    }
    by_hour = throughput.between(*A_DAY, "hour", stream=Stream.TRANSACTIONAL)
    assert {key: each.accepted for key, each in by_hour.items()} == {(HOUR,): 2, (later,): 1}
    assert throughput.between(later, later) == {(): Counts()}


def test_what_is_stored_twice_counts_once(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 2)
    lease, messages = sending(relay)
    outcomes = [outcome(message, finished_at=HOUR) for message in messages]
    queue.settle(lease, outcomes[:1])
    queue.settle(lease, outcomes)
    queue.settle(lease, outcomes)
    assert throughput.between(*A_DAY)[()].accepted == Attempt.objects.count() == 2


def test_what_comes_too_late_counts_once_too(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 1)
    lease, messages = sending(relay)
    expire(lease)
    queue.reap()
    for _time in range(2):
        with pytest.raises(queue.LeaseLost):
            queue.settle(lease, [outcome(messages[0], finished_at=HOUR, started_at=HOUR)])
    assert throughput.between(*A_DAY)[()].accepted == Attempt.objects.count() == 1


def test_the_time_until_it_was_accepted_is_known_nearly(relay: Relay, sender: Sender) -> None:
    post(sender, 8)
    lease, messages = sending(relay)
    for message, seconds in zip(messages, (-5, 0, 0.9, 1, 4, 29, 400, 100_000), strict=True):
        message.created_at = HOUR - timedelta(seconds=seconds)
    settle(lease, messages, *[Status.SENT] * 8)
    (found,) = throughput.between(*A_DAY).values()
    assert found.spread == (4, 1, 1, 0, 1, 0, 1)
    assert found.seconds == 0 + 0 + 0 + 1 + 4 + 29 + 400 + 100_000
    assert [found.within(share) for share in (0.5, 0.6, 0.7, 0.8, 0.95)] == [1, 5, 30, 3600, None]
    assert Counts().within(0.5) is None


def test_what_reports_tell_later_counts_once_in_the_hour_and_place_where_the_mail_was_accepted(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 4)
    lease, messages = sending(relay)
    settle(lease, messages, *[Status.SENT] * 4, source_ip="192.0.2.1")
    later = HOUR + timedelta(days=2)
    told = [
        events.Report(messages[0].pk, "bounced", later, "550 5.1.1 User unknown", source="a"),
        events.Report(messages[0].pk, "bounced", later, "550 5.1.1 User unknown", source="b"),
        events.Report(messages[1].pk, "bounced", later, "452 4.2.2 Mailbox full", source="c"),
        events.Report(messages[2].pk, "delivered", later, source="d"),
        events.Report(messages[2].pk, "complained", later, source="e"),
    ]
    for _time in range(2):
        for report in told:
            events.record_all([report])
    events.record_all([events.Report(messages[3].pk, "complained", later, source="f")] * 2)
    found = throughput.between(*A_DAY, "hour", "source")
    assert list(found) == [(HOUR, "192.0.2.1")]
    (counts,) = found.values()
    assert (counts.accepted, counts.returned, counts.complained) == (4, 1, 2)


def test_refusals_for_want_of_proof_are_counted_apart(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 4)
    lease, messages = sending(relay)
    codes = ("5.7.26", "4.7.23", "5.7.515", "5.7.1")
    replies = [Reply(550 if code[0] == "5" else 421, code, "No") for code in codes]
    queue.settle(lease, [outcome(*each, finished_at=HOUR) for each in zip(messages, [Status.FAILED] * 4, replies, strict=True)])
    (counts,) = throughput.between(*A_DAY).values()
    assert (counts.refused, counts.unproven) == (4, 3)


@postgresql_only
def test_a_span_of_time_is_read_by_the_index_that_settling_adds_by(relay: Relay, sender: Sender) -> None:
    Throughput.objects.bulk_create(
        Throughput(hour=HOUR - timedelta(hours=hour), relay_key=key, destination_key="other", stream=Stream.CAMPAIGN)
        for hour in range(300)
        for key in range(10)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE delivery_throughput")
        with CaptureQueriesContext(connection) as context:
            throughput.between(*A_DAY, "hour", "relay_key")
            post(sender, 1)
            settle(*sending(relay), Status.SENT)
        asked = [query["sql"] for query in context.captured_queries if "delivery_throughput" in query["sql"]]
        plans = []
        for sql in asked:
            cursor.execute(f"EXPLAIN (COSTS OFF) {sql}")
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
    assert "Seq Scan" not in plans[0] and "delivery_throughput_once" in plans[0]
    assert "Conflict Arbiter Indexes: delivery_throughput_once" in plans[1]


def test_old_counts_are_forgotten(relay: Relay, sender: Sender) -> None:
    for age in (throughput.KEPT_DAYS + 1, throughput.KEPT_DAYS - 1):
        Throughput.objects.create(hour=clock.now() - timedelta(days=age), relay_key=1, destination_key="other", stream="campaign")
    retention.prune()
    assert Throughput.objects.count() == 1


@pytest.mark.parametrize("known", [True, False])
def test_the_first_page_knows_the_outcomes_of_many_tries_where_they_were_counted(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(dashboard, "EXACT", 3)
    make_batch(sender, 4)
    lease, messages = sending(relay)
    settle(lease, messages, Status.SENT, Status.SENT, Status.DEFERRED, Status.BOUNCED, at=HOUR + timedelta(minutes=5))
    if not known:
        Throughput.objects.update(accepted=0)
    traffic = dashboard.last_day(HOUR + timedelta(hours=2, minutes=30))
    hour = traffic.hours[-3]
    assert (traffic.rough, traffic.tries, hour.starts_at) == (not known, 4, HOUR)
    assert (hour.sent, hour.deferred, hour.refused) == ((2, 1, 1) if known else (0, 0, 0))
