from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from mailhub.delivery import events, queue, tasks
from mailhub.delivery.models import Attempt, Batch, Event, Lease, Message, Suppression
from mailhub.delivery.queue import LeaseLost
from mailhub.lib import clock
from mailhub.relays import limits
from mailhub.relays.base import Reply
from mailhub.relays.models import Quota, QuotaUse, Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender
from tests.delivery.world import (
    LATER,
    NOBODY,
    add,
    books,
    expire,
    hold,
    make_batch,
    make_relay,
    make_route,
    make_sender,
    marked,
    outcome,
    post,
    states,
)

Status = Message.Status
Asked = list[tuple[str, tuple[int, ...], str]]
Capture = Callable[..., object]

URGENT = "mailhub.delivery.tasks.drain_transactional"
BULK = "mailhub.delivery.tasks.drain"


def claimed(relay: Relay, limit: int = 100) -> tuple[Lease, list[Message]]:
    lease = hold(relay)
    return lease, queue.claim(lease, limit)


def sending(relay: Relay, limit: int = 100) -> tuple[Lease, list[Message]]:
    lease, messages = claimed(relay, limit)
    queue.mark(lease, messages)
    return lease, messages


def reasons(message: Message) -> list[tuple[str, str]]:
    return [(event.type, event.detail) for event in message.events.order_by("pk")]


# ------------------------------------------------------------------------------------------------------------------ putting in


def test_a_batch_counts_what_is_put_into_it(sender: Sender) -> None:
    batch = make_batch(sender, 3)
    add(batch, 2)
    assert books() == {"queued": 5}
    batch.refresh_from_db()
    assert (batch.waiting, batch.total) == (5, 5)


def test_what_is_committed_wakes_one_worker_a_relay_and_queue(
    relay: Relay, sender: Sender, asked: Asked, django_capture_on_commit_callbacks: Capture
) -> None:
    other = make_relay()
    RouteMember.objects.create(route=Route.objects.get(default_for=Stream.CAMPAIGN), relay=other)
    with django_capture_on_commit_callbacks(execute=True):
        post(sender, 3)
        post(make_sender(), 2)
        make_batch(sender, 20)
    assert sorted(asked) == sorted(
        [(URGENT, (relay.pk,), "transactional"), (BULK, (relay.pk,), "bulk"), (BULK, (other.pk,), "bulk")],
    )
    with django_capture_on_commit_callbacks(execute=True):
        post(sender, 1)
    assert len(asked) == 3
    queue.woken(relay, "transactional")
    with django_capture_on_commit_callbacks(execute=True):
        post(sender, 1)
        make_batch(sender, 1)
    assert asked[3:] == [(URGENT, (relay.pk,), "transactional")]


def test_no_mail_is_put_in_for_a_sender_that_is_gone(sender: Sender) -> None:
    remembered = Sender.objects.get()
    sender.delete()
    with pytest.raises(IntegrityError), transaction.atomic():
        post(remembered, 2)
    assert not Message.objects.exists()


def test_what_is_rolled_back_wakes_nobody(sender: Sender, asked: Asked, django_capture_on_commit_callbacks: Capture) -> None:
    with django_capture_on_commit_callbacks(execute=True), pytest.raises(ZeroDivisionError), transaction.atomic():
        post(sender, 1)
        raise ZeroDivisionError
    assert books() == {}
    assert asked == []


def test_a_lost_wake_up_is_made_again_after_a_minute(
    relay: Relay, sender: Sender, asked: Asked, django_capture_on_commit_callbacks: Capture
) -> None:
    post(sender, 1)
    for age, count in ((50, 0), (70, 1)):
        Relay.objects.update(transactional_wake=clock.now() - timedelta(seconds=age))
        with django_capture_on_commit_callbacks(execute=True):
            tasks.tick()
        assert len(asked) == count


def test_mail_is_accepted_even_if_nobody_can_be_woken(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Capture
) -> None:
    def broken(*args: object) -> None:
        raise OSError("the database went away")

    monkeypatch.setattr(queue, "_ask", broken)
    with django_capture_on_commit_callbacks(execute=True):
        post(sender, 1)
    assert books() == {"queued": 1}


def test_mail_of_a_relay_that_rests_wakes_its_successor(
    relay: Relay, route: Route, sender: Sender, asked: Asked, django_capture_on_commit_callbacks: Capture
) -> None:
    successor = make_relay()
    RouteMember.objects.create(route=route, relay=successor, position=2)
    relay.rest(timedelta(minutes=1), "421")
    with django_capture_on_commit_callbacks(execute=True):
        post(sender, 1)
    assert asked == [(URGENT, (successor.pk,), "transactional")]


# -------------------------------------------------------------------------------------------------------------------- leases


