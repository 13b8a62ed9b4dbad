"""A site that hands in a flood delays no other site's mail, whatever they send from."""

from __future__ import annotations

from collections import Counter

import pytest

from mailhub.delivery import queue
from mailhub.delivery.models import Message
from mailhub.relays.models import Relay, Stream
from mailhub.senders.models import Sender
from tests.delivery.world import hold, make_content, make_relay, make_route, make_sender

pytestmark = pytest.mark.django_db

FLOOD, QUIET = 1, 2


def flood(sender: Sender, ref: int, count: int) -> None:
    content = make_content(sender)
    queue.enqueue([
        queue.new(Stream.TRANSACTIONAL, content=content, sender=sender, address=f"p{number}@example.net", source_ref=ref)
        for number in range(count)
    ])  # fmt: skip


@pytest.fixture
def shared() -> Sender:
    relay = make_relay()
    make_route(relay, default_for=Stream.TRANSACTIONAL)
    return make_sender()


def claim(limit: int) -> list[Message]:
    return queue.claim(hold(Relay.objects.get(), "transactional"), limit)


def test_a_password_reset_goes_before_the_flood_of_another_site_with_the_same_sender(shared: Sender) -> None:
    flood(shared, FLOOD, 200)
    flood(shared, QUIET, 1)
    taken = Counter(message.source_ref for message in claim(10))
    assert taken == {FLOOD: 9, QUIET: 1}


def test_a_site_with_many_senders_gets_no_more_than_one_with_one(shared: Sender) -> None:
    for sender in (shared, make_sender(), make_sender()):
        flood(sender, FLOOD, 50)
    flood(shared, QUIET, 50)
    assert Counter(message.source_ref for message in claim(20)) == {FLOOD: 10, QUIET: 10}


def test_what_one_site_leaves_the_other_takes(shared: Sender) -> None:
    flood(shared, FLOOD, 30)
    flood(shared, QUIET, 2)
    assert Counter(message.source_ref for message in claim(20)) == {FLOOD: 18, QUIET: 2}


def test_mail_of_no_site_is_shared_out_by_its_senders(shared: Sender) -> None:
    other = make_sender()
    flood(shared, 0, 50)
    flood(other, 0, 50)
    flood(shared, QUIET, 50)
    taken = Counter((message.sender_id, message.source_ref) for message in claim(30))
    assert taken == {(shared.pk, 0): 10, (other.pk, 0): 10, (shared.pk, QUIET): 10}
