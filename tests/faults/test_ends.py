"""F25, F27: workers that are asked to stop, an upgrade while mail waits, and a backup that is restored."""

from __future__ import annotations

import subprocess
import time

import pytest

from mailhub.delivery.models import OPEN, Message
from mailhub.relays.models import Relay
from tests.delivery import world
from tests.faults.world import Hub
from tests.installation import until
from tests.smtp_server import Delay


def stopped_and_started(hub: Hub, points: int) -> None:
    server = hub.server()
    server.answers("dot", Delay(0.02))
    shop = hub.shop(hub.relay(server))
    recipients = 250 * points
    world.make_batch(shop, recipients)
    for point in sorted(hub.chance.sample(range(10, recipients * 8 // 10), points)):
        world.post(shop, 3)
        supervised = hub.supervised()
        until(lambda point=point: len(server.mails) >= point)
        supervised.command.terminate()
        assert supervised.command.wait(60) == 0
        # Handed back or finished, and no lease is left.
        assert not Message.objects.filter(lease__isnull=False).exists()
        assert not Message.objects.exclude(status__in=["queued", "sent"]).exists()
        # An upgrade, as docs/operations.md says it.
        subprocess.run(hub.manage("migrate", "-v0"), env=hub.environment, check=True)  # noqa: S603
    hub.finish()
    tally = hub.reckon()
    assert (tally.unknown, tally.doubled_transactional) == (0, 0)
    assert set(Message.objects.values_list("attempts", flat=True)) == {1}


@pytest.mark.long
def test_workers_that_are_asked_to_stop_again_and_again_leave_nothing_half_done(hub: Hub, points: int) -> None:
    stopped_and_started(hub, points=-(-points // 3))


def test_nothing_leaves_from_a_restored_backup_until_staff_say_so(hub: Hub) -> None:
    """It was made in the middle of a campaign: by its books some mails wait, or are just leaving, that have arrived since."""
    server = hub.server()
    server.answers("dot", Delay(0.02))
    shop = hub.shop(hub.relay(server))
    world.make_batch(shop, 200)
    world.post(shop, 5)
    paused = hub.relay(server)
    paused.pause()
    hub.start()
    until(lambda: len(server.mails) > 50)
    hub.kill_all()
    said = subprocess.run(hub.manage("hold"), env=hub.environment, check=True, capture_output=True, text=True).stdout  # noqa: S603
    # The server has put away by now what it had whole when they were killed.
    arrived = len(server.mails)
    assert f"{Message.objects.filter(status__in=OPEN).count()} messages wait" in said
    hub.start()
    until(lambda: not Message.objects.filter(status="claimed").exists())
    hub.time_passes()
    time.sleep(0.5)
    assert len(server.mails) == arrived
    for relay in Relay.objects.exclude(pk=paused.pk):
        relay.resume()
    hub.finish()
    hub.reckon()
    assert len(server.mails) > arrived
