"""F1, F2, F20: workers killed with SIGKILL at every step and at any moment, and workers that were only away."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest
from django.db import transaction

from mailhub.delivery.models import Batch, Lease, Message
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from tests.delivery import world
from tests.faults.world import Hub, Kill
from tests.installation import until
from tests.smtp_server import Delay

# Where the worker dies: the server's step, and whether it has answered before.
STEPS = {
    "connecting": ("connect", None),
    "after MAIL": ("mail", None),
    "after RCPT": ("rcpt", None),
    "after 354": ("data", 0.0),
    "in the middle of the mail": ("body", None),
    "after the dot, before the reply": ("dot", None),
    "after the reply, before the commit": ("dot", 0.0),
    "after the reply, perhaps after the commit": ("dot", 0.15),
}


@pytest.fixture
def shop(hub: Hub) -> Sender:
    return hub.shop(hub.relay(hub.server()))


@pytest.mark.parametrize("stream", [Stream.CAMPAIGN, pytest.param(Stream.TRANSACTIONAL, marks=pytest.mark.long)])
@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_at_any_step(hub: Hub, shop: Sender, step: str, stream: str) -> None:
    phase, once_answered = STEPS[step]
    hub.servers[0].answers(phase, Kill(hub, once_answered), times=1, accept=phase == "dot")
    if stream == Stream.CAMPAIGN:
        world.make_batch(shop, 30)
    else:
        world.post(shop, 30)
    hub.start()
    until(lambda: not hub.workers)
    dead = Lease.objects.get()
    held = dead.messages.count()
    marked = len(world.marked())
    assert held
    hub.leases_run_out()
    hub.finish()
    tally = hub.reckon()
    assert tally.kills == 1
    # What was only claimed goes again, and arrives once; what was marked is unknown, or goes once more.
    repeated = Message.objects.filter(repeated=True).count()
    assert (tally.unknown, repeated) == ((marked, 0) if stream == Stream.CAMPAIGN else (0, marked))
    assert not Message.objects.exclude(status__in=["sent", "unknown"]).exists()


def storm(hub: Hub, recipients: int, points: int) -> None:
    """A campaign and single mails through two relays, and everybody is killed whenever the servers have got so many mails."""
    servers = [hub.server(), hub.server()]
    for server in servers:
        server.answers("dot", Delay(0.005))
    relays = [hub.relay(server) for server in servers]
    shop = hub.shop(*relays)
    batch = world.make_batch(shop, recipients)
    for point in sorted(hub.chance.sample(range(1, recipients * 9 // 10), points)):
        world.post(shop, hub.chance.randrange(5))
        for relay in relays:
            hub.start(relay=relay.pk)
        # Those of a moment ago may all have been repeated, so it need not come that far.
        until(lambda point=point: hub.copies().total() >= point or not Message.objects.filter(batch=batch, status="queued").exists())
        hub.kill_all()
    hub.finish(seconds=300)
    tally = hub.reckon()
    assert tally.accepted >= recipients
    batch.refresh_from_db()
    assert batch.status == Batch.Status.DONE


def test_workers_killed_at_random_moments(hub: Hub) -> None:
    storm(hub, recipients=200, points=4)


@pytest.mark.long
def test_workers_killed_at_many_random_moments(hub: Hub, points: int) -> None:
    storm(hub, recipients=100 * points, points=2 * points)


@pytest.mark.long
def test_everything_killed_at_random_moments_of_a_large_campaign(hub: Hub, points: int) -> None:
    """`manage.py worker` with all that it has started, as a power cut would."""
    server = hub.server()
    shop = hub.shop(hub.relay(server, connections=10))
    recipients = 500 * points
    batch = world.make_batch(shop, recipients)
    for point in sorted(hub.chance.sample(range(1, recipients * 9 // 10), points)):
        world.post(shop, hub.chance.randrange(5))
        supervised = hub.supervised()
        until(partial(lambda point: len(server.mails) >= point, point), seconds=300)
        hub.kills += 1
        hub.bury(supervised)
        hub.leases_run_out()
    hub.supervised()
    until(hub.settled, seconds=600)
    hub.reckon()
    batch.refresh_from_db()
    assert batch.status == Batch.Status.DONE


@pytest.mark.parametrize("stream", Stream)
def test_a_worker_that_was_away_does_not_send_what_others_have_taken_over(hub: Hub, shop: Sender, stream: str) -> None:
    """It stands still in the middle of its mails until its lease has run out, and then goes on as if nothing had been (F20)."""
    hub.servers[0].answers("dot", Delay(0.3), times=5)
    if stream == Stream.CAMPAIGN:
        world.make_batch(shop, 60)
    else:
        world.post(shop, 60)
    hub.hang_up_soon()
    away = hub.start()
    until(lambda: hub.servers[0].mails)
    os.kill(away, signal.SIGSTOP)
    marked = len(world.marked())
    assert marked
    hub.leases_run_out()
    hub.start()
    until(lambda: not Message.objects.filter(status__in=["queued", "claimed"]).exists())
    os.kill(away, signal.SIGCONT)
    hub.finish()
    tally = hub.reckon(cut=marked)
    assert tally.kills == 0


def test_a_machine_cut_off_in_the_middle_of_a_transaction_keeps_nobody_waiting_for_long(hub: Hub) -> None:
    """What it has locked is locked until the database hangs up on it."""
    servers = [hub.server(), hub.server()]
    for server in servers:
        server.answers("dot", Delay(0.02))
    relays = [hub.relay(server) for server in servers]
    batch = world.make_batch(hub.shop(*relays), 200)
    hub.hang_up_soon()
    away = hub.start(relay=relays[0].pk)
    until(lambda: len(servers[0].mails) > 10)
    with transaction.atomic():
        Batch.objects.select_for_update().get(pk=batch.pk)
        until(lambda: hub.rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"))
        os.kill(away, signal.SIGSTOP)
        marked = len(world.marked())
    # Now it has the batch's row, and does nothing with it.
    until(lambda: hub.rows("SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"))
    hub.start(relay=relays[1].pk)
    until(lambda: Message.objects.filter(status="sent", relay=relays[1]).count() > 50)
    hub.leases_run_out()
    os.kill(away, signal.SIGCONT)
    hub.finish()
    tally = hub.reckon(cut=marked)
    assert tally.kills == 0
