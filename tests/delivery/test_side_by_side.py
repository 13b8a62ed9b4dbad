"""Two processes that drain one relay at once."""

from __future__ import annotations

import pytest
from django.conf import LazySettings
from pytest_django import DjangoCaptureOnCommitCallbacks

from mailhub.delivery import engine, queue
from mailhub.delivery.models import Lease, Worker
from mailhub.delivery.workers import FRESH
from mailhub.lib import clock
from mailhub.relays.models import Relay
from mailhub.senders.models import Sender
from tests.delivery.world import books, hold, make_batch, make_relay

BULK = "mailhub.delivery.tasks.drain"
Asked = list[tuple[str, tuple[int, ...], str]]


@pytest.fixture
def two_processes(db: None, settings: LazySettings) -> Worker:
    settings.MAILHUB_WORKERS = 2
    return Worker.objects.create(node="mx1", queue="bulk", started_at=clock.now(), beat_at=clock.now())


def test_a_drain_leaves_half_of_the_connections_to_a_process_that_is_free(two_processes: Worker) -> None:
    relay = make_relay(max_connections=8)
    # One is urgent mail's.
    assert [hold(relay).connections for _ in range(2)] == [4, 3]
    assert queue.take_lease(relay, "bulk") is None
    assert hold(relay, "transactional").connections == 1


def test_a_drain_takes_all_when_the_other_process_is_at_another_relay(two_processes: Worker) -> None:
    one, other = make_relay(max_connections=8), make_relay(max_connections=8)
    assert (hold(one).connections, hold(other).connections) == (4, 7)


def test_a_drain_takes_all_when_the_other_processes_are_not_heard_of(two_processes: Worker) -> None:
    Worker.objects.update(beat_at=clock.now() - FRESH)
    assert hold(make_relay(max_connections=8)).connections == 7


@pytest.mark.parametrize(("mails", "calls"), [(30, 1), (5, 0)])
def test_a_drain_calls_help_when_there_is_more_than_it_takes_at_once(
    relay: Relay, sender: Sender, two_processes: Worker, asked: Asked, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    mails: int, calls: int,
) -> None:  # fmt: skip
    make_batch(sender, mails)
    asked.clear()
    with django_capture_on_commit_callbacks(execute=True):
        engine.drain(relay)
    assert asked == [(BULK, (relay.pk,), "bulk")] * calls
    assert books() == {"sent": mails}


def test_nobody_is_called_when_all_are_busy(
    relay: Relay, two_processes: Worker, asked: Asked, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    lease = hold(relay)
    with django_capture_on_commit_callbacks(execute=True):
        queue.call_help(lease)
    assert len(asked) == 1
    hold(make_relay())
    assert Lease.objects.count() == 2
    with django_capture_on_commit_callbacks(execute=True):
        queue.call_help(lease)
    assert len(asked) == 1
