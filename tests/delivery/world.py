"""A small world for the tests of the corridor: relays that keep mail in memory, routes, a sender, and mail that waits."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import count

import pytest
from django.conf import settings

from mailhub.delivery import queue
from mailhub.delivery.models import COUNTER_OF, COUNTERS, Attempt, Batch, Content, Lease, Message
from mailhub.delivery.queue import Outcome
from mailhub.lib import clock
from mailhub.lib.tasks import Queue
from mailhub.relays.base import Reply
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender

Status = Message.Status
numbers = count(1)

postgresql_only = pytest.mark.skipif("postgresql" not in settings.DATABASES["default"]["ENGINE"], reason="SQLite has one writer at a time")

ACCEPTED = Reply(250, "2.0.0", "OK")
LATER = Reply(451, "4.7.1", "Later")
NOBODY = Reply(550, "5.1.1", "User unknown")


def make_relay(name: str = "", **fields: object) -> Relay:
    return Relay.objects.create(**{"name": name or f"Relay {next(numbers)}", "kind": "memory", **fields})


def make_route(*relays: Relay, default_for: str | None = None) -> Route:
    """A route whose relays share the mail."""
    route = Route.objects.create(name=f"Route {next(numbers)}", default_for=default_for)
    for relay in relays:
        RouteMember.objects.create(route=route, relay=relay)
    return route


def make_sender(email: str = "", **fields: object) -> Sender:
    sender = Sender.objects.create(email=email or f"sender{next(numbers)}@tea.example", **fields)
    sender.confirm()
    return sender


def make_content(sender: Sender, **fields: object) -> Content:
    return Content.objects.create(
        **{"subject": "Tea", "text": "Dear {{ name }}, it is ready.", "from_email": sender.email, "unsubscribe_base": "", **fields}
    )


def post(sender: Sender, *addresses: str | int, **fields: object) -> list[Message]:
    """Transactional mail to these addresses, or to so many."""
    content = make_content(sender)
    messages = [
        queue.new(Stream.TRANSACTIONAL, content=content, sender=sender, address=address, **fields) for address in _spelt_out(addresses)
    ]
    queue.enqueue(messages)
    return messages


def make_batch(sender: Sender, *addresses: str | int, **fields: object) -> Batch:
    """A campaign's batch with all its recipients in: these addresses, or so many."""
    content = make_content(sender, unsubscribe_base="https://hub.example/u/")
    batch = Batch.objects.create(**{"name": f"Batch {next(numbers)}", "content": content, "sender": sender, "filled": True, **fields})
    add(batch, *addresses)
    return batch


def add(batch: Batch, *addresses: str | int) -> list[Message]:
    messages = [
        queue.new(Stream.CAMPAIGN, batch=batch, content=batch.content, sender=batch.sender, address=address, recipient_ref=next(numbers))
        for address in _spelt_out(addresses)
    ]
    queue.enqueue(messages)
    return messages


def _spelt_out(addresses: tuple[str | int, ...]) -> list[str]:
    if len(addresses) == 1 and isinstance(addresses[0], int):
        return [f"taro{next(numbers)}@example.net" for _ in range(addresses[0])]
    return [str(address) for address in addresses]


def hold(relay: Relay, queue_name: Queue = "bulk") -> Lease:
    lease = queue.take_lease(relay, queue_name)
    assert lease
    return lease


def outcome(message: Message, status: Message.Status = Status.SENT, reply: Reply = ACCEPTED, **fields: object) -> Outcome:
    """What became of a claimed message."""
    attempt = {
        Status.SENT: Attempt.Outcome.SENT,
        Status.BOUNCED: Attempt.Outcome.REFUSED,
        Status.FAILED: Attempt.Outcome.REFUSED,
        Status.DEFERRED: Attempt.Outcome.DEFERRED,
        Status.QUEUED: Attempt.Outcome.RELAY_DOWN,
        Status.UNKNOWN: Attempt.Outcome.UNKNOWN,
    }[status]
    now = clock.now()
    fields = {"attempt": attempt, "reply": reply, "started_at": now, "finished_at": now, "status": status, **fields}
    return Outcome(message, **fields)


def expire(lease: Lease) -> None:
    """Its worker has not been heard of for long enough."""
    Lease.objects.filter(pk=lease.pk).update(expires_at=clock.now() - timedelta(seconds=1))


def marked() -> set[int]:
    """Keys of the messages that would be taken for handed over, were all workers killed now."""
    return {pk for lease in Lease.objects.all() for pk in lease.messages.values_list("pk", flat=True) if pk in lease.marked}


def states(*messages: Message) -> list[str]:
    found = dict(Message.objects.filter(pk__in=[message.pk for message in messages]).values_list("pk", "status"))
    return [found[message.pk] for message in messages]


def books() -> Counter[str]:
    """Messages by state; asserts that every batch counts as its rows do."""
    for batch in Batch.objects.all():
        rows = Counter(COUNTER_OF[Status(status)] for status in batch.messages.values_list("status", flat=True))
        assert {name: getattr(batch, name) for name in COUNTERS} == {name: rows[name] for name in COUNTERS}, f"batch {batch.pk}"
    return Counter(Message.objects.values_list("status", flat=True))