@pytest.mark.parametrize(
    ("connections", "asked_for"),
    [
        (10, [("bulk", 9), ("bulk", None), ("transactional", 1), ("transactional", None)]),
        (10, [("transactional", 5), ("bulk", 4), ("transactional", 1), ("bulk", None)]),
        (2, [("bulk", 1), ("transactional", 1), ("bulk", None)]),
        (1, [("bulk", 1), ("transactional", None)]),
        (1, [("transactional", 1), ("bulk", None)]),
    ],
)
def test_bulk_mail_leaves_a_connection_to_urgent_mail(db: None, connections: int, asked_for: list[tuple[str, int | None]]) -> None:
    relay = make_relay(max_connections=connections)
    for name, granted in asked_for:
        lease = queue.take_lease(relay, name)
        assert (lease.connections if lease else None) == granted


def test_connections_of_a_dead_worker_are_free_again(relay: Relay) -> None:
    expire(hold(relay))
    assert queue.take_lease(relay, "bulk")


def test_a_lease_that_ran_out_takes_and_marks_nothing(relay: Relay, sender: Sender) -> None:
    post(sender, 2)
    lease = hold(relay)
    (message,) = queue.claim(lease, 1)
    expire(lease)
    with pytest.raises(LeaseLost):
        queue.renew(lease)
    with pytest.raises(LeaseLost):
        queue.claim(lease, 1)
    with pytest.raises(LeaseLost):
        queue.mark(lease, [message])
    assert books() == {"queued": 1, "claimed": 1}


# -------------------------------------------------------------------------------------------------------------------- claims


def test_a_claim_counts_an_attempt_and_holds_the_message(relay: Relay, sender: Sender) -> None:
    (message,) = post(sender, 1)
    lease, (found,) = claimed(relay)
    message.refresh_from_db()
    assert found == message
    for each in (found, message):
        assert (each.status, each.lease_id, each.relay_id, each.attempts) == ("claimed", lease.pk, relay.pk, 1)
    assert queue.claim(lease, 10) == []


@pytest.mark.parametrize("stream", Stream)
def test_what_is_claimed_is_what_the_database_has(relay: Relay, sender: Sender, stream: Stream) -> None:
    (message,) = add(make_batch(sender), "hana@example.net") if stream == Stream.CAMPAIGN else post(sender, "hana@example.net")
    due = clock.now().replace(microsecond=999_999) - timedelta(days=1)
    data = {"name": '花 " \\ ', "tags": [1, 2.5, None, {"a": True}]}
    Message.objects.filter(pk=message.pk).update(data=data, next_attempt_at=due, created_at=due - timedelta(microseconds=333_333))
    _lease, (found,) = claimed(relay)
    stored = Message.objects.get()
    assert found == stored and not found._state.adding
    for field in Message._meta.concrete_fields:
        assert getattr(found, field.attname) == getattr(stored, field.attname), field.name
    assert (found.data, found.next_attempt_at) == (data, due)


def test_transactional_mail_overtakes_a_waiting_campaign(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 30)
    urgent = post(sender, 3)
    _lease, found = claimed(relay, 10)
    assert found[:3] == urgent
    assert Counter(message.stream for message in found) == {"transactional": 3, "campaign": 7}


def test_who_was_woken_for_urgent_mail_leaves_campaigns_alone(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 5)
    lease = hold(relay, "transactional")
    assert queue.claim(lease, 10) == []
    urgent = post(sender, 2)
    assert queue.claim(lease, 10) == urgent


def test_one_senders_backlog_does_not_hold_up_another(relay: Relay, sender: Sender) -> None:
    post(sender, 30)
    other = make_sender()
    (urgent,) = post(other, 1)
    _lease, found = claimed(relay, 10)
    assert urgent in found
    assert len(found) == 10


def test_batches_share_a_claim(relay: Relay, sender: Sender) -> None:
    first, second = make_batch(sender, 30), make_batch(sender, 30)
    _lease, found = claimed(relay, 10)
    assert Counter(message.batch for message in found) == {first: 5, second: 5}


def test_what_one_batch_leaves_the_others_take(relay: Relay, sender: Sender) -> None:
    first, second = make_batch(sender, 30), make_batch(sender, 2)
    _lease, found = claimed(relay, 10)
    assert Counter(message.batch for message in found) == {first: 8, second: 2}


def test_no_batch_starves_where_claims_are_smaller_than_their_number(relay: Relay, sender: Sender) -> None:
    batches = [make_batch(sender, 50) for _ in range(6)]
    lease = hold(relay)
    found = [message.batch for _ in range(40) for message in queue.claim(lease, 2)]
    assert set(found) == set(batches)


def test_the_longest_due_go_first(relay: Relay, sender: Sender) -> None:
    late, later, latest = post(sender, 3)
    now = clock.now()
    for message, age in ((latest, 1), (late, 3), (later, 2)):
        Message.objects.filter(pk=message.pk).update(next_attempt_at=now - timedelta(minutes=age))
    lease = hold(relay)
    assert [queue.claim(lease, 1) for _ in range(3)] == [[late], [later], [latest]]


