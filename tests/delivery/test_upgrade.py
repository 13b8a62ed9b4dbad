"""Workers of an older version beside newer ones, while machines are upgraded one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, models

from mailhub.delivery import engine, queue, tasks
from mailhub.delivery.models import Message
from mailhub.relays.models import Relay, Route, RouteMember
from mailhub.senders.models import Sender
from tests.delivery.conftest import Asked
from tests.delivery.world import books, expire, hold, make_batch, make_relay, post


def test_a_relay_of_a_kind_that_only_newer_code_knows_is_left_to_newer_workers(
    relay: Relay, route: Route, sender: Sender, asked: Asked, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    newer = make_relay("Newer", kind="pigeon")
    RouteMember.objects.create(route=route, relay=newer)
    post(sender, 10)
    tasks.tick()
    with django_capture_on_commit_callbacks(execute=True):
        tasks.drain_transactional(newer.pk)
    # Handed on, and nothing taken.
    assert asked == [("mailhub.delivery.tasks.drain_transactional", (newer.pk, 1), "transactional")]
    assert books() == {"queued": 10}
    # What is the other relay's part goes.
    tasks.drain_transactional(relay.pk)
    assert books() == {"sent": 5, "queued": 5}
    Relay.objects.filter(pk=newer.pk).update(kind="memory")
    tasks.drain_transactional(newer.pk)
    assert books() == {"sent": 10}


@pytest.fixture
def any_state(db: None) -> Iterator[None]:
    """What a newer version's migration would allow, until the test's transaction is rolled back."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE delivery_message DROP CONSTRAINT delivery_message_status")
            yield
            return
        cursor.execute("PRAGMA ignore_check_constraints = ON")
        yield
        cursor.execute("PRAGMA ignore_check_constraints = OFF")


@pytest.mark.parametrize("stream", ["transactional", "campaign"])
@pytest.mark.usefixtures("any_state")
def test_mail_in_a_state_that_only_newer_code_knows_is_left_alone(relay: Relay, sender: Sender, stream: str) -> None:
    (message, other) = post(sender, 2) if stream == "transactional" else make_batch(sender, 2).messages.order_by("pk")
    Message.objects.filter(pk=message.pk).update(status="ripening")
    for work in ("transactional", "bulk"):
        engine.drain(relay, work)
    lease = hold(relay)
    expire(lease)
    queue.reap()
    tasks.tick()
    message.refresh_from_db()
    other.refresh_from_db()
    assert (message.status, message.attempts, other.status) == ("ripening", 0, "sent")


def test_mail_that_older_code_puts_in_goes_though_it_knows_no_newer_columns(relay: Relay, sender: Sender) -> None:
    (message,) = post(sender, 1)
    fields = [field for field in Message._meta.concrete_fields if field.db_default is models.NOT_PROVIDED and not field.primary_key]
    assert len(fields) < len(Message._meta.concrete_fields) - 1
    names = ", ".join(field.column for field in fields)
    # A row with what those columns hold that have no default in the database, but for its public id.
    values = ", ".join("%s" if field.name == "public_id" else field.column for field in fields)
    with connection.cursor() as cursor:
        public_id = message.public_id.hex[:-4] + "0000"
        sql = f"INSERT INTO delivery_message ({names}) SELECT {values} FROM delivery_message WHERE id = %s"  # noqa: S608
        cursor.execute(sql, [public_id, message.pk])
    engine.drain(relay, "transactional")
    assert books() == {"sent": 2}
