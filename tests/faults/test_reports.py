"""F13, F14: reports that come ten times, at once, too early, too late, or in the wrong order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from django.db import connections

from mailhub.delivery import events
from mailhub.delivery.models import Event, Message, Suppression
from mailhub.lib import clock
from tests.delivery import world
from tests.faults.world import Hub
from tests.installation import until
from tests.smtp_server import Delay

Type = Event.Type


def test_ten_equal_reports_at_once_have_the_effect_of_one(hub: Hub) -> None:
    shop = hub.shop(hub.relay(hub.server()))
    batch = world.make_batch(shop, 6)
    hub.finish()
    messages = list(Message.objects.order_by("pk"))

    def report(job: tuple[Message, str]) -> None:
        message, kind = job
        connections["default"] = hub.connect()
        try:
            events.record(message, kind, at=clock.now(), detail="550 5.1.1 User unknown")
        finally:
            connections["default"].close()

    kinds = [Type.DELIVERED, Type.BOUNCED, Type.COMPLAINED]
    jobs = [(message, kinds[place % 3]) for place, message in enumerate(messages) for _ in range(10)]
    hub.chance.shuffle(jobs)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(report, jobs))
    hub.reckon()
    assert [message.status for message in Message.objects.order_by("pk")] == ["delivered", "bounced", "complained"] * 2
    batch.refresh_from_db()
    assert (batch.delivered, batch.bounced, batch.complained, batch.sent) == (2, 2, 2, 0)
    assert Suppression.objects.count() == 4


def test_the_order_in_which_reports_come_does_not_matter(hub: Hub) -> None:
    shop = hub.shop(hub.relay(hub.server()))
    world.make_batch(shop, 24)
    hub.finish()
    kinds = [Type.DELIVERED, Type.BOUNCED, Type.COMPLAINED, Type.OPENED, Type.CLICKED]
    for message in Message.objects.all():
        some = hub.chance.sample(kinds, 4)
        for kind in some:
            events.record(message, kind, at=clock.now())
        message.refresh_from_db()
        highest = next(kind for kind in (Type.COMPLAINED, Type.BOUNCED, Type.DELIVERED) if kind in some)
        assert message.status == highest, some
    hub.reckon()


def test_a_report_that_comes_before_our_own_books_are_written_stands(hub: Hub) -> None:
    """The relay says yes, and its report is here before we have stored that (F14)."""
    server = hub.server()
    server.answers("dot", Delay(0.5), accept=True)
    shop = hub.shop(hub.relay(server))
    world.make_batch(shop, 12)
    hub.start()
    until(lambda: len(server.mails) >= 3)
    taken = {mail.rcpt_to[0] for mail in server.mails}
    early = list(Message.objects.filter(address__in=taken, status="claimed")[:3])
    assert early
    reports = dict(zip(early, [Type.BOUNCED, Type.DELIVERED, Type.COMPLAINED], strict=False))
    for message, kind in reports.items():
        events.record(message, kind, at=clock.now())
    hub.finish()
    hub.reckon()
    for message, kind in reports.items():
        message.refresh_from_db()
        assert message.status == kind
        assert message.attempts_made.count() == 1