@pytest.mark.parametrize(
    "obstacle",
    [
        "relay paused",
        "relay resting",
        "batch paused",
        "batch canceled",
        "sender unconfirmed",
        "sender disabled",
        "not due",
        "no route",
        "another's route",
    ],
)
def test_what_must_wait_is_not_claimed_and_wakes_nobody(relay: Relay, sender: Sender, obstacle: str) -> None:
    batch = make_batch(sender, 1)
    post(sender, 1)
    lease = hold(relay)
    if obstacle == "relay paused":
        relay.pause()
    elif obstacle == "relay resting":
        relay.rest_until(clock.now() + timedelta(minutes=1), "")
    elif obstacle == "batch paused":
        batch.pause()
    elif obstacle == "batch canceled":
        batch.cancel()
    elif obstacle == "sender unconfirmed":
        Sender.objects.update(status="unconfirmed")
    elif obstacle == "sender disabled":
        sender.disable()
    elif obstacle == "not due":
        Message.objects.update(next_attempt_at=clock.now() + timedelta(minutes=1))
    elif obstacle == "no route":
        Route.objects.update(default_for=None)
    else:
        own = make_route(make_relay())
        Sender.objects.update(transactional_route=own, campaign_route=own)
    expected = ["transactional"] if obstacle.startswith("batch") else []
    assert queue.due(relay) == expected
    assert [message.stream for message in queue.claim(lease, 10)] == expected
    books()


def test_due_names_each_queue_that_has_work(relay: Relay, sender: Sender) -> None:
    assert queue.due(relay) == []
    make_batch(sender, 1)
    assert queue.due(relay) == ["bulk"]
    post(sender, 1)
    assert queue.due(relay) == ["transactional", "bulk"]


def test_what_is_suppressed_before_its_claim_never_leaves(relay: Relay, sender: Sender) -> None:
    everything, campaigns, fine = "Gone@example.net", "no-news@example.net", "fine@example.net"
    Suppression.objects.create(address="gone@example.net", reason="bounce")
    Suppression.objects.create(address=campaigns, scope="campaign")
    single = post(sender, everything, campaigns, fine)
    mass = Message.objects.filter(batch=make_batch(sender, everything, campaigns, fine)).order_by("pk")
    _lease, found = claimed(relay)
    assert sorted((message.stream, message.address) for message in found) == [
        ("campaign", fine),
        ("transactional", fine),
        ("transactional", campaigns),
    ]
    assert states(*single, *mass) == ["suppressed", "claimed", "claimed", "suppressed", "suppressed", "claimed"]
    assert reasons(single[0]) == [("rejected", "The address is on the suppression list.")]
    single[0].refresh_from_db()
    assert single[0].settled_at and single[0].attempts == 0
    books()


def test_a_claim_looks_on_past_those_that_must_not_be_mailed(relay: Relay, sender: Sender) -> None:
    Suppression.objects.create(address="gone@example.net")
    make_batch(sender, "gone@example.net", "fine@example.net")
    lease = hold(relay)
    assert [message.address for message in queue.claim(lease, 1)] == ["fine@example.net"]


def test_who_unsubscribed_while_a_worker_held_the_mail_does_not_get_it_on_the_next_try(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 1)
    lease, (message,) = sending(relay)
    events.record(message, Event.Type.UNSUBSCRIBED, at=clock.now())
    queue.settle(lease, [outcome(message, Status.DEFERRED, LATER, next_attempt_at=clock.now())])
    assert queue.claim(lease, 10) == []
    assert states(message) == ["suppressed"]
    batch.refresh_from_db()
    assert (batch.status, batch.suppressed) == ("done", 1)
    books()


def test_transactional_mail_expires_though_it_was_never_tried(relay: Relay, sender: Sender) -> None:
    (message,) = post(sender, 1)
    Message.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    _lease, found = claimed(relay)
    assert found == []
    assert states(message) == ["failed"]
    assert [kind for kind, _detail in reasons(message)] == ["failed"]


def test_a_campaigns_mail_has_its_whole_lifetime_from_its_first_try_on(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 1)
    Message.objects.update(expires_at=clock.now() - timedelta(days=5), created_at=clock.now() - timedelta(days=8))
    lease, (message,) = sending(relay)
    stored = Message.objects.get()
    assert stored.expires_at == message.expires_at
    assert timedelta(days=2, hours=23) < stored.expires_at - clock.now() <= timedelta(days=3)
    queue.settle(lease, [outcome(message, Status.DEFERRED, LATER, next_attempt_at=clock.now())])
    Message.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    assert queue.claim(lease, 1) == []
    batch.refresh_from_db()
    assert batch.failed == 1
    assert books() == {"failed": 1}


