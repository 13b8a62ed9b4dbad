"""A relay that has rested is at work again at once: a quota by the minute has no seconds to spare."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mailhub.delivery import workers
from mailhub.lib import clock
from mailhub.relays.models import Relay
from mailhub.senders.models import Sender
from mailhub.supervisor import ROUND, Ticks
from tests.delivery.conftest import Asked
from tests.delivery.world import make_relay, post

Go = Callable[[Ticks], None]

pytestmark = pytest.mark.django_db


@pytest.fixture
def go(django_capture_on_commit_callbacks: Callable[..., Any]) -> Go:
    """A round, and what it asks for when it has committed."""

    def go(ticks: Ticks) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            ticks.round()

    return go


def rest(relay: Relay, seconds: float) -> None:
    Relay.objects.filter(pk=relay.pk).update(resting_until=clock.now() + timedelta(seconds=seconds))


def test_between_two_ticks_relays_are_woken_that_have_just_rested(relay: Relay, sender: Sender, asked: Asked, go: Go) -> None:
    post(sender, 1)
    Relay.objects.update(transactional_wake=None)
    rest(relay, 2)
    ticks = Ticks()
    go(ticks)
    assert asked == []
    assert 0 < ticks.every <= 2
    rest(relay, -0.01)
    go(ticks)
    assert asked == [("mailhub.delivery.tasks.drain_transactional", (relay.pk,), "transactional")]
    assert ticks.every <= ROUND


def test_others_are_left_to_the_next_tick(relay: Relay, sender: Sender, asked: Asked, go: Go) -> None:
    ticks = Ticks()
    go(ticks)
    post(sender, 1)
    Relay.objects.update(transactional_wake=None)
    go(ticks)
    assert asked == []
    ticks.next = 0
    go(ticks)
    assert [task for task, *_more in asked] == ["mailhub.delivery.tasks.drain_transactional"]


def test_the_next_to_have_rested_is_waited_for_and_no_longer_than_a_tick(relay: Relay) -> None:
    assert workers.rested_in(5) == 5
    rest(relay, 60)
    assert workers.rested_in(5) == 5
    rest(make_relay(), 3)
    assert 0 < workers.rested_in(5) <= 3
    rest(make_relay(), -1)
    Relay.objects.filter(resting_until__gt=clock.now() + timedelta(seconds=2)).update(status="paused")
    assert workers.rested_in(5) == 5
