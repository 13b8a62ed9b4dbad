"""A drain's claims go on where the last one left off: what a batch has sent is not looked at again and again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mailhub.delivery import queue
from mailhub.delivery.models import Lease, Message
from mailhub.lib import clock
from mailhub.relays.models import Quota, Relay
from mailhub.senders.models import Sender
from tests.delivery.world import add, books, hold, make_batch, post

pytestmark = pytest.mark.django_db


def taken(relay: Relay, count: int, reached: queue.Reached, lease: Lease | None = None) -> list[int]:
    return queue.keys(queue.claim(lease or hold(relay), count, None, reached))


def test_each_claim_goes_on_and_nothing_is_passed_over(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 10)
    keys = queue.keys(batch.messages.order_by("pk"))
    lease, reached = hold(relay), queue.Reached()
    assert taken(relay, 4, reached, lease) == keys[:4]
    # It is due since before those that were claimed, and is not looked for while there are others.
    Message.objects.filter(pk=keys[8]).update(next_attempt_at=clock.now() - timedelta(hours=1))
    assert taken(relay, 4, reached, lease) == keys[4:8]
    assert taken(relay, 4, reached, lease) == [keys[9]]
    # What has come to the batch since is due later.
    (new,) = queue.keys(add(batch, 1))
    assert taken(relay, 4, reached, lease) == [new]
    # And now that nothing follows, all of it is looked through.
    assert taken(relay, 4, reached, lease) == [keys[8]]
    assert taken(relay, 4, reached, lease) == []
    assert books() == {"claimed": 11}


def test_what_another_drain_hands_back_is_found_when_nothing_follows(relay: Relay, sender: Sender) -> None:
    keys = queue.keys(make_batch(sender, 6).messages.order_by("pk"))
    other = hold(relay)
    Lease.objects.update(connections=1)
    lease, reached = hold(relay), queue.Reached()
    theirs = queue.claim(other, 2)
    assert taken(relay, 2, reached, lease) == keys[2:4]
    queue.release(other, theirs)
    assert taken(relay, 9, reached, lease) == keys[4:]
    assert taken(relay, 9, reached, lease) == keys[:2]


def test_what_a_quota_does_not_let_through_stays_next(relay: Relay, sender: Sender) -> None:
    keys = queue.keys(make_batch(sender, 6).messages.order_by("pk"))
    quota = Quota.objects.create(relay=relay, limit=2, period=Quota.Period.HOUR)
    lease, reached = hold(relay), queue.Reached()
    assert taken(relay, 4, reached, lease) == keys[:2]
    quota.delete()
    Relay.objects.update(resting_until=None)
    assert taken(relay, 4, reached, lease) == keys[2:]


def test_transactional_mail_that_was_due_before_is_never_passed_over(relay: Relay, sender: Sender) -> None:
    first, late, *_more = post(sender, 4)
    Message.objects.filter(pk=late.pk).update(status="deferred", next_attempt_at=clock.now() + timedelta(hours=1))
    lease, reached = hold(relay), queue.Reached()
    assert len(taken(relay, 2, reached, lease)) == 2
    # As one of a transaction that began before and commits now.
    Message.objects.filter(pk=late.pk).update(status="queued", next_attempt_at=first.next_attempt_at - timedelta(hours=1))
    assert taken(relay, 1, reached, lease) == [late.pk]