def test_no_more_is_claimed_than_the_quotas_allow(relay: Relay, sender: Sender) -> None:
    quota = Quota.objects.create(relay=relay, limit=5, period="hour")
    Suppression.objects.create(address="gone@example.net")
    make_batch(sender, "gone@example.net")
    make_batch(sender, 8)
    lease = hold(relay)
    assert sum(len(queue.claim(lease, 3)) for _time in range(4)) == 5
    assert QuotaUse.objects.get(quota=quota).used == 5
    relay.refresh_from_db()
    assert relay.resting_until and relay.resting_until > clock.now()
    assert queue.claim(lease, 10) == []
    assert queue.due(relay) == []
    assert books() == {"claimed": 5, "queued": 3, "suppressed": 1}


# -------------------------------------------------------------------------------------------------------------------- routing


def test_relays_share_a_route_by_weight_and_leave_nothing(relay: Relay, route: Route, sender: Sender) -> None:
    heavy = make_relay()
    RouteMember.objects.create(route=route, relay=heavy, weight=3)
    messages = post(sender, 80)
    _lease, light_share = claimed(relay)
    _lease, heavy_share = claimed(heavy)
    assert len(light_share) == 20
    assert len(heavy_share) == 60
    assert {*light_share, *heavy_share} == set(messages)


@pytest.mark.parametrize("why", ["paused", "resting"])
def test_the_next_position_takes_over_when_nobody_of_the_first_can(relay: Relay, route: Route, sender: Sender, why: str) -> None:
    successor = make_relay()
    RouteMember.objects.create(route=route, relay=successor, position=2)
    messages = post(sender, 4)
    assert queue.due(successor) == []
    lease = hold(successor)
    assert queue.claim(lease, 10) == []
    if why == "paused":
        relay.pause()
    else:
        relay.rest(timedelta(minutes=1), "421")
    assert queue.due(successor) == ["transactional"]
    assert queue.claim(lease, 3) == messages[:3]
    relay.resume() if why == "paused" else Relay.objects.filter(pk=relay.pk).update(resting_until=clock.now())
    assert queue.claim(lease, 10) == []
    assert claimed(relay)[1] == messages[3:]


def test_a_changed_route_holds_for_mail_that_waits_already(relay: Relay, sender: Sender) -> None:
    other = make_relay()
    own = make_route(other)
    batch = make_batch(sender, 2)
    messages = [*post(sender, 2), *batch.messages.order_by("pk")]
    lease = hold(other)
    assert queue.claim(lease, 10) == []
    Sender.objects.update(transactional_route=own)
    assert queue.claim(lease, 10) == messages[:2]
    Batch.objects.update(route=own)
    assert queue.claim(lease, 10) == messages[2:]
    assert claimed(relay)[1] == []


def test_a_changed_default_route_holds_for_mail_that_waits_already(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 2)
    messages = [*post(sender, 2), *batch.messages.order_by("pk")]
    other = make_relay()
    Route.objects.update(default_for=None)
    for stream in Stream:
        make_route(other, default_for=stream)
    assert claimed(relay)[1] == []
    assert claimed(other)[1] == messages


def test_a_relay_whose_secrets_no_key_opens_does_not_stop_the_others(
    relay: Relay, route: Route, sender: Sender, asked: Asked, django_capture_on_commit_callbacks: Capture
) -> None:
    locked = make_relay()
    RouteMember.objects.create(route=route, relay=locked)
    with transaction.atomic():
        from django.db import connection

        connection.cursor().execute("UPDATE relays_relay SET secrets = 'x' WHERE id = %s", [locked.pk])
    with django_capture_on_commit_callbacks(execute=True):
        post(sender, 4)
        tasks.tick()
    assert len(asked) == 2
    assert len(claimed(relay)[1]) == 2


# --------------------------------------------------------------------------------------------------- those that kill workers


def test_one_that_kills_workers_is_soon_alone_and_then_put_aside(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 60)
    poison = Message.objects.order_by("-pk")[0]
    deaths = 0
    sizes = []
    while True:
        lease, found = claimed(relay, 500)
        if not found:
            break
        if poison in found:
            deaths += 1
            sizes.append(len(found))
            expire(lease)
            queue.reap()
        else:
            queue.mark(lease, found)
            queue.settle(lease, [outcome(message) for message in found])
            queue.end_lease(lease)
    assert deaths == len(queue.TOGETHER)
    assert sizes[0] == 60 and sizes[1] <= 25 and set(sizes[2:]) == {1}
    assert books() == {"sent": 59, "failed": 1}
    poison.refresh_from_db()
    assert poison.reply.startswith("Quarantined")
    assert [kind for kind, _detail in reasons(poison)] == ["failed"]
    batch.refresh_from_db()
    assert batch.status == "done"


