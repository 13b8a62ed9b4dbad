"""F4, F5, F11: a database that crashes, stays away, cannot be written to, or fails just when the relay has said yes."""

from __future__ import annotations

import time

import pytest
from django.db import OperationalError

from mailhub.delivery import engine
from mailhub.delivery.models import Attempt, Content, Message
from tests.delivery import world
from tests.faults.drains import order
from tests.faults.world import Hub
from tests.installation import until
from tests.smtp_server import Delay
from transactional import sending
from transactional.models import Submission


def outage(hub: Hub, points: int, seconds: float) -> None:
    """The database crashes whenever the server has got so many mails, and comes back a while later."""
    server = hub.server()
    server.answers("dot", Delay(0.01))
    shop = hub.shop(hub.relay(server))
    recipients = 150 * points
    world.make_batch(shop, recipients)
    world.post(shop, 5)
    hub.start()
    for point in sorted(hub.chance.sample(range(1, recipients * 8 // 10), points)):
        until(lambda point=point: len(server.mails) >= point)
        marked = len(world.marked())
        seen = len(server.mails)
        hub.crash_database()
        try:
            with pytest.raises(OperationalError):
                sending.send(order(1))
            time.sleep(seconds)
            # What was marked may leave, and nothing else.
            assert len(server.mails) - seen <= marked + engine.WINDOW
        finally:
            hub.cluster.begin()
    hub.finish(seconds=120)
    hub.reckon()


def test_a_database_that_crashes_costs_nothing(hub: Hub) -> None:
    outage(hub, points=1, seconds=1.5)


@pytest.mark.long
def test_a_database_that_crashes_again_and_again_costs_nothing(hub: Hub, points: int) -> None:
    outage(hub, points=-(-points // 2), seconds=2)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [30, 90])
def test_workers_are_at_work_again_when_the_database_is(hub: Hub, seconds: int) -> None:
    """Real ones, without help."""
    server = hub.server()
    server.answers("dot", Delay(0.01))
    shop = hub.shop(hub.relay(server))
    hub.supervised()
    world.make_batch(shop, 1_000)
    until(lambda: len(server.mails) >= 300)
    hub.crash_database()
    try:
        time.sleep(seconds)
    finally:
        hub.cluster.begin()
    until(hub.settled, seconds=240)
    hub.reckon()


@pytest.mark.parametrize("table", ["delivery_message", pytest.param("delivery_attempt", marks=pytest.mark.long)])
def test_an_outcome_whose_commit_fails_is_stored_later(hub: Hub, table: str) -> None:
    server = hub.server()
    shop = hub.shop(hub.relay(server))
    world.make_batch(shop, 40)
    # Claims and the first marks go through, and then the disk is full.
    server.answers("dot", Delay(1))
    hub.start()
    until(lambda: world.marked() and not Message.objects.filter(status="queued").exists())
    with hub.database_refuses(table, at_commit=True):
        until(lambda: server.mails)
        time.sleep(1)
        assert not Attempt.objects.exists()
    server.behave()
    hub.finish()
    assert hub.reckon().unknown == 0


@pytest.mark.long
def test_an_outcome_that_cannot_be_stored_is_unknown_and_never_sent_again(hub: Hub) -> None:
    server = hub.server()
    shop = hub.shop(hub.relay(server))
    world.make_batch(shop, 40)
    hub.start()
    with hub.database_refuses("delivery_attempt", at_commit=True):
        until(lambda: server.mails)
        taken = len(server.mails)
        time.sleep(engine.STORE_FOR.total_seconds() + 5)
    hub.finish()
    assert taken <= hub.reckon(cut=40).unknown


def test_a_full_disk_accepts_nothing_by_halves(hub: Hub) -> None:
    hub.shop(hub.relay(hub.server()))
    with hub.database_refuses("delivery_message"), pytest.raises(OperationalError):
        sending.send(order(1))
    assert not (Content.objects.exists() or Submission.objects.exists())
    sending.send(order(1))
    hub.finish()
    assert hub.reckon().accepted == 1
