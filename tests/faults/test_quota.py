"""F22, F12: fifty workers, clocks that are wrong, and a hundred mails an hour."""

from __future__ import annotations

import time

import pytest

from mailhub.delivery import batches, tasks
from mailhub.delivery.models import Message
from mailhub.relays.models import Quota
from tests.delivery import world
from tests.faults.world import Hub
from tests.installation import until
from tests.smtp_server import Delay

LIMIT = 100


@pytest.mark.parametrize("kills", [pytest.param(0, marks=pytest.mark.long), 1, pytest.param(10, marks=pytest.mark.long)])
def test_no_window_ever_sees_one_mail_too_many(hub: Hub, kills: int) -> None:
    """Fifty workers on one relay, some of whose clocks are an hour early or late, killed and started again."""
    server = hub.server()
    server.answers("dot", Delay(0.02))
    relay = hub.relay(server, connections=50)
    shop = hub.shop(relay)
    Quota.objects.create(relay=relay, limit=LIMIT, period=Quota.Period.HOUR)
    batch = world.make_batch(shop, 300)
    world.post(shop, 40)
    for point in sorted(hub.chance.sample(range(5, LIMIT * 8 // 10), kills)):
        crowd(hub)
        until(lambda point=point: len(server.mails) >= point or nothing_more(hub))
        hub.kill_all()
    crowd(hub)
    until(lambda: nothing_more(hub))
    # A while longer: the relay rests, and is woken again and again.
    for _ in range(5):
        hub.time_passes()
        time.sleep(0.2)
    # What was taken for mails that never left is lost with its worker.
    assert (LIMIT / 4 if kills else 0.95 * LIMIT) <= len(server.mails) <= LIMIT
    batches.cancel(batch)
    tasks.withdraw(batch.pk)
    world.books()
    # The hour passes.
    Quota.objects.all().delete()
    hub.finish()
    hub.reckon()


def crowd(hub: Hub) -> None:
    for number in range(50):
        hub.start(skew=(0, 3600, -3600, 300, -300)[number % 5], pause=0.5)


def nothing_more(hub: Hub) -> bool:
    return not Message.objects.filter(status="claimed").exists() and bool(Quota.objects.filter(relay__resting_until__isnull=False).exists())


def test_workers_whose_clocks_are_wrong_share_the_work_as_if_they_were_right(hub: Hub) -> None:
    """No lease runs out early, none is held twice, and what is due is due by the database's clock (F12)."""
    server = hub.server()
    server.answers("dot", Delay(0.005))
    relays = [hub.relay(server, connections=4) for _ in range(3)]
    shop = hub.shop(*relays)
    world.make_batch(shop, 300)
    world.post(shop, 20)
    for relay, skew in zip(relays, (3600, -3600, 300), strict=True):
        hub.start(relay=relay.pk, skew=skew)
    until(lambda: len(server.mails) == 320)
    until(hub.settled)
    hub.dismiss()
    tally = hub.reckon()
    assert (tally.unknown, tally.doubled_transactional) == (0, 0)
    now = time.time()
    # When it was settled is told by the database, too.
    assert all(abs(message.settled_at.timestamp() - now) < 600 for message in Message.objects.all())
