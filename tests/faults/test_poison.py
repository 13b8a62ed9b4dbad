"""F16: mails that cannot be made, that nobody foresaw, and that kill whoever makes them."""

from __future__ import annotations

from mailhub.delivery import queue
from mailhub.delivery.models import Message
from tests.delivery import world
from tests.faults.world import Hub
from tests.installation import until


def test_a_mail_that_kills_workers_is_quarantined_and_the_others_arrive(hub: Hub) -> None:
    server = hub.server()
    shop = hub.shop(hub.relay(server))
    world.make_batch(shop, *(f"taro{number}@example.net" for number in range(40)), "poison@example.net")
    world.post(shop, "poison@example.org", "hanako@example.net")
    deaths = 0
    while not hub.settled():
        worker = hub.start(poison="poison")
        until(lambda worker=worker: hub.settled() or not alive(worker))
        if not alive(worker):
            deaths += 1
            hub.kill(worker)
            hub.leases_run_out()
    hub.dismiss()
    hub.reckon()
    poison = Message.objects.filter(address__startswith="poison")
    assert {message.status for message in poison} == {"failed"}
    assert deaths == 2 * len(queue.TOGETHER)
    assert not Message.objects.exclude(address__startswith="poison").exclude(status__in=["sent", "unknown"]).exists()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        # Gone before it was opened, or while it was read.
        return False


def test_a_mail_that_fails_in_an_unforeseen_way_waits_and_holds_up_nobody(hub: Hub) -> None:
    server = hub.server()
    shop = hub.shop(hub.relay(server))
    world.make_batch(shop, "broken@example.net", *(f"taro{number}@example.net" for number in range(40)))
    hub.start(broken="broken")
    until(lambda: len(server.mails) == 40)
    until(lambda: Message.objects.get(address="broken@example.net").status == "deferred")
    hub.dismiss()
    # Mended by the next version.
    hub.finish()
    assert hub.reckon().unknown == 0
    assert len(server.mails) == 41


def test_a_template_that_fails_for_one_recipient_fails_for_that_one(hub: Hub) -> None:
    server = hub.server()
    shop = hub.shop(hub.relay(server))
    batch = world.make_batch(shop, 20)
    batch.content.text = "{{ 100 // points }}"
    batch.content.save()
    Message.objects.update(data={"points": 3})
    poor = Message.objects.order_by("pk")[7]
    Message.objects.filter(pk=poor.pk).update(data={"points": 0})
    hub.finish()
    hub.reckon()
    poor.refresh_from_db()
    assert poor.status == "failed"
    assert "ZeroDivisionError" in poor.reply
    assert len(server.mails) == 19