def test_who_was_only_beside_it_is_not_put_aside_in_its_place(relay: Relay, sender: Sender) -> None:
    """Killed five times, anywhere: nobody is quarantined who did not die alone."""
    make_batch(sender, 60)
    for _death in range(5):
        lease, found = claimed(relay, 500)
        assert found
        if len(found) > 1:
            expire(lease)
            queue.reap()
        else:
            queue.mark(lease, found)
            queue.settle(lease, [outcome(message) for message in found])
            queue.end_lease(lease)
    assert not Message.objects.filter(status="failed").exists()


# -------------------------------------------------------------------------------------------------------------------- marks


def test_a_report_that_comes_before_the_mark_keeps_the_mail_back(relay: Relay, sender: Sender) -> None:
    """It was handed over on an earlier try whose reply got lost: it must not go twice."""
    one, other = post(sender, 2)
    Message.objects.update(attempts=1)
    lease, found = claimed(relay)
    events.record(one, Event.Type.DELIVERED, at=clock.now())
    assert queue.mark(lease, found) == [other]
    assert states(one, other) == ["delivered", "claimed"]
    assert marked() == {other.pk}


def test_what_is_stored_is_not_marked_any_more(relay: Relay, sender: Sender) -> None:
    one, other, third = post(sender, 3)
    lease, found = claimed(relay)
    queue.mark(lease, found[:2])
    queue.settle(lease, [outcome(found[0], Status.DEFERRED, NOBODY, next_attempt_at=clock.now())])
    again = queue.claim(lease, 1)
    assert (again, marked()) == ([one], {other.pk})
    queue.mark(lease, [third])
    assert marked() == {other.pk, third.pk}
    expire(lease)
    queue.reap()
    assert states(one, other, third) == ["queued", "deferred", "deferred"]


# -------------------------------------------------------------------------------------------------------------------- settling


def test_an_outcome_is_stored_with_all_that_follows_from_it(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 5)
    lease, messages = sending(relay)
    sent, bounced, failed, deferred, unknown = messages
    again = clock.now() + timedelta(minutes=1)
    queue.settle(
        lease,
        [
            outcome(sent),
            outcome(bounced, Status.BOUNCED, NOBODY),
            outcome(failed, Status.FAILED, NOBODY),
            outcome(deferred, Status.DEFERRED, LATER, next_attempt_at=again),
            outcome(unknown, Status.UNKNOWN, LATER),
        ],
    )
    assert states(*messages) == ["sent", "bounced", "failed", "deferred", "unknown"]
    assert [reasons(message) for message in messages] == [
        [("sent", "250 2.0.0 OK")],
        [("bounced", "550 5.1.1 User unknown")],
        [("failed", "550 5.1.1 User unknown")],
        [("deferred", "451 4.7.1 Later")],
        [("unknown", "451 4.7.1 Later")],
    ]
    attempts = list(Attempt.objects.order_by("pk").values_list("message", "number", "relay", "outcome", "code", "enhanced", "reply"))
    assert attempts == [
        (sent.pk, 1, relay.pk, "sent", 250, "2.0.0", "OK"),
        (bounced.pk, 1, relay.pk, "refused", 550, "5.1.1", "User unknown"),
        (failed.pk, 1, relay.pk, "refused", 550, "5.1.1", "User unknown"),
        (deferred.pk, 1, relay.pk, "deferred", 451, "4.7.1", "Later"),
        (unknown.pk, 1, relay.pk, "unknown", 451, "4.7.1", "Later"),
    ]
    for message in messages:
        message.refresh_from_db()
        assert message.lease_id is None
        assert bool(message.settled_at) == (message != deferred)
    assert deferred.next_attempt_at == again
    suppression = Suppression.objects.get()
    assert (suppression.address, suppression.reason, suppression.scope) == (bounced.address, "bounce", "all")
    assert suppression.event == bounced.events.get()
    books()
    batch.refresh_from_db()
    assert batch.status == "running"


def test_an_outcome_that_is_stored_twice_counts_once(relay: Relay, sender: Sender) -> None:
    """The connection was lost after the commit and before its answer, so the drain stores once more."""
    make_batch(sender, 2)
    lease, messages = sending(relay)
    outcomes = [outcome(messages[0]), outcome(messages[1], Status.BOUNCED, NOBODY)]
    queue.settle(lease, outcomes)
    queue.settle(lease, outcomes)
    assert books() == {"sent": 1, "bounced": 1}
    assert Attempt.objects.count() == Event.objects.count() == 2


@pytest.mark.parametrize("status", [Status.SENT, Status.BOUNCED])
def test_a_reply_may_hold_whatever_a_server_says(relay: Relay, sender: Sender, status: Message.Status) -> None:
    (message,) = post(sender, 1)
    lease, (held,) = sending(relay)
    said = "nul \0 quote \" ' back \\ brace {NULL,} percent %s 届きました \udce9 " + "x" * 600
    queue.settle(lease, [outcome(held, status, Reply(250, "2.0.0\0", said, source_ip="2001:db8::1"))])
    attempt = Attempt.objects.get()
    assert attempt.reply == ("nul  quote \" ' back \\ brace {NULL,} percent %s 届きました ? " + "x" * 600)[:500]
    assert (attempt.enhanced, attempt.source_ip) == ("2.0.0", "2001:db8::1")
    message.refresh_from_db()
    event = message.events.get()
    assert message.reply == event.detail == f"250 2.0.0 {attempt.reply}"[:500]
    assert Suppression.objects.filter(event=event).exists() == (status == Status.BOUNCED)


