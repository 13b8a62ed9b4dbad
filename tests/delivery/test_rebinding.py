from __future__ import annotations

from collections.abc import Callable

import pytest

from mailhub.delivery import queue, rebinding
from mailhub.delivery.models import Lease, Message
from mailhub.relays.models import Relay, Route, Stream
from mailhub.senders.models import Sender
from tests.delivery.world import hold, make_batch, make_relay, make_route, make_sender, post

Asked = list[tuple[str, tuple[int, ...], str]]
Capture = Callable[..., object]


@pytest.fixture
def other(relay: Relay) -> Relay:
    return make_relay("Other")


@pytest.fixture
def target(other: Relay) -> Route:
    return make_route(other)


@pytest.fixture
def bulk(relay: Relay) -> Route:
    return Route.objects.get(default_for=Stream.CAMPAIGN)


def claimable(relay: Relay) -> set[Message]:
    return set(queue.claim(Lease.objects.filter(relay=relay).first() or hold(relay), 1000))


def test_one_batch_takes_another_route_and_the_senders_next_does_not(
    relay: Relay, bulk: Route, target: Route, other: Relay, sender: Sender, asked: Asked, django_capture_on_commit_callbacks: Capture
) -> None:
    moved, left = make_batch(sender, 5), make_batch(sender, 3)
    single = post(sender, 2)
    asked.clear()
    assert rebinding.waiting(bulk, batch=moved) == 5
    with django_capture_on_commit_callbacks(execute=True):
        assert rebinding.rebind(bulk, target, batch=moved) == 5
    assert asked == [("mailhub.delivery.tasks.drain", (other.pk,), "bulk")]
    later = make_batch(sender, 1)
    assert claimable(other) == set(moved.messages.all())
    assert claimable(relay) == {*left.messages.all(), *later.messages.all(), *single}
    assert rebinding.waiting(bulk, batch=moved) == 0


def test_all_that_waits_of_a_sender(
    relay: Relay,
    route: Route,
    bulk: Route,
    target: Route,
    other: Relay,
    sender: Sender,
    asked: Asked,
    django_capture_on_commit_callbacks: Capture,
) -> None:
    stranger = make_sender()
    batch, strange = make_batch(sender, 5), make_batch(stranger, 2)
    single, odd = post(sender, 3), post(stranger, 1)
    asked.clear()
    with django_capture_on_commit_callbacks(execute=True):
        assert rebinding.rebind(route, target, sender=sender) == 3
        assert rebinding.rebind(bulk, target, sender=sender) == 5
    assert sorted(asked) == [
        ("mailhub.delivery.tasks.drain", (other.pk,), "bulk"),
        ("mailhub.delivery.tasks.drain_transactional", (other.pk,), "transactional"),
    ]
    assert claimable(other) == {*batch.messages.all(), *single}
    assert claimable(relay) == {*strange.messages.all(), *odd}
    # There is no group of transactional mail that could be moved alone.
    sender.refresh_from_db()
    later = post(sender, 1)
    assert claimable(other) == set(later) and claimable(relay) == set()


@pytest.mark.parametrize("stream", [Stream.CAMPAIGN, Stream.TRANSACTIONAL])
def test_a_stream_whoever_sends_it(relay: Relay, target: Route, other: Relay, sender: Sender, stream: Stream) -> None:
    both = make_route(relay)
    Sender.objects.update(transactional_route=both, campaign_route=both)
    batch, single = make_batch(sender, 4), post(sender, 3)
    mine = list(batch.messages.all()) if stream == Stream.CAMPAIGN else single
    assert rebinding.waiting(both) == 7
    assert rebinding.rebind(both, target, stream=stream) == len(mine)
    assert claimable(other) == set(mine)
    assert len(claimable(relay)) == 7 - len(mine)


def test_a_paused_batch_moves_too_and_waits_there(bulk: Route, target: Route, other: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 2)
    batch.pause()
    assert rebinding.rebind(bulk, target) == 2
    assert claimable(other) == set()
    batch.resume()
    assert claimable(other) == set(batch.messages.all())


def test_what_takes_another_route_already_stays_there(relay: Relay, bulk: Route, target: Route, sender: Sender) -> None:
    elsewhere = make_route(relay)
    batch = make_batch(sender, 2, route=elsewhere)
    assert rebinding.rebind(bulk, target) == 0
    batch.refresh_from_db()
    assert batch.route == elsewhere


def test_what_has_ended_is_left_as_it_was(relay: Relay, bulk: Route, target: Route, sender: Sender) -> None:
    batch = make_batch(sender, 2)
    batch.cancel()
    assert rebinding.rebind(bulk, target) == 0
    batch.refresh_from_db()
    assert batch.route is None
