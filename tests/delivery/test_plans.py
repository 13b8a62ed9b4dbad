"""What PostgreSQL makes of the queries that run all day: each finds its rows by the index that was made for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from mailhub.delivery import events, queue, retention
from mailhub.delivery.models import Batch, Content, Lease, Message, Suppression
from mailhub.lib import clock
from mailhub.relays.models import Parking, Relay, Stream
from tests.delivery.world import expire, hold, make_content, make_relay, make_route, make_sender, outcome, postgresql_only

pytestmark = [postgresql_only, pytest.mark.django_db]

Status = Message.Status
# Beyond these a scan is a fault, whatever else is in the plan.
BIG = ("delivery_message", "delivery_event", "delivery_attempt", "delivery_content", "delivery_suppression")


def fill(*, messages: int, senders: int = 20, suppressions: int = 5_000) -> None:
    """As a site looks that has been at work for a while: most is sent, four batches are being sent, some single mails wait."""
    relay = make_relay()
    for stream in Stream:
        make_route(relay, default_for=stream)
    everybody = [make_sender() for _sender in range(senders)]
    sender = everybody[0]
    letter = make_content(sender, unsubscribe_base="https://hub.example/u/")
    batches = [
        Batch.objects.create(name=f"{number}", content=letter, sender=sender, filled=True, status=status)
        for number, status in enumerate(["done", "running", "running", "running", "canceled"])
    ]
    insert = """
        INSERT INTO delivery_message (public_id, stream, status, batch_id, content_id, sender_id, relay_id, address, data, next_attempt_at,
            expires_at, attempts, lost_leases, repeated, reply, created_at)
        SELECT gen_random_uuid(), %(stream)s, %(status)s, %(batch)s, %(content)s, %(sender)s, %(relay)s, %(name)s || n || '@example.net',
            '{"name": "Taro"}', now() - interval '1 hour' + n * interval '1 ms', now() + interval '3 days', 0, 0, FALSE, '', now()
        FROM generate_series(1, %(count)s) n"""
    with connection.cursor() as cursor:
        for batch, part, status in zip(batches, (0.5, 0.15, 0.1, 0.1, 0.05), ("sent", *["queued"] * 4), strict=True):
            fields: dict[str, Any] = {
                "batch": batch.pk,
                "content": letter.pk,
                "sender": sender.pk,
                "relay": relay.pk,
                "name": f"taro{batch.pk}.",
            }
            cursor.execute(insert, {**fields, "stream": "campaign", "status": status, "count": int(messages * part)})
            counter = "sent" if status == "sent" else "waiting"
            Batch.objects.filter(pk=batch.pk).update(**{counter: int(messages * part)})
        for number, each in enumerate(everybody):
            content = make_content(each)
            fields = {"batch": None, "content": content.pk, "sender": each.pk, "relay": relay.pk, "name": f"hana{number}."}
            for status, part in (("sent", 0.095), ("queued", 0.005)):
                count = int(messages * part / senders) + 1
                cursor.execute(insert, {**fields, "stream": "transactional", "status": status, "count": count})
        cursor.execute(
            """
            INSERT INTO delivery_event (message_id, type, at, recorded_at, detail)
            SELECT id, 'sent', now(), now(), '250 OK' FROM delivery_message WHERE status = 'sent'"""
        )
        cursor.execute(
            """
            INSERT INTO delivery_attempt (message_id, number, relay_id, outcome, code, enhanced, reply, started_at, finished_at)
            SELECT id, 1, relay_id, 'sent', 250, '2.0.0', 'OK', now(), now() FROM delivery_message WHERE status = 'sent'"""
        )
        cursor.execute(
            """
            INSERT INTO delivery_suppression (address, scope, reason, detail, created_at)
            SELECT 'gone' || n || '@example.net', 'all', 'bounce', '', now() FROM generate_series(1, %s) n""",
            [suppressions],
        )
        cursor.execute(
            """
            INSERT INTO delivery_content (public_id, subject, html, text, from_name, from_email, reply_to, headers, unsubscribe_base,
                created_at)
            SELECT gen_random_uuid(), 'Tea', '', CASE WHEN n %% 10 = 0 THEN 'Dear' ELSE '' END, '', 'a@tea.example', '', '{}', '',
                now() - n * interval '1 minute'
            FROM generate_series(1, %s) n""",
            [suppressions],
        )
        for table in BIG:
            cursor.execute(f"ANALYZE {table}")  # noqa: S608


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock(), transaction.atomic():
        fill(messages=40_000)
        yield
        transaction.set_rollback(True)


@pytest.fixture
def relay(site: None, db: None) -> Relay:
    return Relay.objects.get()


def plans(work: Callable[[], object]) -> str:
    """The plans of all statements that `work` makes."""
    with CaptureQueriesContext(connection) as context:
        work()
    found = []
    with connection.cursor() as cursor:
        # Of tables as small as these it would rather read all.
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in context.captured_queries:
            sql = query["sql"].strip()
            if re.match(r"(SELECT\b(?! clock_timestamp)|UPDATE\b(?! delivery_lease)|DELETE\b|WITH\b)", sql):
                cursor.execute(f"EXPLAIN (COSTS OFF) {sql}")
                found.append(f"{sql}\n" + "\n".join(line for (line,) in cursor.fetchall()))
    return "\n\n".join(found)


def assert_by(plan: str, *indexes: str) -> None:
    for table in BIG:
        assert f"Seq Scan on {table}" not in plan, plan
    used = set(re.findall(r"Scan (?:Backward )?(?:using|on) (\w+)", plan))
    for index in indexes:
        assert any(re.fullmatch(index, name) for name in used), f"{index} is not among {used}:\n{plan}"


def claimed(relay: Relay) -> tuple[Lease, list[Message]]:
    lease = hold(relay)
    return lease, queue.claim(lease, 200)


def test_a_claim(relay: Relay) -> None:
    lease = hold(relay)
    plan = plans(lambda: queue.claim(lease, 500))
    assert_by(plan, "delivery_message_lane", "delivery_message_waiting", "delivery_event_message_id_\\w+")
    # In the order that the index has: what waits is never sorted, however much it is.
    taking = [query for query in plan.split("\n\n") if "LATERAL" in query]
    assert len(taking) >= 4
    for query in taking:
        assert "Sort" not in query, query


def test_a_claim_passes_nothing_that_is_parked(relay: Relay) -> None:
    """Six in ten of what waits, at the head of each line."""
    waiting = Message.objects.filter(status="queued", stream="campaign")
    first = waiting.order_by("next_attempt_at").values("pk")
    assert waiting.filter(pk__in=first[: waiting.count() * 6 // 10]).update(destination="gmail") > 8_000
    now = clock.now()
    Parking.objects.create(relay=relay, destination_id="gmail", since=now, until=now + timedelta(hours=1), allowance=10, reason="Rest")
    lease = hold(relay)
    with CaptureQueriesContext(connection) as context:
        assert queue.due(relay) == ["transactional", "bulk"]
        assert {message.destination_id for message in queue.claim(lease, 500)} == {"other"}
    taking = [query["sql"] for query in context.captured_queries if "LATERAL" in query["sql"]]
    assert len(taking) >= 4
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for sql in taking:
            cursor.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert re.search(r"Index (Only )?Scan using delivery_message_(lane|waiting)", plan), plan
            assert "Rows Removed" not in plan, plan


def test_a_claim_of_a_part_of_the_route(relay: Relay) -> None:
    from mailhub.relays.models import Route, RouteMember

    other = make_relay()
    for route in Route.objects.all():
        RouteMember.objects.create(route=route, relay=other)
    lease = hold(relay)
    assert_by(plans(lambda: queue.claim(lease, 500)), "delivery_message_lane", "delivery_message_waiting")


def test_whether_something_is_due(relay: Relay) -> None:
    assert_by(plans(lambda: queue.due(relay)), "delivery_message_lane", "delivery_message_waiting")


def test_whether_something_is_due_where_all_there_is_seems_to_wait(relay: Relay) -> None:
    """By the statistics of a first campaign any row is one that waits, and PostgreSQL would read the whole table for each destination of which
    nothing does."""
    batch = Batch.objects.filter(status="running")[0]
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM delivery_message WHERE COALESCE(batch_id, 0) <> %s", [batch.pk])
        cursor.execute("ANALYZE delivery_message")
        # As after a TRUNCATE or a restore: how much there is is a guess.
        cursor.execute("UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname = 'delivery_message'")
    with CaptureQueriesContext(connection) as context:
        queue.due(relay)
    [sql] = [query["sql"] for query in context.captured_queries if "SELECT lane.place" in query["sql"] and "'campaign'" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (COSTS OFF) {sql}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Scan using delivery_message_waiting" in plan, plan


def test_settling(relay: Relay) -> None:
    lease, messages = claimed(relay)
    assert_by(plans(lambda: queue.settle(lease, [outcome(message) for message in messages])), "delivery_message_pkey")


def test_releasing(relay: Relay) -> None:
    lease, messages = claimed(relay)
    assert_by(plans(lambda: queue.release(lease, messages)), "delivery_message_pkey")


def test_settling_too_late(relay: Relay) -> None:
    lease, messages = claimed(relay)
    queue.mark(lease, messages)
    expire(lease)
    queue.reap()

    def settle() -> None:
        with pytest.raises(queue.LeaseLost):
            queue.settle(lease, [outcome(message) for message in messages])

    assert_by(plans(settle), "delivery_message_pkey", "delivery_attempt_message_id_\\w+")


def test_reaping(relay: Relay) -> None:
    lease, messages = claimed(relay)
    queue.mark(lease, messages[:100])
    expire(lease)
    assert_by(plans(queue.reap), "delivery_message_leased", "delivery_message_pkey")


def test_withdrawing(relay: Relay) -> None:
    batch = queue.canceled().get()
    assert_by(plans(lambda: queue.withdraw(batch, group=500)), "delivery_message_waiting")
    assert not queue.canceled().exists()


def test_suppressions_of_many_recipients(relay: Relay) -> None:
    Suppression.objects.bulk_create(
        Suppression(address=message.address)
        for message in Message.objects.filter(status="queued", stream="campaign").order_by("next_attempt_at", "pk")[:100]
    )
    lease = hold(relay)
    assert_by(plans(lambda: queue.claim(lease, 500)), "delivery_suppression_once")


def test_a_report(relay: Relay) -> None:
    message = Message.objects.filter(status="sent")[0]
    assert_by(
        plans(lambda: events.record(message, "bounced", at=clock.now(), detail="550 5.1.1")),
        "delivery_message_pkey",
        "delivery_suppression_once",
    )


def test_forgetting_words(relay: Relay) -> None:
    content = make_content(Message.objects.filter(stream="transactional")[0].sender)
    settled = Message.objects.filter(stream="transactional", status="sent").order_by("pk").values("pk")[:50]
    Message.objects.filter(pk__in=list(settled.values_list("pk", flat=True))).update(content=content)
    Content.objects.filter(pk=content.pk).update(created_at=clock.now() - timedelta(days=2))
    plan = plans(lambda: retention.forget_bodies(clock.now() - timedelta(days=1)))
    assert_by(plan, "delivery_content_bodies", "delivery_message_content", "delivery_message_pkey")
    # By its own keys, whatever else would do: by contents PostgreSQL reads all messages once there are millions.
    emptied = [query for query in plan.split("\n\n") if query.startswith('UPDATE "delivery_message"')]
    assert emptied and all("content_id" not in query for query in emptied)
    assert not Message.objects.filter(content=content).exclude(data={}).exists()


def test_forgetting_messages(relay: Relay) -> None:
    Message.objects.filter(pk__in=Message.objects.order_by("pk").values("pk")[:500]).update(created_at=clock.now() - timedelta(days=500))
    plan = plans(lambda: retention.forget_messages(clock.now() - timedelta(days=400)))
    assert_by(plan, "delivery_message_pkey", "delivery_event_message_id_\\w+")
    # The database asks this for every event that is deleted.
    asked = "SELECT 1 FROM ONLY delivery_suppression x WHERE event_id = 1 FOR KEY SHARE OF x"
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (COSTS OFF) {asked}")
        assert_by("\n".join(line for (line,) in cursor.fetchall()), "delivery_suppression_event")


def test_forgetting_contents(relay: Relay) -> None:
    keys = list(Content.objects.order_by("pk").values_list("pk", flat=True)[:500])
    assert_by(plans(lambda: retention.forget_contents(keys)), "delivery_content_pkey", "delivery_message_content")


# ------------------------------------------------------------------------------------------------------------- the admin's lists


@pytest.mark.parametrize(
    ("model", "asked", "index"),
    [
        ("message", {}, "delivery_message_pkey"),
        ("message", {"state": "bounced"}, "delivery_message_trouble"),
        ("message", {"stream__exact": "transactional"}, "delivery_message_content"),
        ("message", {"batch": "batch"}, "delivery_message_once"),
        ("message", {"batch": "batch", "state": "bounced"}, "delivery_message_batch_trouble"),
        ("message", {"q": "taro"}, "delivery_message_address"),
        ("message", {"q": "0" * 32}, "delivery_message_public_id_\\w+"),
        ("message", {"since": "2020-01-01", "until": "2099-01-01"}, "delivery_message_pkey"),
        ("message", {"since": "2020-01-01", "state": "bounced"}, "delivery_message_trouble"),
        ("message", {"subject": "Tea"}, "delivery_content_pkey"),
        ("event", {}, "delivery_event_pkey"),
        ("event", {"q": "taro"}, "delivery_event_message_id_\\w+"),
        ("suppression", {}, "delivery_suppression_pkey"),
        ("suppression", {"q": "gone1"}, "delivery_suppression_once"),
    ],
)
def test_lists_and_searches(relay: Relay, admin_client: Client, model: str, asked: dict[str, str], index: str) -> None:
    asked = {name: str(Batch.objects.all()[0].pk) if value == "batch" else value for name, value in asked.items()}
    Batch.objects.update(bounced=1)
    path = reverse(f"admin:delivery_{model}_changelist", query=asked)
    assert_by(plans(lambda: admin_client.get(path)), index)