def test_what_is_stored_already_does_not_keep_the_rest_of_a_group_from_it(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 3)
    lease, messages = sending(relay)
    outcomes = [outcome(message, Status.BOUNCED, NOBODY) for message in messages]
    queue.settle(lease, outcomes[1:2])
    events.record(messages[2], Event.Type.COMPLAINED, at=clock.now())
    queue.settle(lease, outcomes[::-1])
    assert books() == {"bounced": 2, "complained": 1}
    assert list(Attempt.objects.order_by("message").values_list("message", flat=True)) == [message.pk for message in messages]
    assert Event.objects.filter(type="bounced").count() == Suppression.objects.count() == 3


def test_what_was_not_handed_over_after_all_goes_back_uncounted(relay: Relay, sender: Sender) -> None:
    (message,) = post(sender, 1)
    lease, (held,) = sending(relay)
    queue.settle(lease, [outcome(held, Status.QUEUED, LATER, counted=False)])
    message.refresh_from_db()
    assert (message.status, message.attempts, message.settled_at) == ("queued", 0, None)
    attempt = Attempt.objects.get()
    assert (attempt.number, attempt.outcome) == (1, "relay_down")
    assert not message.events.exists()


@pytest.mark.parametrize(
    ("filled", "deferred", "batch_status", "ends"),
    [
        (True, False, "running", True),
        (False, False, "running", False),
        (True, True, "running", False),
        (True, False, "paused", False),
        (True, False, "canceled", False),
    ],
)
def test_a_batch_ends_with_its_last_message(
    relay: Relay, sender: Sender, filled: bool, deferred: bool, batch_status: str, ends: bool
) -> None:
    batch = make_batch(sender, 2, filled=filled)
    lease, (one, other) = sending(relay)
    Batch.objects.update(status=batch_status)
    queue.settle(lease, [outcome(one)])
    batch.refresh_from_db()
    assert batch.status == batch_status
    queue.settle(lease, [outcome(other, Status.DEFERRED if deferred else Status.SENT, next_attempt_at=clock.now())])
    batch.refresh_from_db()
    assert (batch.status == "done") is ends
    assert bool(batch.finished_at) is ends


def test_an_outcome_counts_after_the_lease_ran_out_as_long_as_nobody_reaped_it(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 1)
    lease, messages = sending(relay)
    expire(lease)
    queue.settle(lease, [outcome(messages[0])])
    assert queue.reap() == 0
    assert books() == {"sent": 1}


@pytest.mark.parametrize(
    ("told", "becomes"),
    [
        (Status.SENT, "sent"),
        (Status.BOUNCED, "bounced"),
        (Status.FAILED, "failed"),
        (Status.DEFERRED, "deferred"),
        (Status.UNKNOWN, "unknown"),
    ],
)
def test_an_unknown_message_learns_from_an_outcome_that_comes_too_late(
    relay: Relay, sender: Sender, told: Message.Status, becomes: str
) -> None:
    batch = make_batch(sender, 1)
    lease, (message,) = sending(relay)
    expire(lease)
    queue.reap()
    assert books() == {"unknown": 1}
    with pytest.raises(LeaseLost):
        queue.settle(lease, [outcome(message, told, NOBODY, next_attempt_at=clock.now())])
    assert books() == {becomes: 1}
    assert Attempt.objects.count() == 1
    assert Suppression.objects.exists() == (told == Status.BOUNCED)
    batch.refresh_from_db()
    assert batch.status == ("running" if told == Status.DEFERRED else "done")


def test_an_outcome_that_comes_too_late_for_its_relay_is_stored_without_it(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 1)
    lease, (message,) = sending(relay)
    expire(lease)
    queue.reap()
    RouteMember.objects.filter(relay=relay).delete()
    Relay.objects.get(pk=relay.pk).delete()
    with pytest.raises(LeaseLost):
        queue.settle(lease, [outcome(message, Status.SENT, NOBODY)])
    assert books() == {"sent": 1}
    assert Attempt.objects.get().relay is None


@pytest.mark.parametrize(
    ("told", "becomes"), [(Status.SENT, "sent"), (Status.BOUNCED, "bounced"), (Status.FAILED, "failed"), (Status.DEFERRED, "deferred")]
)
def test_transactional_mail_is_not_sent_again_once_its_outcome_is_known_after_all(
    relay: Relay, sender: Sender, told: Message.Status, becomes: str
) -> None:
    (message,) = post(sender, 1)
    lease, (held,) = sending(relay)
    expire(lease)
    queue.reap()
    assert books() == {"deferred": 1}
    again = clock.now() + timedelta(hours=1)
    with pytest.raises(LeaseLost):
        queue.settle(lease, [outcome(held, told, NOBODY, next_attempt_at=again)])
    assert books() == {becomes: 1}
    message.refresh_from_db()
    if told == Status.DEFERRED:
        assert (message.next_attempt_at, message.repeated) == (again, False)


def test_an_outcome_that_comes_too_late_says_nothing_about_the_next_try(relay: Relay, sender: Sender) -> None:
    (message,) = post(sender, 1)
    lease, (held,) = sending(relay)
    expire(lease)
    queue.reap()
    Message.objects.update(next_attempt_at=clock.now())
    other, again = sending(relay)
    assert again == [message]
    with pytest.raises(LeaseLost):
        queue.settle(lease, [outcome(held)])
    assert states(message) == ["claimed"]
    queue.settle(other, [outcome(again[0], Status.BOUNCED, NOBODY)])
    assert states(message) == ["bounced"]


@pytest.mark.parametrize("report", ["delivered", "bounced", "complained"])
def test_a_report_that_came_before_the_reply_was_stored_stands(relay: Relay, sender: Sender, report: str) -> None:
    make_batch(sender, 1)
    lease, (message,) = sending(relay)
    events.record(message, report, at=clock.now())
    queue.settle(lease, [outcome(message)])
    assert books() == {report: 1}
    assert Attempt.objects.get().outcome == "sent"
    queue.end_lease(lease)
    assert books() == {report: 1}


# -------------------------------------------------------------------------------------------------------------------- giving back


def test_what_is_handed_back_is_as_if_it_had_not_been_claimed(relay: Relay, sender: Sender) -> None:
    quota = Quota.objects.create(relay=relay, limit=100, period="hour")
    make_batch(sender, 2)
    (tried,) = post(sender, 1)
    Message.objects.filter(pk=tried.pk).update(attempts=4, status="deferred")
    lease, messages = claimed(relay)
    queue.mark(lease, messages[1:2])
    queue.release(lease, messages)
    assert books() == {"queued": 2, "deferred": 1}
    assert list(Message.objects.order_by("pk").values_list("attempts", flat=True)) == [0, 0, 4]
    assert not Message.objects.filter(lease__isnull=False).exists()
    assert limits.left(relay, clock.now())[0].used == 0
    assert QuotaUse.objects.filter(quota=quota).exists()


def test_what_has_been_settled_is_not_handed_back(relay: Relay, sender: Sender) -> None:
    Quota.objects.create(relay=relay, limit=100, period="hour")
    make_batch(sender, 2)
    lease, messages = sending(relay)
    queue.settle(lease, [outcome(messages[0])])
    queue.release(lease, messages)
    assert books() == {"sent": 1, "queued": 1}
    assert limits.left(relay, clock.now())[0].used == 1


def test_a_lease_that_ran_out_can_still_be_handed_back_as_long_as_nobody_reaped_it(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 2)
    lease, messages = sending(relay)
    expire(lease)
    queue.release(lease, messages)
    assert books() == {"queued": 2}
    assert set(Message.objects.values_list("attempts", "lost_leases")) == {(0, 0)}


def test_a_reaped_lease_hands_nothing_back(relay: Relay, sender: Sender) -> None:
    Quota.objects.create(relay=relay, limit=100, period="hour")
    make_batch(sender, 2)
    lease, messages = claimed(relay)
    expire(lease)
    queue.reap()
    with pytest.raises(LeaseLost):
        queue.release(lease, messages)
    assert books() == {"queued": 2}
    assert set(Message.objects.values_list("attempts", "lost_leases")) == {(1, 1)}
    assert limits.left(relay, clock.now())[0].used == 2


# -------------------------------------------------------------------------------------------------------------------- reaping


def test_a_dead_workers_mail_is_taken_back_according_to_how_far_it_was(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 2)
    single = post(sender, 2)
    mass = list(batch.messages.order_by("pk"))
    lease, messages = claimed(relay)
    queue.mark(lease, [single[0], mass[0]])
    assert queue.reap() == 0
    expire(lease)
    before = clock.now()
    assert queue.reap() == 4
    assert states(*single, *mass) == ["deferred", "queued", "unknown", "queued"]
    assert books() == {"queued": 2, "deferred": 1, "unknown": 1}
    repeat, again, unknown, waiting = Message.objects.order_by("-stream", "pk")
    assert (repeat.repeated, repeat.lost_leases) == (True, 0)
    assert repeat.next_attempt_at >= before + queue.REPEAT_AFTER
    assert (again.lost_leases, waiting.lost_leases) == (1, 1)
    assert unknown.settled_at
    for message in (repeat, unknown):
        assert reasons(message) == [("unknown", "The worker died before the relay's reply was stored.")]
    assert not Lease.objects.exists()
    assert queue.reap() == 0


def test_transactional_mail_is_repeated_once_and_then_unknown(relay: Relay, sender: Sender) -> None:
    (message,) = post(sender, 1)
    for expected in ("deferred", "unknown"):
        lease, found = sending(relay)
        assert found == [message]
        expire(lease)
        queue.reap()
        assert states(message) == [expected]
        Message.objects.update(next_attempt_at=clock.now())
    assert claimed(relay)[1] == []


def test_a_batch_ends_when_its_last_message_is_left_unknown(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 1)
    lease, _messages = sending(relay)
    expire(lease)
    queue.reap()
    batch.refresh_from_db()
    assert batch.status == "done"


def test_an_ended_lease_holds_nothing(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 2)
    lease, _messages = claimed(relay)
    queue.end_lease(lease)
    assert books() == {"queued": 2}
    assert not Lease.objects.exists()
    queue.end_lease(lease)


# ----------------------------------------------------------------------------------------------------------- staff and others


def test_only_what_waits_is_withdrawn(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 3)
    lease, _one = claimed(relay, 1)
    assert queue.cancel(Message.objects.filter(batch=batch).select_related("sender")) == 2
    assert books() == {"claimed": 1, "canceled": 2}
    assert Message.objects.filter(status="canceled", settled_at__isnull=False).count() == 2


def test_a_canceled_batch_is_withdrawn_group_by_group(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 7)
    batch.cancel()
    assert queue.withdraw(batch, group=3) == 7
    assert books() == {"canceled": 7}
    assert queue.withdraw(batch) == 0


@pytest.mark.parametrize("how", ["the task was lost", "released", "deferred", "reaped"])
def test_nothing_of_a_canceled_batch_waits_for_ever(relay: Relay, sender: Sender, how: str) -> None:
    batch = make_batch(sender, 1)
    if how == "the task was lost":
        batch.cancel()
    else:
        lease, messages = claimed(relay)
        batch.cancel()
        queue.withdraw(batch)
        if how == "released":
            queue.release(lease, messages)
        elif how == "deferred":
            queue.mark(lease, messages)
            queue.settle(lease, [outcome(messages[0], Status.DEFERRED, LATER, next_attempt_at=clock.now() + timedelta(hours=1))])
        else:
            expire(lease)
            queue.reap()
    tasks.tick()
    assert books() == {"canceled": 1}


def test_staff_send_failed_and_unknown_mail_again(
    relay: Relay, sender: Sender, asked: Asked, django_capture_on_commit_callbacks: Capture
) -> None:
    batch = make_batch(sender, 3)
    (single,) = post(sender, 1)
    lease, messages = sending(relay)
    _single, sent, failed, unknown = messages
    queue.settle(
        lease,
        [
            outcome(_single, Status.FAILED, NOBODY),
            outcome(sent),
            outcome(failed, Status.FAILED, NOBODY),
            outcome(unknown, Status.UNKNOWN, LATER),
        ],
    )
    batch.refresh_from_db()
    assert batch.status == "done"
    Message.objects.update(expires_at=clock.now() - timedelta(days=1))
    with django_capture_on_commit_callbacks(execute=True):
        assert queue.resend(Message.objects.all()) == 3
    assert sorted(asked) == sorted([(URGENT, (relay.pk,), "transactional"), (BULK, (relay.pk,), "bulk")])
    assert books() == {"queued": 3, "sent": 1}
    batch.refresh_from_db()
    assert (batch.status, batch.finished_at) == ("running", None)
    assert set(queue.claim(lease, 10)) == {single, failed, unknown}


def test_nothing_of_a_canceled_batch_is_sent_again(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 1)
    lease, (message,) = sending(relay)
    queue.settle(lease, [outcome(message, Status.UNKNOWN, LATER)])
    Batch.objects.update(status="running")
    batch.refresh_from_db()
    batch.cancel()
    assert queue.resend(Message.objects.all()) == 0
    assert books() == {"unknown": 1}


@pytest.mark.parametrize("how", ["one", "all"])
def test_a_relay_stays_while_a_drain_is_at_work_on_it_and_no_mail_is_lost(relay: Relay, sender: Sender, how: str) -> None:
    """Else the lease would go with it, and nobody would take back what it holds."""
    post(sender, 1)
    make_batch(sender, 1)
    lease, messages = claimed(relay)
    RouteMember.objects.all().delete()
    with pytest.raises(ProtectedError), transaction.atomic():
        relay.delete() if how == "one" else Relay.objects.all().delete()
    assert queue.mark(lease, messages)
    expire(lease)
    queue.reap()
    assert books() == {"deferred": 1, "unknown": 1}
    relay.delete()
    assert not Relay.objects.exists() and not Message.objects.exclude(relay=None).exists()
